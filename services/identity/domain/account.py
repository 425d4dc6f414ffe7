"""Accounts and consents, and when a consent covers a collection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum


class State(IntEnum):
    """The life of an account; the numbers are those of the contract."""

    OPEN = 1
    SUSPENDED = 2
    CLOSED = 3


@dataclass(frozen=True)
class Account:
    """A personal carbon account; `region` is 0 when not given."""

    account_id: int
    state: State
    display_name: str
    region: int
    open_time: datetime
    update_time: datetime


@dataclass(frozen=True)
class Consent:
    """One agreement of one account, numbered from 1 within it."""

    account_id: int
    number: int
    scope: int
    notice_digest: bytes
    grant_time: datetime
    cover_from_time: datetime
    revoke_time: datetime | None
    expire_time: datetime | None

    def in_force(self, now: datetime) -> bool:
        """Whether something may be collected under it now."""
        return (
            self.grant_time <= now
            and (self.revoke_time is None or now < self.revoke_time)
            and (self.expire_time is None or now < self.expire_time)
        )

    def covers(self, occur_time: datetime, now: datetime) -> bool:
        """Whether behaviour of that moment may be collected now."""
        return self.in_force(now) and self.cover_from_time <= occur_time

    def says_as_much_as(self, other: Consent) -> bool:
        """Whether `other`, granted later, would agree to the same as this one.

        Each of the two may cover from its own grant on; that is the same choice.
        """
        from_grant = self.cover_from_time == self.grant_time
        return (
            (self.scope, self.notice_digest, self.expire_time)
            == (other.scope, other.notice_digest, other.expire_time)
        ) and (
            other.cover_from_time == self.cover_from_time
            or (from_grant and other.cover_from_time == other.grant_time)
        )

    def revoked(self, now: datetime) -> Consent:
        """The same consent, taken back now; one taken back before stays as it was."""
        return self if self.revoke_time is not None else replace(self, revoke_time=now)


@dataclass(frozen=True)
class Grant:
    """What a customer says yes to; times are None where the customer chose none."""

    scope: str
    notice_digest: bytes
    cover_from_time: datetime | None
    expire_time: datetime | None
