"""Signed tokens: ES256 JSON Web Tokens for each kind of caller.

Sessions of customers give them out, and `carbonaccount token` makes them for development with
the private key under `var/keys`; servers need the published halves only (see `keyring`).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from joserfc import errors, jwt
from joserfc.jwk import ECKey

from shared.refusal import TokenInvalid
from shared.rpc.caller import KINDS, Caller
from shared.rpc.jwks import ALGORITHM, PublicKeys
from shared.rpc.keyring import TOKENS, load_or_make, published_file, signing_file

AUDIENCE = "carbonaccount"
ISSUER = "carbonaccount"
SIGNING_FILE = signing_file(Path(), TOKENS).name
VERIFYING_FILE = published_file(Path(), TOKENS).name
_CACHED_MAX = 10_000
_CLAIMS = jwt.JWTClaimsRegistry(
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
    exp={"essential": True},
    iat={"essential": True},
    sub={"essential": True},
)
Kind = TypeVar("Kind")


def load_or_make_key(directory: Path) -> ECKey:
    """The key that signs tokens now, made on first use; see `keyring.load_or_make`."""
    return load_or_make(directory, TOKENS)


def make_token(
    key: ECKey,
    kind: str,
    name: str,
    *,
    customer_ref: str = "",
    account: str = "",
    person_ref: str = "",
    customer_kind: int = 0,
    own_from_day: int = 0,
    session: str = "",
    acts_for: Mapping[str, int] | None = None,
    lifetime_s: int = 3600,
    issue_s: int | None = None,
) -> str:
    """A token for a caller of `kind` called `name`, valid for `lifetime_s` from `issue_s` on.

    `issue_s` is in seconds since the epoch, now when it is None; so are the moments until which
    `acts_for` holds, by account. The rest is as in `Caller`. ValueError when the kind is unknown
    or the name is not of that kind, such as sources/x.
    """
    if kind not in KINDS or kind == "public":
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS[1:])}")
    if not _names(kind, name):
        raise ValueError(f"name is {name!r}; a {kind} is called {kind}s/ and its own name")
    now = int(time.time()) if issue_s is None else issue_s
    optional = {
        "customer_ref": customer_ref,
        "account": account,
        "person_ref": person_ref,
        "customer_kind": customer_kind,
        "own_from_day": own_from_day,
        "session": session,
        "acts_for": dict(acts_for or {}),
    }
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": name,
        "kind": kind,
        "iat": now,
        "exp": now + lifetime_s,
        **{claim: value for claim, value in optional.items() if value},
    }
    return jwt.encode({"alg": ALGORITHM, "kid": key.thumbprint()}, claims, key)


def _names(kind: str, name: str) -> bool:
    """Whether a caller of this kind may have this name; customers are named by the bank."""
    return bool(name) if kind == "customer" else name.startswith(f"{kind}s/") and name[-1] != "/"


class TokenVerifier:
    """Checks tokens by the published keys; remembers the last 10,000 that were right.

    Checking a signature takes about 100 µs, looking one up takes one. What is remembered is
    forgotten when it expires, when it acts for fewer accounts, and whenever keys change, so
    that a token of a retired key stops working within a second.
    """

    def __init__(self, published: Path) -> None:
        self._keys = PublicKeys(published)
        self._checked: OrderedDict[str, tuple[Caller, int]] = OrderedDict()

    def verify(self, authorization: str) -> Caller:
        """The caller of an `authorization` value; TokenInvalid says what is wrong with it."""
        if self._keys.refresh():
            self._checked.clear()
        known = self._checked.get(authorization)
        if known is not None and time.time() < known[1]:
            self._checked.move_to_end(authorization)
            return known[0]
        who, until = self._verify(authorization)
        self._checked[authorization] = (who, until)
        if len(self._checked) > _CACHED_MAX:
            self._checked.popitem(last=False)
        return who

    def _verify(self, authorization: str) -> tuple[Caller, int]:
        """The caller, and the second from which on this has to be looked at again."""
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise _invalid("the authorization metadata is not 'Bearer' and a token")
        try:
            # The one algorithm is named, so that no token chooses its own.
            claims = jwt.decode(text, self._keys.of, algorithms=[ALGORITHM]).claims
            _CLAIMS.validate(claims)
        except errors.ExpiredTokenError as error:
            raise _invalid("the token has expired") from error
        except errors.ClaimError as error:
            raise _invalid(f"the token's {error.claim} is not one for this service") from error
        except (errors.JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise _invalid("the token is not signed by a known key") from error
        acts_for = _acts_for(claims, int(time.time()))
        until = min(int(claims["exp"]), *acts_for.values()) if acts_for else int(claims["exp"])
        return _caller_of(claims, tuple(acts_for)), until


def _caller_of(claims: Mapping[str, Any], acts_for: tuple[str, ...]) -> Caller:
    kind, name = claims.get("kind"), claims["sub"]
    if kind not in KINDS[1:]:
        raise _invalid(f"the token names no kind of caller: {str(kind)[:32]!r}")
    if not isinstance(name, str) or not _names(kind, name):
        raise _invalid(f"the token's name is not one of a {kind}: {str(name)[:32]!r}")
    return Caller(
        kind,
        name,
        customer_ref=_claim(claims, "customer_ref", ""),
        account=_claim(claims, "account", ""),
        person_ref=_claim(claims, "person_ref", ""),
        customer_kind=_claim(claims, "customer_kind", 0),
        own_from_day=_claim(claims, "own_from_day", 0),
        session=_claim(claims, "session", ""),
        acts_for=acts_for,
    )


def _acts_for(claims: Mapping[str, Any], now_s: int) -> dict[str, int]:
    """The accounts that the token acts for at `now_s`, and the second until which it does."""
    known: dict[Any, Any] = _claim(claims, "acts_for", {})
    for account, until in known.items():
        if not account.startswith("accounts/") or type(until) is not int:
            raise _not_ours("acts_for")
    return {account: until for account, until in known.items() if now_s < until}


def _claim(claims: Mapping[str, Any], name: str, default: Kind) -> Kind:
    """An optional claim; TokenInvalid unless it is of the type of its default."""
    value = claims.get(name, default)
    if type(value) is not type(default):
        raise _not_ours(name)
    return value


def _not_ours(claim: str) -> TokenInvalid:
    return _invalid(f"the token's {claim} is not one for this service")


def _invalid(cause: str) -> TokenInvalid:
    return TokenInvalid(f"{cause}; get a new token and call again", metadata={"cause": cause})
