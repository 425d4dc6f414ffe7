"""Assessing what the activity feed brings: recordings first, then what withdrawals change.

The order inside one run does not matter for the outcome: a cap window is a pure function of
its surviving acts in record order, so withdrawals are settled by evaluating the survivors of
the windows they touch and writing down what differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.assess import (
    Acts,
    Assessed,
    ClassBook,
    Rulebook,
    Verdict,
    assess,
)
from services.calculation.domain.evaluate import NothingUsed, Usage, months_of
from services.calculation.domain.methodology import Cap
from services.calculation.domain.windows import CapMemory, differences, withdrawn
from shared.ids import date_to_day

Ints = NDArray[np.int64]


class Book(Protocol):
    """What assessing needs of storage; see `storage.book.Book`."""

    def write(self, assessed: Assessed, delta: Ints | None) -> None: ...
    def read_days(self, shards: Ints, first_day: int, last_day: int) -> Assessed: ...
    def newest(self, shard: int, activity_position: int) -> Assessed | None: ...


class _Fresh(NothingUsed):
    """Windows evaluated from nothing: usage is only counted, in `usages`."""

    def __init__(self) -> None:
        self.usages: list[tuple[str, Usage]] = []
        self._used: dict[tuple[str, int, int], int] = {}

    def used_before(self, cap_key: str, accounts: Ints, windows: Ints) -> Ints:
        pairs = zip(accounts.tolist(), windows.tolist(), strict=True)
        return np.array([self._used.get((cap_key, *pair), 0) for pair in pairs], np.int64)

    def remember(self, cap_key: str, usage: Usage) -> None:
        self.usages.append((cap_key, usage))
        rows = zip(
            usage.accounts.tolist(), usage.windows.tolist(), usage.used.tolist(), strict=True
        )
        for account, window, used in rows:
            self._used[cap_key, account, window] = used


def record_assessments(
    acts: Acts, rules: Rulebook, *, book: Book, caps: CapMemory, classes: ClassBook
) -> None:
    """Assesses new activities and writes the assessments."""
    if len(acts):
        book.write(assess(acts, rules, caps=caps, classes=classes), None)


def take_back(
    targets: list[tuple[int, int]],
    rules: Rulebook,
    *,
    book: Book,
    caps: CapMemory,
    classes: ClassBook,
) -> None:
    """Withdraws the activities at `targets` (shard, position) and re-assesses their windows."""
    touched: list[Assessed] = []
    for shard, position in sorted(set(targets)):
        before = book.newest(shard, position)
        if before is None or before.verdict[0] == Verdict.WITHDRAWN:
            continue
        book.write(withdrawn(before), -before.amount)
        touched.append(before)
    for before in touched:
        cap = _cap_of(before, rules)
        if cap is not None:
            _restate_window(before, cap, rules, book=book, caps=caps, classes=classes)


def _restate_window(
    touched: Assessed,
    cap: Cap,
    rules: Rulebook,
    *,
    book: Book,
    caps: CapMemory,
    classes: ClassBook,
) -> None:
    """Evaluates the survivors of one account's window from nothing; writes what differs."""
    first, last = days_of(cap, int(touched.acts.civil_day[0]))
    shard = touched.acts.shard[:1]
    before = book.read_days(shard, first, last)
    before = before.take(
        (before.acts.account_id == touched.acts.account_id[0])
        & (before.verdict != Verdict.WITHDRAWN)
    )
    fresh = _Fresh()
    after = assess(before.acts, rules, caps=fresh, classes=classes)
    restated = differences(before, after)
    book.write(restated.assessed, restated.delta)
    account, window = touched.acts.account_id[:1], window_of(cap, touched.acts.civil_day[:1])
    caps.used_before(cap.key, account, window)
    caps.remember(cap.key, Usage(account, window, np.zeros(1, np.int64)))
    for key, usage in fresh.usages:
        caps.used_before(key, usage.accounts, usage.windows)
        caps.remember(key, usage)


def used_in(
    cap_key: str, shards: Ints, windows: Ints, rules: Rulebook, book: Book, classes: ClassBook
) -> Mapping[tuple[int, int], int]:
    """What every account of `shards` has used of a cap in `windows`, from what is stored."""
    cap = next(
        version.caps[0]
        for entry in rules.programme.entries
        for version in entry.methodology.versions
        if version.caps and version.caps[0].key == cap_key
    )
    first = min(_days_of_window(cap, int(windows.min())))
    last = max(_days_of_window(cap, int(windows.max())))
    stored = book.read_days(shards, first, last)
    survivors = stored.take(stored.verdict != Verdict.WITHDRAWN)
    fresh = _Fresh()
    assess(survivors.acts, rules, caps=fresh, classes=classes)
    return {
        (account, window): used
        for key, usage in fresh.usages
        if key == cap_key
        for account, window, used in zip(
            usage.accounts.tolist(), usage.windows.tolist(), usage.used.tolist(), strict=True
        )
    }


def window_of(cap: Cap, days: Ints) -> Ints:
    """The window of each civil day: the day itself, or its month as year * 12 + month - 1."""
    return days if cap.window == "day" else months_of(days)


def days_of(cap: Cap, day: int) -> tuple[int, int]:
    """First and last civil day of the window that `day` lies in."""
    return _days_of_window(cap, int(window_of(cap, np.array([day]))[0]))


def _days_of_window(cap: Cap, window: int) -> tuple[int, int]:
    if cap.window == "day":
        return window, window
    first = date_to_day(_month_start(window))
    return first, date_to_day(_month_start(window + 1)) - 1


def _month_start(month: int) -> date:
    return date(month // 12, month % 12 + 1, 1)


def _cap_of(assessed: Assessed, rules: Rulebook) -> Cap | None:
    """The cap that the rule of this one assessment has, if any."""
    acts = assessed.acts
    scene = rules.scenes[int(acts.scene[0])].scene
    credit = rules.programme.credit_for(scene, int(acts.region[0]), int(acts.civil_day[0]))
    return credit.version.caps[0] if credit and credit.version.caps else None
