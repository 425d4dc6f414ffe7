"""Accounts, what happens to them, and when a consent covers a collection."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum


class State(IntEnum):
    """The life of an account; the numbers are those of the contract."""

    OPEN = 1
    SUSPENDED = 2
    CLOSED = 3
    ERASED = 4


class Kind(IntEnum):
    """Whose account it is; the numbers are those of the contract."""

    PERSONAL = 1
    HOUSEHOLD = 2


class Event(IntEnum):
    """What happened to an account; the numbers are those of the contract."""

    OPENED = 1
    CLOSED = 2
    CONSENT_GRANTED = 3
    CONSENT_REVOKED = 4
    SUSPENDED = 5
    REINSTATED = 6
    UPDATED = 7
    CONSENT_REFUSED = 8
    CONSENT_EXPIRED = 9
    BOUND = 10
    UNBOUND = 11
    SIGNED_IN = 12
    SIGNED_OUT = 13
    HOUSEHOLD_JOINED = 14
    HOUSEHOLD_LEFT = 15
    SHARES_CHANGED = 16
    COMMUNITY_JOINED = 17
    COMMUNITY_LEFT = 18
    EXPORT_ASKED = 19
    ERASED = 20


STATE_AFTER = {
    Event.OPENED: State.OPEN,
    Event.CLOSED: State.CLOSED,
    Event.SUSPENDED: State.SUSPENDED,
    Event.REINSTATED: State.OPEN,
    Event.ERASED: State.ERASED,
}
"""The events that move an account on in its life, and where to."""


@dataclass(frozen=True)
class Happened:
    """One thing to be noted of an account; `number` is of what it happened to, as a consent.

    `cause` says why in words of ours or of staff, `words` in those of the customer, which are kept
    sealed.
    """

    kind: Event
    number: int = 0
    cause: str = ""
    words: str = ""


@dataclass(frozen=True)
class NotedEvent:
    """One thing that was noted; `position` is its place in the shard's feed."""

    position: int
    kind: Event
    event_time: datetime
    number: int
    actor: str
    cause: str


@dataclass(frozen=True)
class Preferences:
    """What the holder chose; nothing is on unless chosen. `language` is as in the contract."""

    language: int = 0
    board_opt_in: bool = False
    share_display_name: bool = False
    share_amounts: bool = False


@dataclass(frozen=True)
class Person:
    """What is personal about an account. It is kept sealed and version by version.

    `region` is 0 when not given; `own_from_day` is the civil day of the 14th birthday of a holder
    who was younger at the opening, else 0.
    """

    display_name: str = ""
    region: int = 0
    preferences: Preferences = field(default_factory=Preferences)
    own_from_day: int = 0


@dataclass(frozen=True)
class Account:
    """A carbon account; `person_number` is the version of `person`, `customer_kind` the bank's."""

    account_id: int
    state: State
    kind: Kind
    customer_kind: int
    person: Person
    person_number: int
    open_time: datetime
    update_time: datetime

    def guarded(self, day: int) -> bool:
        """Whether a guardian decides for the holder on that civil day."""
        return day < self.person.own_from_day


class Decision(IntEnum):
    """What the customer said."""

    GRANTED = 1
    REFUSED = 2


class EndKind(IntEnum):
    """How a consent ended before its time."""

    NOT_ENDED = 0
    REVOKED = 1
    NOTICE_CHANGED = 2


@dataclass(frozen=True)
class Consent:
    """One decision of one account about one scope, numbered from 1 within the account.

    A refusal covers nothing, whatever its times say. `confirm_time` and `screen` are the separate
    confirmation of a sensitive scope, `mandate_digest` is empty where the scope has no mandate.
    """

    account_id: int
    number: int
    scope: int
    notice_digest: bytes
    grant_time: datetime
    cover_from_time: datetime
    revoke_time: datetime | None
    expire_time: datetime | None
    decision: Decision = Decision.GRANTED
    confirm_time: datetime | None = None
    screen: str = ""
    mandate_digest: bytes = b""
    by_guardian: bool = False
    end_kind: EndKind = EndKind.NOT_ENDED

    def in_force(self, now: datetime) -> bool:
        """Whether something may be collected under it now."""
        return (
            self.decision is Decision.GRANTED
            and self.grant_time <= now
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
            (self.scope, self.notice_digest, self.mandate_digest, self.expire_time)
            == (other.scope, other.notice_digest, other.mandate_digest, other.expire_time)
        ) and (
            other.cover_from_time == self.cover_from_time
            or (from_grant and other.cover_from_time == other.grant_time)
        )

    def ended(self, now: datetime, how: EndKind = EndKind.REVOKED) -> Consent:
        """The same consent, ended now; one that had ended before stays as it was."""
        return self if self.revoke_time else replace(self, revoke_time=now, end_kind=how)


@dataclass(frozen=True)
class Grant:
    """What a customer says yes to; times are None where the customer chose none."""

    scope: str
    notice_digest: bytes
    cover_from_time: datetime | None = None
    expire_time: datetime | None = None
    confirm_time: datetime | None = None
    screen: str = ""
    mandate_digest: bytes = b""
