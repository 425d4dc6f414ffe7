"""Caps over columns: the act's, the day's, the month's, each of what the one before has left.

A cap is used up in the order of the columns, which is the order in which acts were recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.grouping import Groups, group, months_of
from services.calculation.domain.rule import Cap

Ints = NDArray[np.int64]
Again = Callable[[NDArray[np.intp], Mapping[str, Ints]], Ints]
"""Rows and their trimmed measures -> what the formula comes to for them."""


class CapStore(Protocol):
    """Remembers what earlier acts left behind: what of a cap is used, what a day came to."""

    def used_before(self, cap_key: str, accounts: Ints, windows: Ints) -> Ints:
        """What was left under that key, for each of these distinct (account, window) pairs."""
        ...


class NothingUsed:
    """A store in which nothing was ever left."""

    def used_before(self, cap_key: str, accounts: Ints, windows: Ints) -> Ints:
        """Zero for every pair."""
        return np.zeros(len(accounts), np.int64)


@dataclass(frozen=True)
class Usage:
    """What is left behind after a call, for each distinct (account, window) of it."""

    accounts: Ints
    windows: Ints
    used: Ints


@dataclass
class State:
    """What acts come to while caps are applied: their measures, trimmed, and their results."""

    measures: dict[str, Ints]
    results: Ints
    again: Again
    below_zero: bool
    """Whether a result may be below zero; such a one asks for nothing and stays."""

    def apply(self, cap: Cap, granted: Ints, asked: Ints) -> None:
        """Leaves what `granted` of `asked` comes to."""
        if cap.of in {"count", "result"}:
            earns = self.results * granted if cap.of == "count" else granted
            if self.below_zero:
                earns = np.where(self.results < 0, self.results, earns)
            self.results = earns
            return
        cut = np.flatnonzero(granted < asked)
        if not len(cut):
            return
        trimmed = self.measures[cap.of].copy()
        trimmed[cut] = granted[cut]
        self.measures[cap.of] = trimmed
        again = self.again(cut, {name: column[cut] for name, column in self.measures.items()})
        self.results = self.results.copy()
        self.results[cut] = np.minimum(np.where(granted[cut] > 0, again, 0), self.results[cut])


def apply_cap(
    cap: Cap, state: State, *, accounts: Ints, days: Ints, store: CapStore, trace: bool
) -> tuple[Ints, Usage] | None:
    """Applies one cap; what each act found used and what is used after; None for the act's own."""
    asked = _asked(cap, state)
    if cap.window == "act":
        state.apply(cap, np.minimum(asked, cap.amount), asked)
        return None
    groups = group(accounts, days if cap.window == "day" else months_of(days))
    before, granted, after = _spend(cap, asked, groups, store)
    if groups.order is not None:
        granted = _scattered(granted, groups.order)
        before = _scattered(before, groups.order) if trace else before
    state.apply(cap, granted, asked)
    return before, Usage(groups.accounts, groups.windows, after)


def _asked(cap: Cap, state: State) -> Ints:
    """What each act asks of the cap; an act that would earn nothing asks for nothing."""
    if cap.of == "result":
        return np.clip(state.results, 0, cap.amount + 1)
    earns = state.results > 0
    if cap.of == "count":
        return earns.view(np.int8).astype(np.int64)
    # One more than the amount is as much too much as any greater number, and cannot overflow.
    return np.minimum(state.measures[cap.of], cap.amount + 1) * earns


def _spend(cap: Cap, asked: Ints, groups: Groups, store: CapStore) -> tuple[Ints, Ints, Ints]:
    """Used before each act, granted to it (both in group order), and used after each group.

    After an act min(amount, used at the start + all asked so far) is used. A window that had
    used more than the amount (it was greater on another day) stays as it is.
    """
    start = np.asarray(store.used_before(cap.key, groups.accounts, groups.windows), np.int64)
    ceiling: int | Ints = cap.amount
    if start.max() > cap.amount:
        ceiling = np.maximum(start, cap.amount)
    if groups.order is None:
        after = np.minimum(start + asked, ceiling)
        return start, after - start, after
    asked = asked[groups.order]
    after = np.cumsum(asked)
    before = after - asked
    offset = np.repeat(start - before[groups.starts], groups.lengths)
    if isinstance(ceiling, np.ndarray):
        ceiling = np.repeat(ceiling, groups.lengths)
    for column in (before, after):
        np.add(column, offset, out=column)
        np.minimum(column, ceiling, out=column)
    return before, after - before, after[groups.starts + groups.lengths - 1]


def _scattered(column: Ints, order: NDArray[np.intp]) -> Ints:
    out = np.empty_like(column)
    out[order] = column
    return out
