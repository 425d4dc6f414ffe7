"""An activity as it is kept, for those who ask for one or for a page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Activity:
    """One recorded activity; measures and labels by name, times in microseconds since 1970.

    `position` is its place in the feed of its account's shard; `place` (civil day, occur time,
    reference) its place in the account's list.
    """

    account_id: int
    key: bytes
    scene: str
    source: str
    source_event_id: str
    measures: dict[str, int]
    labels: dict[str, str]
    occur_time_us: int
    record_time_us: int
    region: int
    evidence_grade: int
    withdrawn: bool
    position: int
    place: tuple[int, int, int]


@dataclass(frozen=True)
class Fact:
    """What the feed holds of one recorded activity, by column."""

    shard: int
    position: int
    record_time_us: int
    columns: dict[str, int]
