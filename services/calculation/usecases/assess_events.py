"""Assessing what the activity feed brings: recordings first, then what withdrawals change.

The order inside one run does not matter for the outcome: what acts leave behind for later ones
is a pure function of the surviving acts in record order, so a withdrawal is settled by
evaluating the survivors of the days it can reach and writing down what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from services.calculation.domain.windows import CapMemory, Restated, differences, withdrawn
from shared.ids import date_to_day

Ints = NDArray[np.int64]
Days = tuple[int, int]
"""First and last of some civil days."""
Among = Callable[[Ints], NDArray[np.bool_]]
"""Which accounts of a column are meant."""


class Stored(Protocol):
    """What is stored of past assessments; see `storage.book.Book`."""

    def read_days(
        self, shards: Ints, first_day: int, last_day: int, among: Among | None = None
    ) -> Assessed: ...


class Classes(Protocol):
    """What classes count; see `storage.book.Book`."""

    def assets_of(self, codes: Sequence[int]) -> Mapping[int, str]: ...


class Book(Stored, Classes, Protocol):
    """What assessing needs of storage; see `storage.book.Book`."""

    def write(self, assessed: Assessed) -> None: ...
    def supersede(self, restated: Restated) -> None: ...
    def newest(self, shard: int, activity_position: int) -> Assessed | None: ...


class Fresh(NothingUsed):
    """A memory that starts empty and keeps, in `usages`, all that it was told."""

    def __init__(self) -> None:
        self.usages: list[tuple[str, Usage]] = []
        self._used: dict[tuple[str, int, int], int] = {}

    def used_before(self, cap_key: str, accounts: Ints, windows: Ints) -> Ints:
        """What it was told last of each pair."""
        if not self._used:
            return np.zeros(len(accounts), np.int64)
        pairs = zip(accounts.tolist(), windows.tolist(), strict=True)
        return np.array([self._used.get((cap_key, *pair), 0) for pair in pairs], np.int64)

    def remember(self, cap_key: str, usage: Usage) -> None:
        """Keeps it."""
        self.usages.append((cap_key, usage))
        rows = zip(
            usage.accounts.tolist(), usage.windows.tolist(), usage.used.tolist(), strict=True
        )
        for account, window, used in rows:
            self._used[cap_key, account, window] = used


@dataclass(frozen=True)
class Reassessed:
    """Surviving acts as they were assessed and as they would be now, and what they leave behind."""

    before: Assessed
    after: Assessed
    left_behind: Fresh

    def differences(self, classes: Classes) -> Restated:
        """The assessments that would be others."""
        old, new = self.before.asset_class, self.after.asset_class
        codes = np.unique(np.concatenate([old[old != new], new[old != new]]))
        assets = classes.assets_of(codes.tolist()) if len(codes) else {}
        return differences(self.before, self.after, assets)


def record_assessments(
    acts: Acts, rules: Rulebook, *, book: Book, caps: CapMemory, classes: ClassBook
) -> None:
    """Assesses new activities and writes the assessments."""
    if len(acts):
        book.write(assess(acts, rules, caps=caps, classes=classes))


def take_back(
    targets: list[tuple[int, int]],
    rules: Rulebook,
    *,
    book: Book,
    caps: CapMemory,
    classes: ClassBook,
) -> None:
    """Withdraws the activities at `targets` (shard, position); what they reach is assessed anew."""
    touched: list[Assessed] = []
    for shard, position in sorted(set(targets)):
        before = book.newest(shard, position)
        if before is None or before.verdict[0] == Verdict.WITHDRAWN:
            continue
        book.supersede(withdrawn(before))
        touched.append(before)
    for before in touched:
        if rules.keys_of(before.acts):
            _settle(before, rules, book=book, caps=caps, classes=classes)


def _settle(
    gone: Assessed, rules: Rulebook, *, book: Book, caps: CapMemory, classes: ClassBook
) -> None:
    """Assesses anew what one withdrawn activity can have reached, and remembers what is left."""
    days = reach_of(gone, rules)
    again = reassess(
        gone.acts.shard, days, rules, book=book, classes=classes,
        among=lambda accounts: accounts == gone.acts.account_id[0],
    )  # fmt: skip
    book.supersede(again.differences(book))
    account, day = gone.acts.account_id, gone.acts.civil_day
    nothing = np.zeros(1, np.int64)
    for key in rules.keys_of(gone.acts):
        window = months_of(day) if key in rules.month_keys else day
        _remember(key, Usage(account, window, nothing), caps)
    for key, usage in again.left_behind.usages:
        first, last = map(month_of, days) if key in rules.month_keys else days
        inside = (usage.windows >= first) & (usage.windows <= last)
        _remember(key, Usage(*(column[inside] for column in vars(usage).values())), caps)


def _remember(key: str, usage: Usage, caps: CapMemory) -> None:
    if len(usage.accounts):
        caps.used_before(key, usage.accounts, usage.windows)  # a window must be met to be kept
        caps.remember(key, usage)


def reassess(
    shards: Ints,
    days: Days,
    rules: Rulebook,
    *,
    book: Stored,
    classes: ClassBook,
    among: Among | None = None,
) -> Reassessed:
    """What evaluating the survivors of whole months or windows from nothing comes to.

    `days` must begin where windows of caps begin. The days before, as far as rules look back,
    are evaluated too, for what they leave behind, and change nothing.
    """
    first, last = days
    stored = book.read_days(shards, first - rules.history_days, last, among)
    before = stored.take(stored.verdict != Verdict.WITHDRAWN)
    fresh = Fresh()
    after = assess(before.acts, rules, caps=fresh, classes=classes)
    own = before.acts.civil_day >= first
    return Reassessed(before.take(own), after.take(own), fresh)


def used_in(
    cap_key: str, shards: Ints, windows: Ints, rules: Rulebook, book: Stored, classes: ClassBook
) -> Mapping[tuple[int, int], int]:
    """What every account of `shards` left behind under a key in `windows`, from what is stored."""
    first, last = int(windows.min()), int(windows.max())
    if cap_key in rules.month_keys:
        first, last = days_of_month(first)[0], days_of_month(last)[1]
    again = reassess(shards, (first, last), rules, book=book, classes=classes)
    return {
        (account, window): used
        for key, usage in again.left_behind.usages
        if key == cap_key
        for account, window, used in zip(
            usage.accounts.tolist(), usage.windows.tolist(), usage.used.tolist(), strict=True
        )
    }


def reach_of(assessed: Assessed, rules: Rulebook) -> Days:
    """The days on which acts may come to something else when this one is withdrawn.

    Whole months where any rule has a cap a month: the account's acts of those days are then
    evaluated from nothing, whichever rules they meet.
    """
    day = int(assessed.acts.civil_day[0])
    last = day + rules.history_days
    if rules.month_keys:
        return days_of_month(month_of(day))[0], days_of_month(month_of(last))[1]
    return day, last


def month_of(day: int) -> int:
    """The month of a civil day, as year * 12 + month - 1."""
    return int(months_of(np.array([day]))[0])


def days_of_month(month: int) -> Days:
    """First and last civil day of a month."""
    return date_to_day(_month_start(month)), date_to_day(_month_start(month + 1)) - 1


def _month_start(month: int) -> date:
    return date(month // 12, month % 12 + 1, 1)
