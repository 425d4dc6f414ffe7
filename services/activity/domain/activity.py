"""An activity as it is kept, for those who ask for one or for a page."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class AccountState(IntEnum):
    """The life of an account; the numbers are those of identity's contract."""

    OPEN = 1
    SUSPENDED = 2
    CLOSED = 3
    ERASED = 4


@dataclass(frozen=True)
class Named:
    """An activity as a caller names it: below its account, or below the source (sources/{source})
    that reported it; the other of the two is 0 or empty."""

    key: bytes
    account_id: int = 0
    source: str = ""


@dataclass(frozen=True)
class TakenBack:
    """When an activity was withdrawn, by whom and why."""

    withdraw_time_us: int
    actor: str
    cause: str


@dataclass(frozen=True)
class Activity:
    """One recorded activity; measures and labels by name, times in microseconds since 1970.

    `position` is its place in the feed of its account's shard; `place` (civil day, occur time,
    reference) its place in the account's list. `taken_back` is None while it stands.
    """

    account_id: int
    key: bytes
    scene: str
    source: str
    measures: dict[str, int]
    labels: dict[str, str]
    occur_time_us: int
    record_time_us: int
    region: int
    evidence_grade: int
    taken_back: TakenBack | None
    position: int
    place: tuple[int, int, int]

    @property
    def withdrawn(self) -> bool:
        """Whether it was taken back."""
        return self.taken_back is not None


@dataclass(frozen=True)
class Fact:
    """What the feed holds of one recorded activity, by column."""

    shard: int
    position: int
    record_time_us: int
    columns: dict[str, int]
