"""The one evaluator: live, estimate, re-assessment and the published cases all run it.

Columns in, milligrams out, exact. A result is rounded down (towards minus infinity) once, at
the end; below zero it credits zero. A cap is used up in the order of the columns, which is
the order in which activities were recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.methodology import Cap, Version

Ints = NDArray[np.int64]

OK, OUT_OF_RANGE, NOT_ELIGIBLE = 0, 1, 2


class CapStore(Protocol):
    """Remembers how much of a cap is used."""

    def used_before(self, cap_key: str, accounts: Ints, windows: Ints) -> Ints:
        """What was used before, for each of these distinct (account, window) pairs."""


@dataclass(frozen=True)
class Usage:
    """How much of a cap is used after a run, for each distinct (account, window) of it."""

    accounts: Ints
    windows: Ints
    used: Ints


@dataclass(frozen=True)
class Evaluated:
    """Results in the order given. `refused` is 0, 1 out of range or 2 not eligible (earns 0);
    `used_before` is what earlier acts had used of the cap; `usage` is None without a cap."""

    credited: Ints
    uncapped: Ints
    refused: NDArray[np.int8]
    used_before: Ints
    usage: Usage | None


class NothingUsed:
    """A cap store in which nothing was ever used."""

    def used_before(self, cap_key: str, accounts: Ints, windows: Ints) -> Ints:
        """Zero for every pair."""
        return np.zeros(len(accounts), np.int64)


def evaluate(
    version: Version,
    measures: Mapping[str, Ints],
    *,
    accounts: Ints,
    days: Ints,
    grades: Ints,
    caps: CapStore,
) -> Evaluated:
    """What each act earns under `version`, in mg or points, in the order given.

    `measures` holds a column for each declared measure; all arrays have one length. `days`
    are civil days since 1970-01-01, `grades` evidence grades 1 to 3.
    """
    refused = _refused(version, measures)
    uncapped = _results(version, measures, grades, refused)
    if not version.caps:
        return Evaluated(uncapped, uncapped, refused, np.zeros(len(days), np.int64), None)
    cap = version.caps[0]
    windows = days if cap.window == "day" else months_of(days)
    asked = _asked(cap, measures, uncapped, refused)
    groups = _Groups(accounts, windows)
    before, granted, usage = groups.spend(cap, asked, caps)
    if cap.of == "result":
        credited = granted
    elif cap.of == "count":
        credited = np.where(granted > 0, uncapped, 0)
    else:
        credited = _results(version, {**measures, cap.of: granted}, grades, refused)
    return Evaluated(credited, uncapped, refused, before, usage)


def one(
    version: Version, measures: Mapping[str, int], *, grade: int = 1, used: int = 0
) -> Evaluated:
    """The same for a single act of which the window had used `used` before; length-1 results."""

    class Used:
        def used_before(self, cap_key: str, accounts: Ints, windows: Ints) -> Ints:
            return np.array([used], np.int64)

    columns = {m.name: np.array([measures.get(m.name, 0)], np.int64) for m in version.measures}
    here = np.array([version.effective_day], np.int64)
    return evaluate(
        version, columns, accounts=here, days=here, grades=np.array([grade]), caps=Used()
    )


def months_of(days: Ints) -> Ints:
    """The month of each civil day, as year * 12 + month - 1."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) + 1970 * 12


def _refused(version: Version, measures: Mapping[str, Ints]) -> NDArray[np.int8]:
    size = len(next(iter(measures.values())))
    refused = np.zeros(size, np.int8)
    for measure in version.measures:
        column = measures[measure.name]
        if size and (column.min() < measure.min or column.max() > measure.max):
            refused[(column < measure.min) | (column > measure.max)] = OUT_OF_RANGE
    for condition in version.conditions:
        met = condition.formula.numerators(_within(version, measures, refused))
        refused[(refused == OK) & ~met.astype(bool)] = NOT_ELIGIBLE
    return refused


def _within(
    version: Version, measures: Mapping[str, Ints], refused: NDArray[np.int8]
) -> Mapping[str, Ints]:
    """The measures with those of refused acts replaced by ones inside the proved bounds."""
    if not refused.any():
        return measures
    return {
        measure.name: np.where(refused == OUT_OF_RANGE, measure.min, measures[measure.name])
        for measure in version.measures
    }


def _results(
    version: Version, measures: Mapping[str, Ints], grades: Ints, refused: NDArray[np.int8]
) -> Ints:
    """Floor of the formula for each act, before caps; zero where refused or below zero."""
    formula = version.formula
    value: Any = formula.numerators(_within(version, measures, refused))
    denominator = formula.denominator
    shares = {grade: share for grade, share in version.grades.items() if share != 1}
    if shares:
        value = value.astype(object)
        for grade, share in shares.items():
            rows = grades == grade
            value[rows] = value[rows] * share.numerator // share.denominator
            # Floor of a floor is the floor of the whole: only the last division rounds more.
    result = value // denominator if denominator != 1 else value
    result = np.asarray(result).astype(np.int64)
    if formula.low < 0:
        np.maximum(result, 0, out=result)
    if refused.any():
        result = np.where(refused == OK, result, 0)
    return result


def _asked(
    cap: Cap, measures: Mapping[str, Ints], uncapped: Ints, refused: NDArray[np.int8]
) -> Ints:
    """What each act asks of the cap; an act that earns nothing asks for nothing."""
    if cap.of == "result":
        return uncapped
    if cap.of == "count":
        return (uncapped > 0).astype(np.int64)
    column = measures[cap.of]
    return np.where(refused == OK, column, 0) if refused.any() else column


class _Groups:
    """Acts grouped by (account, window), in record order within each."""

    def __init__(self, accounts: Ints, windows: Ints) -> None:
        one_window = len(windows) == 0 or windows.min() == windows.max()
        self._order = (
            np.argsort(accounts, kind="stable") if one_window else np.lexsort((accounts, windows))
        )
        ordered = accounts[self._order]
        begins = np.empty(len(ordered), np.bool_)
        begins[:1] = True
        np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
        if not one_window:
            ordered_windows = windows[self._order]
            begins[1:] |= ordered_windows[1:] != ordered_windows[:-1]
        self._starts = np.flatnonzero(begins)
        self.accounts = ordered[self._starts]
        self.windows = windows[self._order[self._starts]]
        self._group = np.cumsum(begins) - 1

    def spend(self, cap: Cap, asked: Ints, store: CapStore) -> tuple[Ints, Ints, Usage]:
        """Used before and granted, for each act in its own order, and usage afterwards.

        What is used after an act is min(limit, used at the start + all asked so far).
        """
        used = store.used_before(cap.key, self.accounts, self.windows)
        ordered = asked[self._order]
        total = np.cumsum(ordered)
        base = total[self._starts] - ordered[self._starts] - used
        total -= base[self._group]
        limit = max(cap.amount, 0)
        after = np.minimum(total, np.maximum(limit, used)[self._group])
        earlier = np.minimum(total - ordered, np.maximum(limit, used)[self._group])
        before, granted = np.empty_like(asked), np.empty_like(asked)
        before[self._order] = earlier
        granted[self._order] = np.minimum(after, limit) - np.minimum(earlier, limit)
        ends = np.append(self._starts[1:], len(ordered)) - 1
        return before, granted, Usage(self.accounts, self.windows, after[ends])
