"""Factors for the independent reader: plain ones, tables, and quotations of the registry."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from itertools import product
from math import lcm
from typing import Any

from tests.calculation.domain.oracle_formula import Names, size_of

_EPOCH = date(1970, 1, 1)
Ends = tuple[Fraction, Fraction, Fraction]
"""Value, low and high in base units; all the same where a document gives no interval."""


@dataclass(frozen=True)
class Row:
    """One case of a table: words by label, the digits that a region begins with, a first day."""

    words: dict[str, str]
    digits: str
    from_day: int
    ends: Ends

    def fits(self, words: Mapping[str, str], region: str) -> bool:
        """Whether an act with those words and in that region is one of the row's."""
        return all(words.get(name) == word for name, word in self.words.items()) and (
            region.startswith(self.digits)
        )


@dataclass(frozen=True)
class Table:
    """A factor that depends on the act."""

    key: str
    rows: tuple[Row, ...]

    def row_of(self, words: Mapping[str, str], region: str, day: int) -> Row | None:
        """The act's words, the most specific region, and of those the latest that has begun."""
        fitting = [row for row in self.rows if row.fits(words, region)]
        longest = max((len(row.digits) for row in fitting), default=0)
        begun = [row for row in fitting if len(row.digits) == longest and row.from_day <= day]
        return max(begun, key=lambda row: row.from_day, default=None)


class Chooser:
    """What each factor of a rule is worth for an act."""

    def __init__(self, labels: list[str], constants: dict[str, Ends], tables: list[Table]) -> None:
        self._labels, self._constants, self._tables = labels, constants, tables
        self._parts = {
            table.key: lcm(*(end.denominator for row in table.rows for end in row.ends))
            for table in tables
        }
        self.uncertain = [key for key, ends in constants.items() if len(set(ends)) > 1]
        self.uncertain += [
            table.key for table in tables if any(len(set(row.ends)) > 1 for row in table.rows)
        ]

    @property
    def sizes(self) -> dict[str, Fraction]:
        """What one of each argument is worth: three for each table, value, low and high."""
        return {
            f"{key}{end}": Fraction(1, parts)
            for key, parts in self._parts.items()
            for end in ("", "_LOW", "_HIGH")
        }

    def rows(self, labels: tuple[str, ...], region: int, day: int) -> dict[str, Row] | None:
        """The row of each table for an act; None when one has none."""
        words = dict(zip(self._labels, labels, strict=True))
        place = f"{region:06}" if region else ""
        found = {table.key: table.row_of(words, place, day) for table in self._tables}
        rows = {key: row for key, row in found.items() if row is not None}
        return rows if len(rows) == len(found) else None

    def numerators(self, labels: tuple[str, ...], region: int, day: int) -> list[int] | None:
        """The whole numbers of an act, in the order of `sizes`; None for one that no row fits."""
        rows = self.rows(labels, region, day)
        if rows is None:
            return None
        return [int(end * self._parts[key]) for key, row in rows.items() for end in row.ends]

    def as_written(self) -> Names:
        """Every factor by its value."""
        return {key: ends[0] for key, ends in self._constants.items()}

    def ends(self) -> list[Names]:
        """Every combination of the ends of what is uncertain, and the values themselves."""
        ways: list[Names] = []
        for sides in self._sides():
            names: dict[str, Fraction | str] = dict(self.as_written())
            for key, side in zip(self.uncertain, sides, strict=True):
                ends = self._constants.get(key)
                names[key] = ends[side] if ends else f"{key}{('', '_LOW', '_HIGH')[side]}"
            ways.append(names)
        return ways

    def corners(self, rows: Mapping[str, Row]) -> list[dict[str, Fraction]]:
        """The values of all factors at every way of `ends`, for the rows of one act."""
        every = self._constants | {key: row.ends for key, row in rows.items()}
        written = {key: ends[0] for key, ends in every.items()}
        return [
            written | {k: every[k][side] for k, side in zip(self.uncertain, sides, strict=True)}
            for sides in self._sides()
        ]

    def _sides(self) -> list[tuple[int, ...]]:
        """For each uncertain factor 0 its value, 1 its low, 2 its high."""
        count = len(self.uncertain)
        return list(dict.fromkeys([(0,) * count, *product((1, 2), repeat=count)]))


def chooser_of(rule: Mapping[str, Any], series: Mapping[str, Any]) -> Chooser:
    """The factors of a rule; those that it quotes are looked up in `series`."""
    constants: dict[str, Ends] = {}
    tables = []
    for factor in rule.get("factor", []):
        by, key = factor.get("by", []), factor["key"]
        if "series" in factor:
            rows = quoted(factor, series[factor["series"]])
            if by:
                tables.append(Table(key, tuple(rows)))
            else:
                constants[key] = rows[-1].ends
        elif by:
            size = size_of(factor["unit"])
            tables.append(Table(key, tuple(_row(row, by, size) for row in factor["row"])))
        else:
            constants[key] = ends_of(factor, size_of(factor["unit"]))
    return Chooser([label["name"] for label in rule.get("label", [])], constants, tables)


def series_of(texts: Iterable[str]) -> dict[str, Any]:
    """The files of the registry by id, as they are written."""
    return {file["id"]: file for file in map(tomllib.loads, texts)}


def quoted(factor: Mapping[str, Any], series: Mapping[str, Any]) -> list[Row]:
    """What a factor quotes, as rows, oldest data year first: known then, newest publication."""
    by, as_of = factor.get("by", []), factor["as_of"]
    known: dict[tuple[str, int], Mapping[str, Any]] = {}
    for value in sorted(series["value"], key=lambda value: value.get("publish_date", date.min)):
        wanted = value.get("key", "") == factor.get("kind", "")
        if wanted and value.get("publish_date", date.min) <= as_of:
            known[value.get("region", ""), value["year"]] = value
    size, rows = size_of(series["unit"]), []
    for (region, year), value in sorted(known.items(), key=lambda one: one[0]):
        here = _is_code(region) if "region" in by else region == factor.get("region", "")
        if here:
            first = day_of(date(year, 1, 1)) if "date" in by and year else -(10**6)
            digits = digits_of(region) if "region" in by else ""
            rows.append(Row({}, digits, first, ends_of(value, size)))
    if "date" in by:
        return rows
    return list({row.digits: row for row in rows}.values())


def _is_code(region: str) -> bool:
    return region.isdigit() or not region


def _row(row: Mapping[str, Any], by: list[str], size: Fraction) -> Row:
    return Row(
        {name: row[name] for name in by if name not in {"region", "date"}},
        digits_of(row.get("region", "")) if "region" in by else "",
        day_of(row["from_date"]) if "date" in by else -(10**6),
        ends_of(row, size),
    )


def ends_of(row: Mapping[str, Any], size: Fraction) -> Ends:
    """Value, low and high of a row in base units."""
    value, low, high = (Fraction(row.get(end, row["value"])) for end in ("value", "low", "high"))
    return value * size, low * size, high * size


def digits_of(region: str) -> str:
    """What the codes of all places in a region begin with: 440300 holds 440305."""
    while region.endswith("00"):
        region = region[:-2]
    return region


def day_of(when: date) -> int:
    """Days since 1970-01-01."""
    return (when - _EPOCH).days
