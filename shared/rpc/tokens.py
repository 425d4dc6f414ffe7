"""Signed development tokens: ES256 JSON Web Tokens for each kind of caller.

`carbonaccount token` makes them with the private key under `var/keys`; servers hold the
public key only. Mutual TLS and the bank's own tickets take their place later.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from joserfc import errors, jwt
from joserfc.jwk import ECKey

from shared.refusal import TokenInvalid
from shared.rpc.caller import KINDS, Caller

AUDIENCE = "carbonaccount"
_CACHED_MAX = 10_000
_CLAIMS = jwt.JWTClaimsRegistry(
    aud={"essential": True, "value": AUDIENCE}, exp={"essential": True}, sub={"essential": True}
)


def load_or_make_key(directory: Path) -> ECKey:
    """The signing key of this checkout, made on first use; the file is private to its owner."""
    path = directory / "token-signing.pem"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        key = ECKey.generate_key("P-256")
        draft = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.as_pem(private=True))
        (directory / "token-verifying.pem").write_bytes(key.as_pem(private=False))
        os.replace(draft, path)
    return ECKey.import_key(path.read_bytes())


def make_token(
    key: ECKey,
    kind: str,
    name: str,
    *,
    customer_ref: str = "",
    account: str = "",
    lifetime_s: int = 3600,
) -> str:
    """A token for a caller of `kind` called `name`, valid for `lifetime_s` from now."""
    if kind not in KINDS or kind == "public":
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS[1:])}")
    now = int(time.time())
    claims: dict[str, Any] = {
        "aud": AUDIENCE,
        "sub": name,
        "kind": kind,
        "iat": now,
        "exp": now + lifetime_s,
    }
    if customer_ref:
        claims["customer_ref"] = customer_ref
    if account:
        claims["account"] = account
    return jwt.encode({"alg": "ES256"}, claims, key)


class TokenVerifier:
    """Checks tokens; a checked one is remembered until it expires."""

    def __init__(self, public_key: Path) -> None:
        self._key = ECKey.import_key(public_key.read_bytes())
        self._checked: OrderedDict[str, tuple[Caller, int]] = OrderedDict()

    def verify(self, authorization: str) -> Caller:
        """The caller of an `authorization` value; TokenInvalid says what is wrong with it."""
        known = self._checked.get(authorization)
        if known is not None and time.time() < known[1]:
            return known[0]
        who, expires = self._verify(authorization)
        self._checked[authorization] = (who, expires)
        if len(self._checked) > _CACHED_MAX:
            self._checked.popitem(last=False)
        return who

    def _verify(self, authorization: str) -> tuple[Caller, int]:
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise _invalid("the authorization metadata is not 'Bearer' and a token")
        try:
            claims = jwt.decode(text, self._key, algorithms=["ES256"]).claims
            _CLAIMS.validate(claims)
        except errors.ExpiredTokenError as error:
            raise _invalid("the token has expired") from error
        except (errors.JoseError, ValueError, TypeError, KeyError) as error:
            raise _invalid("the token is not signed by a known key for this audience") from error
        kind, name = claims.get("kind"), claims["sub"]
        if kind not in KINDS[1:] or not isinstance(name, str):
            raise _invalid(f"the token names no kind of caller: {str(kind)[:32]!r}")
        who = Caller(
            kind, name, str(claims.get("customer_ref", "")), str(claims.get("account", ""))
        )
        return who, int(claims["exp"])


def _invalid(cause: str) -> TokenInvalid:
    return TokenInvalid(f"{cause}; get a new token and call again", metadata={"cause": cause})
