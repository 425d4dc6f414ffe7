"""The bank's tickets: signed words of the bank on who signs in, each good once and briefly.

A ticket is a JSON Web Token (ES256) of the bank app's backend: `iss` the bank, `aud`
"carbonaccount", `sub` the reference of the customer relation, `jti` its own id, `iat` and `exp`
at most two minutes apart; and where the bank knows them `person_ref`, `customer_kind`
(cardholder, debit or other-bank), `birth_date` (YYYY-MM-DD) and `guardian_ref`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import structlog
from joserfc import errors, jwt

from services.identity.domain.session import BankCustomer
from shared.refusal import CodeInvalid
from shared.rpc.jwks import ALGORITHM, PublicKeys
from shared.rpc.keyring import load_or_make, published_file
from shared.settings import SettingsInvalid

AUDIENCE = "carbonaccount"
VALID_MAX_S = 120
SKEW_S = 5
"""How far the bank's clock and ours may be apart."""
TEXT_MAX = 64
CUSTOMER_KINDS = ("", "cardholder", "debit", "other-bank")
"""In the order of CustomerKind of the contract."""

_DOUBLE, _DOUBLE_ISSUER = "bank-tickets", "development double of a bank"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_log = structlog.get_logger()


class BankTickets:
    """Verifies tickets by the keys that the bank publishes."""

    def __init__(self, keys: Path, issuer: str, *, double: bool = False) -> None:
        self._keys = PublicKeys(keys)
        self._issuer = issuer
        self._double = double

    def verify(self, ticket: str, now: datetime) -> BankCustomer:
        """What the ticket says; CODE_INVALID when it is not one of the bank, valid at `now`."""
        self._keys.refresh()
        customer = _read(self._claims(ticket, int(now.timestamp())))
        if self._double:
            _log.warning("bank.double_used", meaning="anybody with the keys of here may sign in")
        return customer

    def _claims(self, ticket: str, now_s: int) -> Mapping[str, Any]:
        """The claims of a ticket that is the bank's, for us, and valid now."""
        registry = jwt.JWTClaimsRegistry(
            now=now_s,
            leeway=SKEW_S,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": AUDIENCE},
            sub={"essential": True},
            jti={"essential": True},
            iat={"essential": True},
            exp={"essential": True},
        )
        try:
            # The one algorithm is named, so that no ticket chooses its own.
            claims = jwt.decode(ticket, self._keys.of, algorithms=[ALGORITHM]).claims
            registry.validate(claims)
        except errors.ExpiredTokenError as error:
            raise _refused("has expired") from error
        except errors.ClaimError as error:
            raise _refused(f"has a wrong {error.claim}") from error
        except (errors.JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise _refused("is not signed by a key of the bank") from error
        if type(claims["iat"]) is not int or type(claims["exp"]) is not int:
            raise _refused("has times that are no whole seconds")
        if claims["exp"] - claims["iat"] > VALID_MAX_S:
            raise _refused(f"is valid for longer than {VALID_MAX_S} s")
        return claims


def open_bank_tickets(bank_keys: str, issuer: str, keys_dir: Path) -> BankTickets:
    """The bank's verifier; without `bank_keys` a development double, which says so."""
    if not bank_keys:
        load_or_make(keys_dir, _DOUBLE)
        _log.warning(
            "bank.double",
            meaning="no bank verifies sign-ins here: tickets of `carbonaccount bank-ticket` are "
            "taken; set CARBONACCOUNT_IDENTITY_BANK_KEYS before any customer comes",
        )
        return BankTickets(published_file(keys_dir, _DOUBLE), _DOUBLE_ISSUER, double=True)
    if not issuer:
        raise SettingsInvalid(
            "CARBONACCOUNT_IDENTITY_BANK_ISSUER is not set; set it to the `iss` of the tickets of "
            "the bank whose keys CARBONACCOUNT_IDENTITY_BANK_KEYS names"
        )
    return BankTickets(Path(bank_keys), issuer)


def make_double_ticket(
    keys_dir: Path,
    customer_ref: str,
    now_s: int,
    *,
    person_ref: str = "",
    customer_kind: str = "",
    birth_date: str = "",
    guardian_ref: str = "",
    lifetime_s: int = VALID_MAX_S,
) -> str:
    """A ticket of the development double, for whom it is told."""
    optional = {
        "person_ref": person_ref,
        "customer_kind": customer_kind,
        "birth_date": birth_date,
        "guardian_ref": guardian_ref,
    }
    claims = {
        "iss": _DOUBLE_ISSUER,
        "aud": AUDIENCE,
        "sub": customer_ref,
        "jti": secrets.token_hex(16),
        "iat": now_s,
        "exp": now_s + lifetime_s,
        **{name: value for name, value in optional.items() if value},
    }
    key = load_or_make(keys_dir, _DOUBLE)
    return jwt.encode({"alg": ALGORITHM, "kid": key.thumbprint()}, claims, key)


def _read(claims: Mapping[str, Any]) -> BankCustomer:
    kind = _text(claims, "customer_kind")
    if kind not in CUSTOMER_KINDS:
        raise _refused("has a wrong customer_kind")
    return BankCustomer(
        customer_ref=_text(claims, "sub", required=True),
        person_ref=_text(claims, "person_ref"),
        customer_kind=CUSTOMER_KINDS.index(kind),
        birth_date=_birth_date(_text(claims, "birth_date"), claims["iat"]),
        guardian_ref=_text(claims, "guardian_ref"),
        ticket_id=_text(claims, "jti", required=True),
        expire_time=datetime.fromtimestamp(claims["exp"] + SKEW_S, UTC),
    )


def _text(claims: Mapping[str, Any], name: str, *, required: bool = False) -> str:
    value = claims.get(name, "")
    printable = isinstance(value, str) and value.isprintable() and len(value) <= TEXT_MAX
    if not printable or (required and not value):
        raise _refused(f"has a wrong {name}")
    return str(value)


def _birth_date(text: str, issue_s: int) -> date | None:
    if not text:
        return None
    try:
        born = date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        born = None
    # A day ahead at most: where the bank is it may be tomorrow already.
    if born is None or (born - datetime.fromtimestamp(issue_s, UTC).date()).days > 1:
        raise _refused("has a wrong birth_date")
    return born


def _refused(why: str) -> CodeInvalid:
    return CodeInvalid(
        f"the ticket {why}; ask the bank for a new one",
        field="bank_ticket",
        metadata={"kind": "ticket"},
    )
