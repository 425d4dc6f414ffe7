"""How calculators price a thing: one rule of the library, its working, and what was taken where.

A calculator never computes a factor of its own: it asks the plain evaluator, and divides or
multiplies the exact result before it is rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from functools import lru_cache

from services.calculation.domain.exact import Act, assess_act, row_of
from services.calculation.domain.explain import Step, decimal_text, explain, pieces_of
from services.calculation.domain.methodology import Methodology, Version
from services.calculation.domain.rule import STATUSES, Factor
from services.calculation.domain.tables import EVER, Row
from services.calculation.domain.wording import step
from shared.ids import date_to_day, day_to_date

_ROUNDING_STEPS = 2  # the last steps of a working: rounded, credited


@dataclass(frozen=True)
class Note:
    """What the reader of a number must know."""

    zh: str
    en: str


@dataclass(frozen=True)
class Interval:
    """Least and greatest of what the uncertain factors allow, rounded outwards."""

    low_mg: int
    high_mg: int
    meaning: Note


@dataclass(frozen=True)
class Where:
    """For whom a thing is priced: `today` chooses the version, `day` the factor of a dated table.

    `region` is a six-digit code, 0 where it is unknown.
    """

    today: int
    day: int
    region: int = 0

    @property
    def year(self) -> int:
        """The year whose factor is wanted."""
        return day_to_date(self.day).year


@dataclass(frozen=True)
class Rate:
    """The rule of an emission methodology that prices one kind of thing.

    `meaning` says what the ends of an uncertain factor stand for; None where none is uncertain.
    """

    methodology: Methodology
    scene: str
    labels: Mapping[str, int]
    meaning: Note | None

    def version_for(self, today: int) -> Version:
        """The version in force today; before the first one that, and after the last one that."""
        fitting = self.methodology.version_on(self.scene, today)
        if fitting is not None:
            return fitting
        versions = [v for v in self.methodology.versions if self.scene in v.scenes]
        begun = [v for v in versions if v.effective_day <= today]
        return begun[-1] if begun else versions[0]


@dataclass(frozen=True)
class Priced:
    """What the rule makes of one act, in milligrams before any rounding.

    `low` and `high` are None where the source gives no uncertainty. The working is put into words
    only when somebody asks for it.
    """

    version: Version
    act: Act
    where: Where
    exact: Fraction
    low: Fraction | None
    high: Fraction | None

    def interval(self, meaning: Note | None, share: Fraction = Fraction(1)) -> Interval | None:
        """The interval of `share` times the value."""
        if self.low is None or self.high is None or meaning is None:
            return None
        return Interval(math.floor(self.low * share), math.ceil(self.high * share), meaning)

    @property
    def status(self) -> str:
        """The weakest status among the values that were read."""
        values = _values_read(self.version, self.act)
        return max((value.status for value in values), key=STATUSES.index)

    @property
    def formula(self) -> Note:
        """The formula in words."""
        return Note(worded(self.version, "zh"), worded(self.version, "en"))

    @property
    def steps(self) -> tuple[Step, ...]:
        """The working up to the exact value."""
        return explain(self.version, self.act).steps[:-_ROUNDING_STEPS]

    @property
    def notes(self) -> tuple[Note, ...]:
        """Which row of a table by region or year was taken, and why."""
        return tuple(_notes(self.version, self.act, self.where))


def price(rate: Rate, measures: Mapping[str, int], where: Where) -> Priced:
    """What the rule makes of these measures; they lie in the ranges that it accepts."""
    version = rate.version_for(where.today)
    act = Act(measures, region=where.region, day=where.day, labels=rate.labels)
    act = act._replace(day=_day_with_values(version, act))
    exact = assess_act(version, act)
    if exact.raw is None or exact.low is None or exact.high is None:
        raise ValueError(f"{version.name} refuses {dict(measures)}; the calculator let it through")
    # Whether the source gives an interval is known since the rate was read.
    given = rate.meaning is not None
    return Priced(version, act, where, exact.raw, exact.low if given else None,
                  exact.high if given else None)  # fmt: skip


def _day_with_values(version: Version, act: Act) -> int:
    """The act's day, or the first one after it on which its dated tables have a value.

    A methodology refuses an act that is older than its factors; a calculator takes the oldest
    factor of the region and says so.
    """
    day, place = act.day, f"{act.region:06d}" if act.region else ""
    for factor in version.factors:
        if factor.table is None or not factor.table.by_date or row_of(factor.table, act):
            continue
        codes = tuple(act.labels.get(name, 0) for name in factor.table.labels)
        fitting = [row for row in factor.table.rows
                   if row.codes == codes and place.startswith(row.region_prefix)]  # fmt: skip
        nearest = max((len(row.region_prefix) for row in fitting), default=0)
        begins = [row.from_day for row in fitting if len(row.region_prefix) == nearest]
        day = max(day, min(begins, default=day))
    return day


def _values_read(version: Version, act: Act) -> list[Factor | Row]:
    """The value of each factor for this act; a factor that no formula reads does not load."""
    chosen = [f if f.table is None else row_of(f.table, act) for f in version.factors]
    return [value for value in chosen if value is not None]


@lru_cache(maxsize=256)
def worded(version: Version, language: str) -> str:
    """The formula with what its names stand for in their place."""
    named = [(m.name, m.label_zh, m.label_en) for m in version.measures]
    named += [(f.key, f.label_zh, f.label_en) for f in version.factors]
    labels = {name: zh if language == "zh" else en for name, zh, en in named}
    pieces = [f"[{labels[p]}]" if p in labels else p for p in pieces_of(version.formula_text)]
    return " ".join("".join(pieces).split())


def _notes(version: Version, act: Act, where: Where) -> list[Note]:
    """Which row of a table by region or year was taken, and why."""
    found = []
    for factor in version.factors:
        row = row_of(factor.table, act) if factor.table else None
        if factor.table is None or row is None:
            continue
        if factor.table.by_region:
            found.append(_place_note(factor, row, where.region))
        if factor.table.by_date and row.from_day != EVER:
            found += _year_notes(factor, row, where.year)
    return found


def _year_notes(factor: Factor, row: Row, wanted: int) -> list[Note]:
    year = day_to_date(row.from_day).year
    if year == wanted:
        return []
    return [
        Note(
            f"{factor.label_zh}：没有 {wanted} 年的数值，取 {year} 年的 {row.value}。",
            f"{factor.label_en}: there is none for {wanted}; {row.value} of {year} is taken.",
        )
    ]


def _place_note(factor: Factor, row: Row, region: int) -> Note:
    code = row.region_prefix.ljust(6, "0") if row.region_prefix else ""
    taken_zh, taken_en = (
        (f"{code} 的", f"that of {code}") if code else ("全国的", "the national one")
    )
    if not region:
        why_zh, why_en = "未给出地区", "no region was given"
    elif code == f"{region:06d}":
        why_zh, why_en = "与所给地区一致", "it is the region that was given"
    elif code:
        why_zh, why_en = f" {region:06d} 在其中", f"{region:06d} lies in it"
    else:
        why_zh, why_en = f" {region:06d} 没有数值", f"there is none for {region:06d}"
    return Note(
        f"{factor.label_zh}：取{taken_zh}数值 {row.value}，因为{why_zh}。",
        f"{factor.label_en}: {taken_en}, {row.value}, because {why_en}.",
    )


def last_day_of(year: int) -> int:
    """The last civil day of a year."""
    return date_to_day(date(year, 12, 31))


def summed(parts: Sequence[tuple[int, Interval | None]], meaning: Note) -> Interval | None:
    """The sum of intervals; what has none counts as it is, and None where nothing has one."""
    if all(interval is None for _, interval in parts):
        return None
    return Interval(
        sum(interval.low_mg if interval else value for value, interval in parts),
        sum(interval.high_mg if interval else value for value, interval in parts),
        meaning,
    )


def rounding_step(value: Fraction, share: Fraction, exact: Fraction) -> Step:
    """The last step: the rule's value, how much of it, and the milligrams rounded up once."""
    return step(
        "向上取整到毫克", "rounded up to a whole mg",
        f"ceiling({decimal_text(value)} * {decimal_text(share)} = {decimal_text(exact)})",
        str(math.ceil(exact)), "mg",
        zh="{label}：{expression}，得 {result} 毫克。",
        en="It is {label}: {expression}: {result} mg.",
    )  # fmt: skip
