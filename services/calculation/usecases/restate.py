"""Restating: recorded months are evaluated again under the library of today, piece by piece.

A piece is one month of some shards, or of a slice of one's accounts where the month is large. What
differs is written as superseding assessments; the feed carries the differences to the ledger.
The worker that assesses a shard restates it too, between runs of new activities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.assess import ClassBook, Rulebook
from services.calculation.domain.windows import Restated
from services.calculation.usecases.assess_events import (
    Among,
    Classes,
    Days,
    Stored,
    days_of_month,
    reassess,
)

Ints = NDArray[np.int64]
PIECE_ACTS = 100_000
"""Shards that have less in a month are gone over together, up to about so many acts."""
SLICE_ACTS = 500_000
"""A shard that has more in a month is gone over in slices of its accounts."""


@dataclass(frozen=True)
class Unit:
    """Where a restatement is in one shard: the next month, and slice of its accounts."""

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

    def parts(self) -> Iterator[tuple[int, str, Ints, Ints, Ints]]:
        """Shard, asset, accounts ascending, acts changed, and delta of each account."""
        shard = self.account_id & 63
        for number in np.unique(shard).tolist():
            for code, asset in enumerate(self.assets):
                rows = np.flatnonzero((shard == number) & (self.asset == code))
                if len(rows):
                    yield number, asset, self.account_id[rows], self.acts[rows], self.delta[rows]


class Book(Stored, Classes, Protocol):
    """What restating needs of assessments; see `storage.book.Book`."""

    def supersede(self, restated: Restated, restatement: int | None = None) -> None: ...
    def count_acts(self, shards: Sequence[int], days: Days) -> Mapping[int, int]: ...


class Restatements(Protocol):
    """Where restatements are kept; see `storage.restatements.Restatements`."""

    def waiting(self, shards: Sequence[int]) -> list[Unit]: ...
    def note(self, unit: Unit, acts: int, changes: Changes) -> None: ...
    def advance(self, units: Sequence[Unit], onward: Sequence[Unit]) -> None: ...


def restate_piece(
    shards: Sequence[int],
    rules: Rulebook,
    *,
    book: Book,
    classes: ClassBook,
    restatements: Restatements,
    piece_acts: int = PIECE_ACTS,
    slice_acts: int = SLICE_ACTS,
) -> bool:
    """Goes over one piece of what waits of these shards, to be one transaction; whether it did."""
    waiting = restatements.waiting(shards)
    if not waiting:
        return False
    month = waiting[0].month
    days = days_of_month(month)
    acts = book.count_acts([unit.shard for unit in waiting], days)
    empty = [unit for unit in waiting if not acts.get(unit.shard)]
    filled = [unit for unit in waiting if acts.get(unit.shard)]
    if empty:
        restatements.advance(empty, [replace(unit, month=month + 1) for unit in empty])
    if not filled:
        return True
    units, slices = _piece(filled, acts, piece_acts, slice_acts)
    again = reassess(
        np.array([unit.shard for unit in units]), days, rules, book=book, classes=classes,
        among=slice_of(units[0].slice, slices) if slices > 1 else None,
    )  # fmt: skip
    restated = again.differences(book)
    book.supersede(restated, units[0].restatement)
    restatements.note(units[0], len(again.before.acts), changes_of(restated, book))
    restatements.advance(units, [_onward(unit, slices) for unit in units])
    return True


def _piece(
    waiting: Sequence[Unit], acts: Mapping[int, int], piece_acts: int, slice_acts: int
) -> tuple[list[Unit], int]:
    """The units of the next piece, and of how many slices it is one."""
    first = waiting[0]
    # Decided once a month: accounts must not change their slice while acts go on coming.
    slices = first.slices if first.slice else -(-acts[first.shard] // slice_acts)
    if slices > 1:
        return [first], slices
    units, weight = [first], acts[first.shard]
    for unit in waiting[1:]:
        weight += acts[unit.shard]
        if weight > piece_acts or unit.slice:
            break
        units.append(unit)
    return units, 1


def _onward(unit: Unit, slices: int) -> Unit:
    if unit.slice + 1 < slices:
        return replace(unit, slice=unit.slice + 1, slices=slices)
    return replace(unit, month=unit.month + 1, slice=0, slices=1)


def slice_of(number: int, slices: int) -> Among:
    """Accounts by what their number leaves when divided; its lowest six bits are the shard."""
    return lambda accounts: (accounts >> 6) % slices == number


def changes_of(restated: Restated, classes: Classes) -> Changes:
    """What each account gains or loses of each asset; an asset is what a class counts.

    An act is counted wherever its amount changed: in both assets when it counts another now, and
    nowhere when it earns what it earned and only the verdict is another.
    """
    after = restated.assessed
    new = after.asset_class
    old = np.where(restated.previous_class != 0, restated.previous_class, new)
    distinct, place = np.unique(np.concatenate([new, old]), return_inverse=True)
    names = classes.assets_of(distinct.tolist())
    assets = tuple(sorted(set(names.values())))
    numbers = {code: assets.index(name) for code, name in names.items()}
    # Two lines an act: what comes and what goes, which are one where the asset is the same.
    asset = np.array([numbers.get(code, -1) for code in distinct.tolist()], np.int64)[place]
    come, gone = np.split(asset, 2)
    comes = np.where(come == gone, restated.delta, after.amount)
    goes = np.where(come == gone, 0, restated.delta - after.amount)
    amounts = np.concatenate([comes, goes])
    kept = np.flatnonzero((asset >= 0) & (amounts != 0))
    account = np.concatenate([after.acts.account_id] * 2)[kept]
    asset = asset[kept]
    order = np.lexsort((account, asset))
    asset, account = asset[order], account[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (asset[1:] != asset[:-1]) | (account[1:] != account[:-1])
    starts = np.flatnonzero(begins)
    acts, delta = (
        np.add.reduceat(column[order], starts) if len(starts) else account
        for column in (np.ones_like(kept), amounts[kept])
    )
    return Changes(len(after.acts), assets, asset[starts], account[starts], acts, delta)
