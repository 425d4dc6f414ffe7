"""Restating: recorded months are evaluated again under the library of today, piece by piece.

A piece is one month of one shard, or a slice of its accounts where the month is large. What
differs is written as superseding assessments; the feed carries the differences to the ledger.
The worker that assesses a shard restates it too, between runs of new activities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.assess import Assessed, ClassBook, Rulebook
from services.calculation.domain.windows import Restated
from services.calculation.usecases.assess_events import Among, Days, days_of_month, reassess

Ints = NDArray[np.int64]
SLICE_ACTS = 1_000_000
"""About so many acts are evaluated in one piece."""


@dataclass(frozen=True)
class Unit:
    """A piece of a restatement: the next month and slice of a shard."""

    restatement: int
    shard: int
    month: int
    slice: int
    slices: int
    last_month: int


@dataclass(frozen=True)
class Changes:
    """What a piece changed; one row for each (asset, account), ascending by both."""

    count: int
    assets: tuple[str, ...]
    asset: Ints
    account_id: Ints
    acts: Ints
    delta: Ints

    @property
    def gained(self) -> int:
        """All that accounts gained."""
        return int(self.delta[self.delta > 0].sum())

    @property
    def lost(self) -> int:
        """All that accounts lost, as a positive number."""
        return -int(self.delta[self.delta < 0].sum())

    def by_asset(self) -> Iterator[tuple[str, Ints, Ints, Ints]]:
        """Asset, accounts ascending, acts changed, and delta of each account."""
        for code, asset in enumerate(self.assets):
            rows = np.flatnonzero(self.asset == code)
            if len(rows):
                yield asset, self.account_id[rows], self.acts[rows], self.delta[rows]


class Book(Protocol):
    """What restating needs of assessments; see `storage.book.Book`."""

    def read_days(
        self, shards: Ints, first_day: int, last_day: int, among: Among | None = None
    ) -> Assessed: ...
    def write(self, assessed: Assessed) -> None: ...
    def newest(self, shard: int, activity_position: int) -> Assessed | None: ...
    def supersede(self, restated: Restated, restatement: int | None = None) -> None: ...
    def count_acts(self, shards: Sequence[int], days: Days) -> int: ...
    def assets_of(self, codes: Sequence[int]) -> Mapping[int, str]: ...


class Restatements(Protocol):
    """Where restatements are kept; see `storage.restatements.Restatements`."""

    def advance(self, unit: Unit, onward: Unit, acts: int, changes: Changes) -> None: ...


def restate_unit(
    unit: Unit,
    rules: Rulebook,
    *,
    book: Book,
    classes: ClassBook,
    restatements: Restatements,
    slice_acts: int = SLICE_ACTS,
) -> None:
    """Goes over one piece and moves the shard on to the next; to be one transaction."""
    days, slices = days_of_month(unit.month), unit.slices
    if unit.slice == 0:
        # Decided once a month: accounts must not change their slice while acts go on coming.
        slices = max(1, -(-book.count_acts([unit.shard], days) // slice_acts))
    again = reassess(
        np.array([unit.shard]), days, rules, book=book, classes=classes,
        among=slice_of(unit.slice, slices) if slices > 1 else None,
    )  # fmt: skip
    book.supersede(again.restated, unit.restatement)
    last = unit.slice + 1 >= slices
    restatements.advance(
        unit,
        replace(unit, month=unit.month + 1, slice=0, slices=1)
        if last
        else replace(unit, slice=unit.slice + 1, slices=slices),
        len(again.before.acts),
        changes_of(again.restated, book),
    )


def slice_of(number: int, slices: int) -> Among:
    """Accounts by what their number leaves when divided; its lowest six bits are the shard."""
    return lambda accounts: (accounts >> 6) % slices == number


def changes_of(restated: Restated, book: Book) -> Changes:
    """What each account gains or loses of each asset; an asset is what a class counts."""
    after = restated.assessed
    new = after.asset_class
    old = np.where(restated.previous_class != 0, restated.previous_class, new)
    # Two lines an act: the new amount comes, the old one goes; it is counted in one of them.
    codes = np.concatenate([new, old])
    amounts = np.concatenate([after.amount, restated.delta - after.amount])
    counted = np.concatenate([new != 0, (new == 0) & (old != 0)]).astype(np.int64)
    kept = np.flatnonzero(codes)
    distinct, place = np.unique(codes[kept], return_inverse=True)
    names = book.assets_of(distinct.tolist())
    assets = tuple(sorted(set(names.values())))
    asset = np.array([assets.index(names[code]) for code in distinct.tolist()], np.int64)[place]
    account = np.concatenate([after.acts.account_id] * 2)[kept]
    order = np.lexsort((account, asset))
    asset, account = asset[order], account[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (asset[1:] != asset[:-1]) | (account[1:] != account[:-1])
    starts = np.flatnonzero(begins)
    acts, delta = (
        np.add.reduceat(column[kept][order], starts) if len(starts) else account
        for column in (counted, amounts)
    )
    return Changes(len(after.acts), assets, asset[starts], account[starts], acts, delta)
