"""An account's own past: what its earlier acts came to on each of the days before.

Only acts that were recorded before count, so a late act never changes what an earlier one was
credited; a withdrawal does, and the acts after it are assessed again.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.caps import CapStore
from services.calculation.domain.rule import History

Ints = NDArray[np.int64]


def mean_times(history: History) -> int:
    """How many times finer than the measure a mean is counted: it is whole in these parts."""
    return math.lcm(*range(history.days_least, history.days + 1))


def mean_of(history: History, sums: list[int]) -> int:
    """The mean of the sums of the days on record, in parts; 0 with fewer than `days_least`."""
    if len(sums) < history.days_least:
        return 0
    return sum(sums) * (mean_times(history) // len(sums))


def read_history(
    history: History, amounts: Ints, counts: NDArray[np.bool_], accounts: Ints, days: Ints,
    store: CapStore,
) -> tuple[Ints, tuple[Ints, Ints, Ints]]:  # fmt: skip
    """The mean before each act, in parts, and what is remembered of each (account, day) after.

    `counts` says which acts are part of the past of later ones. What is remembered is the sum
    of the day plus one, so that 0 means that nothing is on record; a sum is at most `max`.
    """
    rows = list(zip(accounts.tolist(), days.tolist(), strict=True))
    wanted = sorted({(a, d - back) for a, d in rows for back in range(history.days + 1)})
    known = np.array(wanted, np.int64)
    read = store.used_before(history.key, known[:, 0].copy(), known[:, 1].copy())
    past = {pair: value for pair, value in zip(wanted, read.tolist(), strict=True) if value}
    means = np.zeros(len(rows), np.int64)
    told = zip(rows, amounts.tolist(), counts.tolist(), strict=True)
    for place, ((account, day), amount, counted) in enumerate(told):
        sums = [
            past[account, day - back] - 1
            for back in range(1, history.days + 1)
            if (account, day - back) in past
        ]
        means[place] = mean_of(history, sums)
        if counted:
            sum_before = past.get((account, day), 1)
            past[account, day] = min(sum_before - 1 + amount, history.max) + 1
    touched = sorted(set(rows))
    after = np.array([(*pair, past.get(pair, 0)) for pair in touched], np.int64)
    return means, (after[:, 0].copy(), after[:, 1].copy(), after[:, 2].copy())
