"""Caps in memory, and what changes when an activity is withdrawn.

The state of a window is a pure function of its surviving acts in record order. Memory is
only a shortcut: a window that is not remembered is computed from the acts themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.assess import Assessed, Verdict
from services.calculation.domain.evaluate import Usage

Ints = NDArray[np.int64]
WINDOWS_MAX = 4_000_000  # remembered (account, window) pairs; about 600 MB of a worker

Load = Callable[[str, Ints, Ints], Mapping[tuple[int, int], int]]
"""(cap key, shards, windows) -> what is used, for every account of those shards and windows."""


@dataclass
class CapMemory:
    """How much of each cap every account has used, for the windows that were met.

    On the first meeting of a window in a shard, `load` computes it from what is stored; from
    then on this worker, which alone handles the shard, keeps it.
    """

    load: Load
    _used: dict[tuple[str, int, int], dict[int, int]] = field(default_factory=dict)
    _pairs: int = 0

    def used_before(self, cap_key: str, accounts: Ints, windows: Ints) -> Ints:
        """What each (account, window) had used."""
        shards = accounts & 63
        missing = [
            (shard, window)
            for shard, window in set(zip(shards.tolist(), windows.tolist(), strict=True))
            if (cap_key, shard, window) not in self._used
        ]
        if missing:
            self._fill(cap_key, missing)
        used = self._used
        return np.fromiter(
            (
                used[cap_key, account & 63, window].get(account, 0)
                for account, window in zip(accounts.tolist(), windows.tolist(), strict=True)
            ),
            np.int64,
            len(accounts),
        )

    def remember(self, cap_key: str, usage: Usage) -> None:
        """What is used now."""
        used = self._used
        for account, window, amount in zip(
            usage.accounts.tolist(), usage.windows.tolist(), usage.used.tolist(), strict=True
        ):
            used[cap_key, account & 63, window][account] = amount
        self._pairs += len(usage.accounts)  # counts a pair again when met again: an upper bound

    def trim(self) -> None:
        """Drops everything when it is too much; to be called where all that was remembered is
        stored, for what is dropped is loaded again."""
        if self._pairs > WINDOWS_MAX:
            self.forget()

    def forget(self) -> None:
        """Drops everything; what is needed again is loaded again."""
        self._used.clear()
        self._pairs = 0

    def _fill(self, cap_key: str, missing: list[tuple[int, int]]) -> None:
        for place in missing:
            self._used[cap_key, *place] = {}
        shards = np.unique(np.array([shard for shard, _ in missing], np.int64))
        windows = np.unique(np.array([window for _, window in missing], np.int64))
        wanted = set(missing)
        for (account, window), amount in self.load(cap_key, shards, windows).items():
            if (account & 63, window) in wanted:
                self._used[cap_key, account & 63, window][account] = amount


@dataclass(frozen=True)
class Restated:
    """New assessments that take the place of earlier ones; `delta` is what they change.

    `previous_class` is the class of the one before where it is another, 0 elsewhere: its amount,
    amount - delta, leaves that class, and the new amount comes into the new one.
    """

    assessed: Assessed
    delta: Ints
    previous_class: Ints


def differences(before: Assessed, after: Assessed, assets: Mapping[int, str]) -> Restated:
    """Those of `after` that differ from `before` (the same acts, element by element).

    `assets` says what the classes count that an act left or came into: as many points as there
    were milligrams are not the same.
    """
    delta = after.amount - before.amount
    moved = np.flatnonzero(after.asset_class != before.asset_class)
    other = np.zeros(len(delta), np.bool_)
    pairs = zip(before.asset_class[moved].tolist(), after.asset_class[moved].tolist(), strict=True)
    other[moved] = [assets.get(old) != assets.get(new) for old, new in pairs]
    changed = np.flatnonzero((delta != 0) | (after.verdict != before.verdict) | other)
    old, new = before.asset_class[changed], after.asset_class[changed]
    return Restated(after.take(changed), delta[changed], np.where(old == new, 0, old))


def withdrawn(before: Assessed) -> Restated:
    """The same acts, withdrawn: they earn nothing and keep the class they had."""
    zeros = np.zeros(len(before.acts), np.int64)
    gone = replace(before, amount=zeros, verdict=zeros + Verdict.WITHDRAWN)
    return Restated(gone, -before.amount, zeros)
