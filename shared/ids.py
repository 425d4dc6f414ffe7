"""Names and numbers of resources: accounts, shards, activities, civil days.

An account is a random positive int63 inside and `accounts/{13 characters}` on the wire
(Crockford base 32, lower case). Its shard is its lowest six bits, fixed for ever.
"""

from __future__ import annotations

import secrets
from datetime import UTC, date, datetime, timedelta

from shared.refusal import FieldInvalid

SHARDS = 64
DAY_US = 86_400_000_000
CIVIL_OFFSET_US = 8 * 3_600_000_000  # civil days are those of UTC+8, which has no summer time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]  # ten bits at a time
_INT_DIGITS = "0123456789abcdefghijklmnopqrstuv"
# int() reads base 32 in the digits 0-9a-v; every letter that is not ours becomes one it refuses.
_TO_INT = {
    code: (_INT_DIGITS[_ALPHABET.index(chr(code))] if chr(code) in _ALPHABET else "!")
    for code in range(128)
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encode32(value: int, length: int) -> str:
    """`value` >= 0 as exactly `length` base-32 characters."""
    pairs = []
    for _ in range(length // 2):
        pairs.append(_PAIRS[value & 1023])
        value >>= 10
    if length % 2:
        pairs.append(_ALPHABET[value & 31])
    return "".join(reversed(pairs))


def decode32(text: str) -> int:
    """The number that `encode32` wrote; ValueError on any other character."""
    return int(text.translate(_TO_INT), 32) if text.isascii() else int("!")


def new_account_id() -> int:
    """A fresh unguessable account number, 1 to 2**63 - 1."""
    return secrets.randbits(63) or 1


def account_name(account_id: int) -> str:
    """`accounts/{account}` of an account number."""
    return "accounts/" + encode32(account_id, 13)


def account_id_of(name: str, field: str = "name") -> int:
    """The account number of `accounts/{account}`; FieldInvalid when it is no such name."""
    try:
        value = decode32(name[9:]) if len(name) == 22 and name.startswith("accounts/") else 0
    except ValueError:
        value = 0
    if not 0 < value < 1 << 63:
        raise FieldInvalid(
            field, f"{field} is {name[:64]!r}; it must be accounts/ and 13 characters of base 32"
        )
    return value


def shard_of(account_id: int) -> int:
    """The shard that everything of an account lives in, 0 to 63."""
    return account_id & (SHARDS - 1)


def civil_day(time_us: int) -> int:
    """The civil day in UTC+8 of a moment in microseconds, counted from 1970-01-01."""
    return (time_us + CIVIL_OFFSET_US) // DAY_US


def civil_day_begin_us(day: int) -> int:
    """The first moment of a civil day, in microseconds."""
    return day * DAY_US - CIVIL_OFFSET_US


def day_to_date(day: int) -> date:
    """The calendar date of a civil day."""
    return date.fromordinal(date(1970, 1, 1).toordinal() + day)


def date_to_day(value: date) -> int:
    """The civil day of a calendar date."""
    return value.toordinal() - date(1970, 1, 1).toordinal()


def to_us(moment: datetime) -> int:
    """An aware moment as microseconds since the epoch."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(time_us: int) -> datetime:
    """Microseconds since the epoch as a moment in UTC."""
    return _EPOCH + timedelta(microseconds=time_us)
