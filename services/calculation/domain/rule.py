"""What a rule is made of: measures, labels, factors, histories, conditions, caps, grades, cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from services.calculation.domain.formula import Formula
from services.calculation.domain.parse import Comparison
from services.calculation.domain.tables import Table

STATUSES = ("official", "reposted", "operator", "secondary", "decision")
"""Of values, strongest first; `decision` is ours: right for caps and rules, never for factors."""
CREDITABLE = frozenset(STATUSES[:3])
GRADES = {"recorded": 1, "shown": 2, "declared": 3}


@dataclass(frozen=True)
class Measure:
    """A whole number that activities carry: `min` <= value <= `max` in base units."""

    name: str
    unit: str
    min: int
    max: int
    label_zh: str
    label_en: str


@dataclass(frozen=True)
class Label:
    """A word out of a closed list; its code is its place in `values`, from 1."""

    name: str
    values: tuple[str, ...]
    label_zh: str
    label_en: str


@dataclass(frozen=True)
class Factor:
    """A number with its unit and where it was read; `date` is that of the value, "" unknown.

    `low` and `high` are "" where the document gives no uncertainty. With a `table` the number
    depends on the act, and the fields from value to status are empty.
    """

    key: str
    value: str
    unit: str
    date: str
    source: str
    page: str
    status: str
    label_zh: str
    label_en: str
    low: str = ""
    high: str = ""
    table: Table | None = None

    @property
    def uncertain(self) -> bool:
        """Whether an interval is given for it, in any row."""
        rows = self.table.rows if self.table else ()
        return bool(self.low or any(row.low for row in rows))


@dataclass(frozen=True)
class History:
    """The mean of `of` over the `days` civil days before, of at least `days_least` on record.

    `key` is "{methodology}/{name}"; an act counts whose `of` lies in the measure's `min` to `max`,
    and a day counts at most `max`.
    """

    key: str
    name: str
    of: str
    days: int
    days_least: int
    min: int
    max: int
    source: str
    status: str
    label_zh: str
    label_en: str


@dataclass(frozen=True)
class Cap:
    """The most that an account may use in one window, in acts, a measure, or the result.

    `of` is "count", "result" or a measure's name; `window` is "act", "day" or "month";
    `amount` is in acts, the measure's base unit, or mg (points).
    """

    key: str
    window: str
    of: str
    amount: int
    source: str
    status: str
    label_zh: str
    label_en: str


@dataclass(frozen=True)
class Condition:
    """What an activity must meet to earn anything."""

    text: str
    tree: Comparison
    formula: Formula
    source: str
    status: str
    label_zh: str
    label_en: str


@dataclass(frozen=True)
class Grade:
    """The share of the result that an evidence grade earns, from 0 to 1."""

    share: Fraction
    text: str
    source: str
    status: str


@dataclass(frozen=True)
class Case:
    """A published input and the right answer in mg or points, within `tolerance`.

    `count` such acts are done on one day, and `expected` is what they come to together.
    """

    id: str
    measures: Mapping[str, int]
    labels: Mapping[str, int]
    history: Mapping[str, int]
    region: int
    day: int | None
    grade: int
    count: int
    expected: int
    tolerance: int
    source: str
