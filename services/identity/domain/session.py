"""Sign-ins: what the bank says of a customer, and a session through its renewals."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from shared.ids import date_to_day, decode32, encode32
from shared.refusal import FieldInvalid

ACCESS_LIFETIME = timedelta(minutes=5)
REFRESH_LIFETIME = timedelta(days=30)
OF_AGE_YEARS = 14
_PREFIX = "sessions/"


@dataclass(frozen=True)
class Holder:
    """Who signed in, as the bank said: references, a CustomerKind of the contract, birthday.

    `person_ref` is "" and `birth_date` None where the bank gives none.
    """

    customer_ref: str
    person_ref: str
    customer_kind: int
    birth_date: date | None

    def own_from_day(self, day: int) -> int:
        """The civil day of the 14th birthday if it lies after `day`, else 0.

        Who was born on 29 February comes of age on 1 March.
        """
        if self.birth_date is None:
            return 0
        born = self.birth_date
        first = (born.month, born.day) if (born.month, born.day) != (2, 29) else (3, 1)
        of_age = date_to_day(date(born.year + OF_AGE_YEARS, *first))
        return of_age if day < of_age else 0


@dataclass(frozen=True)
class BankCustomer(Holder):
    """What one ticket of the bank says; `guardian_ref` is "" without a guardian.

    From `expire_time` on the ticket is refused in any case.
    """

    guardian_ref: str
    ticket_id: str
    expire_time: datetime


@dataclass(frozen=True)
class Session:
    """One sign-in. Each renewal is a `generation`; `request` is the digest of what made it, and
    `customer` that of who signed in, by which an erasure finds sessions of before the opening."""

    session_id: int
    account_id: int | None
    generation: int
    request: bytes
    customer: bytes
    create_time: datetime
    expire_time: datetime
    end_time: datetime | None = None


def new_session_id() -> int:
    """A fresh unguessable number, 1 to 2**63 - 1."""
    return secrets.randbits(63) or 1


def session_name(session_id: int) -> str:
    """`sessions/{session}` of a number."""
    return _PREFIX + encode32(session_id, 13)


def session_id_of(name: str) -> int:
    """The number of `sessions/{session}`; FieldInvalid when it is no such name."""
    try:
        value = decode32(name[9:]) if len(name) == 22 and name.startswith(_PREFIX) else 0
    except ValueError:
        value = 0
    if not 0 < value < 1 << 63:
        raise FieldInvalid(
            "name", f"name is {name[:64]!r}; it must be sessions/ and 13 characters of base 32"
        )
    return value
