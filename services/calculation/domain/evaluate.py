"""The one evaluator: live, estimate, re-assessment and the published cases all run it.

Columns in, milligrams (or points) out, exact. A result is rounded down, towards minus
infinity, once, at the end; below zero it credits zero. A cap is used up in the order of the
columns, which is the order in which activities were recorded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.columns import Columns
from services.calculation.domain.exact import Act, assess_window
from services.calculation.domain.explain import Step, Working, explain
from services.calculation.domain.grouping import Groups, group, months_of
from services.calculation.domain.methodology import Cap, Grade, Version
from services.calculation.domain.refused import NOT_ELIGIBLE, OK, OUT_OF_RANGE

__all__ = [
    "ACTS_MAX", "NOT_ELIGIBLE", "OK", "OUT_OF_RANGE", "Act", "CapStore", "Evaluated",
    "NothingUsed", "Step", "Usage", "Working", "assess_window", "evaluate", "explain",
    "months_of", "refusal_of",
]  # fmt: skip

ACTS_MAX = 2**22
"""Acts of one call: sums of so many amounts, each at most 2**40 + 1, stay inside int64."""
SHARE = "$share"
"""The name, which no file can write, that the grade's share has in a compiled result."""

Ints = NDArray[np.int64]


class CapStore(Protocol):
    """Remembers how much of a cap is used."""

    def used_before(self, cap_key: str, accounts: Ints, windows: Ints) -> Ints:
        """What was used before, for each of these distinct (account, window) pairs."""
        ...


class NothingUsed:
    """A cap store in which nothing was ever used."""

    def used_before(self, cap_key: str, accounts: Ints, windows: Ints) -> Ints:
        """Zero for every pair."""
        return np.zeros(len(accounts), np.int64)


@dataclass(frozen=True)
class Usage:
    """What of a cap is used after a call, for each distinct (account, window) of it."""

    accounts: Ints
    windows: Ints
    used: Ints


@dataclass(frozen=True)
class Evaluated:
    """Results in the order given, in mg or points.

    `refused` is OK, OUT_OF_RANGE or NOT_ELIGIBLE (such acts earn 0). `used_before` is what the
    window had used when the act came: all `explain` needs besides the act. `used_after` is
    None without a cap over a window.
    """

    credited: Ints
    uncapped: Ints
    used_before: Ints
    refused: NDArray[np.int8]
    used_after: Usage | None


def evaluate(
    version: Version,
    measures: Mapping[str, Ints],
    *,
    accounts: Ints,
    days: Ints,
    grades: Ints | None = None,
    caps_used: CapStore,
    trace: bool = True,
) -> Evaluated:
    """What each act earns under `version`, in record order.

    `measures` has a column of whole numbers for each declared measure (others are not read);
    all columns have one length of at most ACTS_MAX. `days` are civil days since 1970-01-01;
    `grades` are evidence grades 1 to 3, by default all 1. ValueError for columns that do not fit.
    Without `trace`, `used_before` is left zero: for totals that nobody will ask to explain.
    """
    accounts, days = np.asarray(accounts, np.int64), np.asarray(days, np.int64)
    columns = _columns(version, measures, accounts, days)
    refused = refusal_of(version, columns, grades)
    uncapped = _results(version, columns, grades, refused)
    unused: Ints = np.zeros(len(accounts), np.int64)
    if not version.caps or not len(accounts):
        return Evaluated(uncapped, uncapped, unused, refused, None)
    cap = version.caps[0]
    asked = _asked(cap, columns, uncapped)
    if cap.window == "act":
        granted = np.minimum(asked, cap.amount)
        credited = _credited(version, cap, columns, grades, uncapped, asked, granted)
        return Evaluated(credited, uncapped, unused, refused, None)
    groups = group(accounts, days if cap.window == "day" else months_of(days))
    before, granted, after = _spend(cap, asked, groups, caps_used)
    used_after = Usage(groups.accounts, groups.windows, after)
    if groups.order is not None:
        granted = _scattered(granted, groups.order)
        before = _scattered(before, groups.order) if trace else before
    credited = _credited(version, cap, columns, grades, uncapped, asked, granted)
    return Evaluated(credited, uncapped, before if trace else unused, refused, used_after)


def refusal_of(
    version: Version, measures: Mapping[str, Ints], grades: Ints | None = None
) -> NDArray[np.int8]:
    """OK, OUT_OF_RANGE or NOT_ELIGIBLE for each act; the range is judged first."""
    size = len(measures[version.measures[0].name])
    refused = np.zeros(size, np.int8)
    if not size:
        return refused
    for measure in version.measures:
        column = measures[measure.name]
        if column.min() < measure.min or column.max() > measure.max:
            refused[(column < measure.min) | (column > measure.max)] = OUT_OF_RANGE
    if version.conditions:
        inside = _inside(version, measures, refused)
        for condition in version.conditions:
            met = condition.formula.wholes(inside).astype(np.bool_)
            refused[(refused == OK) & ~met] = NOT_ELIGIBLE
    if version.grades and grades is not None:
        accepted = np.isin(grades, list(version.grades))
        refused[(refused == OK) & ~accepted] = NOT_ELIGIBLE
    elif version.grades and 1 not in version.grades:
        refused[refused == OK] = NOT_ELIGIBLE
    return refused


def _columns(
    version: Version, measures: Mapping[str, Ints], accounts: Ints, days: Ints
) -> dict[str, Ints]:
    columns = {}
    for measure in version.measures:
        if measure.name not in measures:
            raise ValueError(f"{version.name} needs the measure {measure.name}; give its column")
        columns[measure.name] = np.asarray(measures[measure.name], np.int64)
    sizes = {len(accounts), len(days), *map(len, columns.values())}
    if len(sizes) != 1 or max(sizes) > ACTS_MAX:
        raise ValueError(f"columns have lengths {sorted(sizes)}; give one length up to {ACTS_MAX}")
    return columns


def _inside(version: Version, columns: Mapping[str, Ints], refused: NDArray[np.int8]) -> Columns:
    """The columns with refused acts moved into the ranges for which bounds were proved."""
    out = refused == OUT_OF_RANGE
    if not out.any():
        return columns
    return {m.name: np.where(out, m.min, columns[m.name]) for m in version.measures}


def _results(
    version: Version, columns: Mapping[str, Ints], grades: Ints | None, refused: NDArray[np.int8]
) -> Ints:
    """The floor of the result of each act, before caps; zero where refused or below zero."""
    any_refused = bool(refused.any())
    inside = _inside(version, columns, refused) if any_refused else columns
    if SHARE in version.result.names:
        inside = {**inside, SHARE: _shares(version, grades, len(refused))}
    results = version.result.floors(inside)
    if version.result.low < 0:
        np.maximum(results, 0, out=results)
    if any_refused:
        results[refused != OK] = 0
    return results


def _shares(version: Version, grades: Ints | None, size: int) -> Ints:
    """The share of each act's grade in the unit that the result was compiled for."""
    table = np.zeros(4, np.int64)
    denominator = share_denominator(version.grades)
    for code, grade in version.grades.items():
        table[code] = int(grade.share * denominator)
    return np.full(size, table[1]) if grades is None else table[np.clip(grades, 0, 3)]


def share_denominator(grades: Mapping[int, Grade]) -> int:
    """The common denominator of the shares of all grades."""
    return math.lcm(*(grade.share.denominator for grade in grades.values()))


def _asked(cap: Cap, columns: Mapping[str, Ints], uncapped: Ints) -> Ints:
    """What each act asks of the cap; an act that would earn nothing asks for nothing."""
    earns = uncapped > 0
    if cap.of == "result":
        return np.minimum(uncapped, cap.amount)
    if cap.of == "count":
        return earns.view(np.int8).astype(np.int64)
    # One more than the amount is as much too much as any greater number, and cannot overflow.
    return np.minimum(columns[cap.of], cap.amount + 1) * earns


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


def _credited(
    version: Version,
    cap: Cap,
    columns: Mapping[str, Ints],
    grades: Ints | None,
    uncapped: Ints,
    asked: Ints,
    granted: Ints,
) -> Ints:
    """What is credited when `granted` of `asked` may be used."""
    if cap.of == "result":
        return granted
    if cap.of == "count":
        return uncapped * granted
    cut = np.flatnonzero(granted < asked)
    credited = uncapped.copy()
    if len(cut):
        rows = {name: column[cut] for name, column in columns.items()} | {cap.of: granted[cut]}
        some = grades if grades is None else grades[cut]
        results = _results(version, rows, some, np.zeros(len(cut), np.int8))
        credited[cut] = np.minimum(np.where(granted[cut] > 0, results, 0), uncapped[cut])
    return credited


def _scattered(column: Ints, order: NDArray[np.intp]) -> Ints:
    out = np.empty_like(column)
    out[order] = column
    return out
