"""A feed mapping: how one operator's file becomes activities, as data.

A new layout of a known kind is one more file in catalogue/feeds and no more code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

COLUMN_KINDS = ("text", "time", "degree", "whole")
MEASURE_KINDS = ("great_circle", "elapsed")


@dataclass(frozen=True)
class Licence:
    """Under which policy the data may be used, and how its source must be named."""

    name: str
    text: str
    url: str
    credit: str


@dataclass(frozen=True)
class Assumption:
    """One sentence that every report on this feed repeats, in both languages."""

    id: str
    zh: str
    en: str


@dataclass(frozen=True)
class Layout:
    """The file: `header` names every column in order; `never_read` are dropped unseen."""

    encoding: str
    delimiter: str
    header: tuple[str, ...]
    never_read: tuple[str, ...]
    line_end_required: bool


@dataclass(frozen=True)
class Limits:
    """Bounds on one file; meeting one is LIMIT_REACHED."""

    line_bytes_max: int
    lines_max: int
    file_bytes_max: int
    value_chars_max: int


@dataclass(frozen=True)
class Clock:
    """How a time on the operator's wall becomes a moment.

    Dates move by `shift_week` weeks; dates outside earliest_date..latest_date, as written in
    the file, are refused.
    """

    utc_offset_minute: int
    shift_week: int
    earliest_date: date
    latest_date: date


@dataclass(frozen=True)
class Column:
    """Rule of one column that is read: `kind` is one of COLUMN_KINDS.

    `pattern` is for text, `formats` for time, `min` and `max` for degree and whole.
    """

    name: str
    kind: str
    way_out: str
    pattern: str = ""
    formats: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class Joined:
    """Text made of the cells of `columns` with `join` between them."""

    columns: tuple[str, ...]
    join: str


@dataclass(frozen=True)
class AccountRule:
    """Account = first `hash_bytes` bytes of SHA-256 of the joined text, big-endian, modulo `count`.

    The label is `prefix` and the number in `digits` digits.
    """

    columns: tuple[str, ...]
    join: str
    hash_bytes: int
    count: int
    prefix: str
    digits: int


@dataclass(frozen=True)
class ActRule:
    """What every act of this feed has in common and how its names are made.

    `labels` are the same for all of them; another word needs a feed of its own.
    """

    scene: str
    region: str
    evidence_grade: str
    source_event_id: Joined
    start_time: str
    occur_time: str
    account: AccountRule
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasureRule:
    """One measure: `great_circle` between two (latitude, longitude) pairs or `elapsed` time.

    Where the two cells of `same_place` are equal and not empty, a great circle is 0.
    """

    kind: str
    start: tuple[str, ...]
    end: tuple[str, ...]
    min: int
    max: int
    earth_radius_metre: float | None = None
    same_place: tuple[str, ...] = ()


@dataclass(frozen=True)
class SpeedCheck:
    """distance * 3600 <= metre_per_hour_max * (duration + time_precision_second)."""

    distance: str
    duration: str
    metre_per_hour_max: int
    time_precision_second: int


@dataclass(frozen=True)
class DurationCheck:
    """The whole-number `column` may differ from `measure` by up to `tolerance_second`."""

    column: str
    measure: str
    tolerance_second: int


@dataclass(frozen=True)
class Checks:
    """Plausibility: an act that fails one is refused."""

    speed: SpeedCheck | None = None
    duration: DurationCheck | None = None


@dataclass(frozen=True)
class FeedMapping:
    """One mapping file, checked; `source` is the resource name under which acts are reported."""

    id: str
    kind: str
    title_zh: str
    title_en: str
    operator: str
    source: str
    demo: bool
    licence: Licence
    layout: Layout
    limits: Limits
    clock: Clock
    act: ActRule
    column: tuple[Column, ...]
    measure: dict[str, MeasureRule]
    assumption: tuple[Assumption, ...]
    checks: Checks = Checks()
