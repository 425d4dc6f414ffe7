"""Signed development tokens: ES256 JSON Web Tokens for each kind of caller.

`carbonaccount token` makes them with the private key under `var/keys`; servers hold the
public key only. Mutual TLS and the bank's own tickets take their place later.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from joserfc import errors, jwt
from joserfc.jwk import ECKey

from shared.refusal import TokenInvalid
from shared.rpc.caller import KINDS, Caller

AUDIENCE = "carbonaccount"
ISSUER = "carbonaccount-development"
SIGNING_FILE, VERIFYING_FILE = "token-signing.pem", "token-verifying.pem"
_CACHED_MAX = 10_000
_CLAIMS = jwt.JWTClaimsRegistry(
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
    exp={"essential": True},
    iat={"essential": True},
    sub={"essential": True},
)


def load_or_make_key(directory: Path) -> ECKey:
    """The signing key of this checkout, made on first use; the file is private to its owner.

    Several processes may do this at once: the first one's key is everybody's.
    """
    path = directory / SIGNING_FILE
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        pem = ECKey.generate_key("P-256").as_pem(private=True)
        draft = _write(path.with_suffix(f".{os.getpid()}"), pem, 0o600)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    key = ECKey.import_key(path.read_bytes())
    public, verifying = key.as_pem(private=False), directory / VERIFYING_FILE
    if not verifying.exists() or verifying.read_bytes() != public:
        _write(verifying.with_suffix(f".{os.getpid()}"), public, 0o644).replace(verifying)
    return key


def _write(path: Path, data: bytes, mode: int) -> Path:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask says
        file.write(data)
    return path


def make_token(
    key: ECKey,
    kind: str,
    name: str,
    *,
    customer_ref: str = "",
    account: str = "",
    lifetime_s: int = 3600,
) -> str:
    """A token for a caller of `kind` called `name`, valid for `lifetime_s` from now.

    ValueError when the kind is unknown or the name is not of that kind, such as sources/x.
    """
    if kind not in KINDS or kind == "public":
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS[1:])}")
    if not _names(kind, name):
        raise ValueError(f"name is {name!r}; a {kind} is called {kind}s/ and its own name")
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": ISSUER,
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


def _names(kind: str, name: str) -> bool:
    """Whether a caller of this kind may have this name; customers are named by the bank."""
    return bool(name) if kind == "customer" else name.startswith(f"{kind}s/") and name[-1] != "/"


class TokenVerifier:
    """Checks tokens; the last 10,000 that were right are remembered until they expire.

    Checking a signature takes about 100 µs, looking one up takes one.
    """

    def __init__(self, public_key: Path) -> None:
        self._key = ECKey.import_key(public_key.read_bytes())
        self._checked: OrderedDict[str, tuple[Caller, int]] = OrderedDict()

    def verify(self, authorization: str) -> Caller:
        """The caller of an `authorization` value; TokenInvalid says what is wrong with it."""
        known = self._checked.get(authorization)
        if known is not None and time.time() < known[1]:
            self._checked.move_to_end(authorization)
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
            # The one algorithm is named, so that no token chooses its own.
            claims = jwt.decode(text, self._key, algorithms=["ES256"]).claims
            _CLAIMS.validate(claims)
        except errors.ExpiredTokenError as error:
            raise _invalid("the token has expired") from error
        except errors.ClaimError as error:
            raise _invalid(f"the token's {error.claim} is not one for this service") from error
        except (errors.JoseError, ValueError, TypeError, KeyError) as error:
            raise _invalid("the token is not signed by a known key") from error
        return _caller_of(claims), int(claims["exp"])


def _caller_of(claims: Mapping[str, Any]) -> Caller:
    kind, name = claims.get("kind"), claims["sub"]
    if kind not in KINDS[1:]:
        raise _invalid(f"the token names no kind of caller: {str(kind)[:32]!r}")
    if not isinstance(name, str) or not _names(kind, name):
        raise _invalid(f"the token's name is not one of a {kind}: {str(name)[:32]!r}")
    return Caller(kind, name, str(claims.get("customer_ref", "")), str(claims.get("account", "")))


def _invalid(cause: str) -> TokenInvalid:
    return TokenInvalid(f"{cause}; get a new token and call again", metadata={"cause": cause})
