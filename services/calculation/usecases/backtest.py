"""Going over what is recorded under another library, writing nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.assess import Rulebook
from services.calculation.domain.tally import DraftClasses, Tally
from services.calculation.usecases.assess_events import (
    Classes,
    Days,
    Stored,
    days_of_month,
    reassess,
)
from services.calculation.usecases.restate import SLICE_ACTS, slice_of
from shared.ids import SHARDS

Ints = NDArray[np.int64]
MONTHS_MAX = 120
Piece = tuple[list[int], int, int, int]
"""Shards, month, slice, and how many slices there are."""


class Book(Stored, Classes, Protocol):
    """What a backtest reads; see `storage.book.Book`."""

    def count_acts(self, shards: Sequence[int], days: Days) -> Mapping[int, int]: ...


def pieces_of(
    first_month: int, last_month: int, *, book: Book, slice_acts: int = SLICE_ACTS
) -> list[Piece]:
    """Every piece of some months: about `slice_acts` acts each at most.

    Small shards are gone over together, so that little history is a few pieces.
    """
    pieces: list[Piece] = []
    for month in range(first_month, last_month + 1):
        together: list[int] = []
        weight = 0
        counts = book.count_acts(range(SHARDS), days_of_month(month))
        for shard, acts in sorted(counts.items()):
            slices = -(-acts // slice_acts)
            if slices > 1:
                pieces += [([shard], month, number, slices) for number in range(slices)]
            elif acts:
                if weight + acts > slice_acts:
                    pieces.append((together, month, 0, 1))
                    together, weight = [], 0
                together.append(shard)
                weight += acts
        if together:
            pieces.append((together, month, 0, 1))
    return pieces


def backtest_piece(
    piece: Piece,
    rules: Rulebook,
    tally: Tally,
    classes: DraftClasses,
    *,
    book: Book,
) -> None:
    """Adds one piece to the tally."""
    shards, month, number, slices = piece
    again = reassess(
        np.array(shards), days_of_month(month), rules, book=book, classes=classes,
        among=slice_of(number, slices) if slices > 1 else None,
    )  # fmt: skip
    kept = np.unique(again.before.asset_class)
    assets = dict(book.assets_of(kept[kept > 0].tolist()))
    tally.add(again.before, again.after, {**assets, **classes.assets})
