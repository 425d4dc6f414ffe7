"""Factors that depend on an act's labels, region or day: one row fits each act, or none.

Of the rows with the act's labels, those of the most specific region that holds it count, and
of these the latest that began by its day.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

REGION, DATE = "region", "date"
_INT64_MAX = 2**63 - 1
EVER = -(2**31)
"""The first day of a row that has held as long as anyone knows."""


@dataclass(frozen=True)
class Row:
    """One case of a table. `codes` are label codes in the table's order; `region_prefix` is a
    region code without its trailing pairs of zeros; `ends` are value, low and high in base units.
    """

    codes: tuple[int, ...]
    region_prefix: str
    from_day: int
    ends: tuple[Fraction, Fraction, Fraction]
    value: str
    low: str
    high: str
    source: str
    page: str
    status: str


@dataclass(frozen=True)
class Table:
    """The rows of one factor, and what of an act chooses one: `labels`, its region, its day."""

    labels: tuple[str, ...]
    by_region: bool
    by_date: bool
    rows: tuple[Row, ...]

    @cached_property
    def scale(self) -> Fraction:
        """Every value of the table is a whole number of this."""
        return Fraction(1, math.lcm(*(end.denominator for row in self.rows for end in row.ends)))

    @cached_property
    def wholes(self) -> tuple[tuple[int, ...], ...]:
        """For each row, value, low and high in units of `scale`."""
        return tuple(tuple(int(end / self.scale) for end in row.ends) for row in self.rows)

    @cached_property
    def columns(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """`wholes` as columns over the rows: int64, or Python's integers where one is too wide."""
        wide = any(abs(whole) > _INT64_MAX for ends in self.wholes for whole in ends)
        table = np.array(self.wholes, object if wide else np.int64)
        return table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy()

    @cached_property
    def _order(self) -> list[int]:
        """Rows, the most specific region first, and the latest day first within one."""
        rows = self.rows
        return sorted(
            range(len(rows)), key=lambda n: (-len(rows[n].region_prefix), -rows[n].from_day)
        )

    def row_for(self, codes: Sequence[int], region: int, day: int) -> int:
        """The number of the row that fits, -1 without one; region 0 is an unknown one."""
        place = f"{region:06d}" if region else ""
        fitting = (
            number
            for number in self._order
            if self.rows[number].codes == tuple(codes)
            and place.startswith(self.rows[number].region_prefix)
        )
        chosen = -1
        for number in fitting:
            row = self.rows[number]
            if chosen >= 0 and row.region_prefix != self.rows[chosen].region_prefix:
                break
            if row.from_day <= day:
                return number
            chosen = number  # of the right region, but it begins later; an earlier one may follow
        return -1

    def rows_for(self, labels: Mapping[str, Ints], regions: Ints, days: Ints) -> Ints:
        """`row_for` of every act; all columns have one length of at least 1."""
        # Region and day take 20 and 29 bits, and at most two labels 7 each.
        key = np.zeros(len(days), np.int64)
        for name in self.labels:
            key = key << 7 | np.clip(labels[name], 0, 127)
        key = (key << 20 | regions) if self.by_region else key << 20
        key = (key << 29 | days) if self.by_date else key << 29
        if key[0] == key[-1] and bool((key == key[0]).all()):
            return np.full(len(days), self._row_of_key(int(key[0])))
        kinds, kind_of = np.unique(key, return_inverse=True)
        return np.array([self._row_of_key(kind) for kind in kinds.tolist()], np.int64)[kind_of]

    def _row_of_key(self, key: int) -> int:
        codes = [key >> 49 & 127, key >> 56][: len(self.labels)]
        return self.row_for(codes[::-1], key >> 29 & 0xFFFFF, key & 0x1FFFFFFF)
