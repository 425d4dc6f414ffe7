"""Random acts whose numbers lie near the borders that a rule has: ranges, caps, days, regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.methodology import Version
from services.calculation.domain.rule import Measure
from tests.calculation.domain.oracle import Act
from tests.calculation.domain.oracle_formula import size_of

Ints = NDArray[np.int64]
FIRST_DAY, DAYS = 20_530, 46  # 2026-03-18 to 2026-05-02: two ends of a month inside


@dataclass(frozen=True)
class Columns:
    """Acts in record order as the evaluator takes them; labels are codes from 1, 0 unknown."""

    accounts: Ints
    days: Ints
    grades: Ints
    regions: Ints
    labels: dict[str, Ints]
    measures: dict[str, Ints]

    def __len__(self) -> int:
        return len(self.accounts)

    def take(self, rows: slice | Sequence[int] | NDArray[np.intp]) -> Columns:
        """The acts at `rows`, in that order."""
        return Columns(
            self.accounts[rows], self.days[rows], self.grades[rows], self.regions[rows],
            {name: column[rows] for name, column in self.labels.items()},
            {name: column[rows] for name, column in self.measures.items()},
        )  # fmt: skip

    def at(self, *, account: int, day: int) -> Columns:
        """The same acts, all of one account on one day."""
        ones = np.ones(len(self), np.int64)
        return replace(self, accounts=ones * account, days=ones * day)

    def acts(self, version: Version) -> list[Act]:
        """The acts one by one, with the words of their labels."""
        values = {label.name: label.values for label in version.labels}
        acts = []
        for place in range(len(self)):
            codes = {name: int(column[place]) for name, column in self.labels.items()}
            acts.append(
                Act(
                    account=int(self.accounts[place]), day=int(self.days[place]),
                    measures={name: int(c[place]) for name, c in self.measures.items()},
                    grade=int(self.grades[place]), region=int(self.regions[place]),
                    labels={
                        name: values[name][code - 1]
                        for name, code in codes.items()
                        if 1 <= code <= len(values[name])
                    },
                )
            )  # fmt: skip
        return acts


def random_columns(
    version: Version, count: int, seed: int, accounts: int = 60, people: int = 0
) -> Columns:
    """`count` acts of some accounts; `people` chooses the accounts, by default with the seed."""
    draw = np.random.default_rng(seed)
    names = np.random.default_rng(people or seed).integers(1, 2**63 - 1, accounts)
    who = draw.integers(0, accounts, count)
    return Columns(
        accounts=names[who],
        days=_days(version, who, draw),
        grades=draw.choice([0, 1, 1, 1, 1, 2, 2, 3], count),
        regions=draw.choice(_regions(version), count),
        labels={label.name: _codes(len(label.values), count, draw) for label in version.labels},
        measures={m.name: _amounts(version, m, count, draw) for m in version.measures},
    )


def _days(version: Version, who: Ints, draw: np.random.Generator) -> Ints:
    # Some accounts have acts on one day alone, others on nearly all: a past of every length.
    busy = np.array([
        np.random.default_rng(person).permutation(DAYS)[draw.integers(0, 1 + person % DAYS, DAYS)]
        for person in range(int(who.max()) + 1)
    ])  # fmt: skip
    days = FIRST_DAY + busy[who, draw.integers(0, DAYS, len(who))]
    begins = [row.from_day for f in version.factors if f.table for row in f.table.rows]
    switches = sorted({day + by for day in begins if day > 0 for by in (-1, 0, 1)})
    if switches:
        days = np.where(draw.random(len(who)) < 0.15, draw.choice(switches, len(who)), days)
    return days.astype(np.int64)


def _regions(version: Version) -> list[int]:
    digits = {row.region_prefix for f in version.factors if f.table for row in f.table.rows}
    codes = {f"{one}{tail}"[:6].ljust(6, "0") for one in digits if one
             for tail in ("", "00", "0105", "0500", "05")}  # fmt: skip
    return [0, 110_101, 440_000, 440_300, 440_305, 999_999, *sorted(map(int, codes))]


def _codes(values: int, count: int, draw: np.random.Generator) -> Ints:
    codes = draw.integers(1, values + 1, count)
    return np.where(draw.random(count) < 0.04, draw.choice([0, values + 1], count), codes)


def _amounts(version: Version, measure: Measure, count: int, draw: np.random.Generator) -> Ints:
    size, low, high = size_of(measure.unit), measure.min, measure.max
    borders = [low, high, 100, 1_000, 10_000, *(cap.amount for cap in version.caps)]
    borders += [int(version.values[f.key] / size) for f in version.factors if not f.table]
    near = draw.choice([b for b in borders if low <= b <= high], count)
    near = near + draw.integers(-1, 2, count)
    tops = np.minimum(draw.choice([50, 5_000, 50_000, high], count), high)
    inside = draw.integers(low, np.maximum(tops, low), endpoint=True)
    return np.where(draw.random(count) < 0.25, near, inside)
