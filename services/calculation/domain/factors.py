"""Emission factors as facts: what was published, when, and what was known on a day.

Nothing here is edited. A later publication for the same region, key and data year supersedes
the earlier one from its own day on; a question asked as of an earlier day is answered as before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Place = tuple[str, str, int]


@dataclass(frozen=True)
class FactorValue:
    """One published number; its text is exact and its unit is the series'.

    `publish_day` counts from 1970-01-01; None is unknown and counts as always known. `year` is
    the year that the data describe, 0 where no document says. `low` and `high` are both "" or
    both there.
    """

    series: str
    unit: str
    region: str
    key: str
    year: int
    publish_day: int | None
    value: str
    low: str
    high: str
    source: str
    page: str
    status: str
    note: str = ""

    @property
    def place(self) -> Place:
        """What it is a number of, within its series: region, key, data year."""
        return self.region, self.key, self.year

    def published_by(self, day: int) -> bool:
        """Whether it was known on that day."""
        return self.publish_day is None or self.publish_day <= day


@dataclass(frozen=True)
class Series:
    """All values of one quantity in one unit, by region, key, data year and publication."""

    id: str
    title_zh: str
    title_en: str
    unit: str
    gas_scope: str
    category: str
    values: tuple[FactorValue, ...]

    def known(self, as_of_day: int) -> tuple[FactorValue, ...]:
        """What was published on or before that day, superseded values left out, in order."""
        return tuple(_newest_publications(v for v in self.values if v.published_by(as_of_day)))

    def latest(self, as_of_day: int, region: str = "", key: str = "") -> FactorValue | None:
        """The newest data year known of exactly that region and key; None without one."""
        years = self.by_year(as_of_day, region, key)
        return years[-1] if years else None

    def by_year(self, as_of_day: int, region: str = "", key: str = "") -> list[FactorValue]:
        """Every data year known of exactly that region and key, the oldest first."""
        return [v for v in self.known(as_of_day) if (v.region, v.key) == (region, key)]

    def by_region(self, as_of_day: int, key: str = "") -> list[FactorValue]:
        """The newest data year known of each code region and of everywhere, by region."""
        # Values come by region and then year, so the last one of a region is its newest.
        return list({v.region: v for v in self.by_region_and_year(as_of_day, key)}.values())

    def by_region_and_year(self, as_of_day: int, key: str = "") -> list[FactorValue]:
        """Every data year known of each code region and of everywhere, by region and year."""
        return [v for v in self.known(as_of_day) if v.key == key and not _is_area(v.region)]

    def superseding(self, value: FactorValue) -> FactorValue | None:
        """The publication that came next for what `value` is a number of; None if it stands."""
        same = [v for v in self.values if v.place == value.place]
        after = same[same.index(value) + 1 :]
        return after[0] if after else None


def look_up(
    series: Series, *, region: str, key: str, as_of_day: int, year: int | None
) -> FactorValue | None:
    """The value that holds for a region: of the most specific region with one, the newest year.

    440305 asks 440305, then 440300, 440000 and everywhere; an area's name asks that area alone.
    A `year` asks for that data year and no other. None when nothing was known on that day.
    """
    for place in regions_of(region):
        years = series.by_year(as_of_day, place, key)
        fitting = [v for v in years if year is None or v.year == year]
        if fitting:
            return fitting[-1]
    return None


def regions_of(region: str) -> list[str]:
    """The regions whose values hold for `region`, the most specific first."""
    if not region or _is_area(region):
        return [region]
    wholes = [region, f"{region[:4]}00", f"{region[:2]}0000", ""]
    return list(dict.fromkeys(wholes))


def in_order(values: Iterable[FactorValue]) -> tuple[FactorValue, ...]:
    """Values by region, key, data year and publication; an unknown day of publication is first."""
    return tuple(
        sorted(values, key=lambda v: (v.place, v.publish_day is not None, v.publish_day or 0))
    )


def _newest_publications(values: Iterable[FactorValue]) -> Iterable[FactorValue]:
    return {value.place: value for value in values}.values()


def _is_area(region: str) -> bool:
    """Whether it is the name of an area such as south-grid, and no region code."""
    return bool(region) and not region.isdigit()
