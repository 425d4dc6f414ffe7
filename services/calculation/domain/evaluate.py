"""The one evaluator: live, estimate, backtest, restatement and published cases all run it.

Columns in, milligrams (or points) out, exact. A result is rounded once, at the end: down,
towards minus infinity, or up for emissions; below zero it credits zero unless the document
says that it counts. Then the caps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.caps import CapStore, NothingUsed, State, Usage, apply_cap
from services.calculation.domain.columns import Columns
from services.calculation.domain.compiling import HIGH, LOW, SHARE
from services.calculation.domain.grouping import months_of
from services.calculation.domain.history import read_history
from services.calculation.domain.methodology import Version
from services.calculation.domain.refused import NOT_ELIGIBLE, OK, OUT_OF_RANGE
from services.calculation.domain.rule import Grade

__all__ = [
    "ACTS_MAX", "NOT_ELIGIBLE", "OK", "OUT_OF_RANGE", "CapStore", "Evaluated", "NothingUsed",
    "Usage", "evaluate", "months_of",
]  # fmt: skip

ACTS_MAX = 2**22
"""Acts of one call: sums of so many amounts, each at most 2**40 + 1, stay inside int64."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Evaluated:
    """Results in the order given, in mg or points.

    `refused` is OK, OUT_OF_RANGE or NOT_ELIGIBLE (such acts earn 0). `used_before` has a column
    for each windowed cap: what its window had used when the act came. `histories` has one for
    each history: the mean before the act, in parts. These and the act are all that `explain`
    needs. `left_behind` is what a store should remember, by key.
    """

    credited: Ints
    uncapped: Ints
    used_before: tuple[Ints, ...]
    histories: tuple[Ints, ...]
    refused: NDArray[np.int8]
    left_behind: tuple[tuple[str, Usage], ...]


def evaluate(
    version: Version,
    measures: Mapping[str, Ints],
    *,
    accounts: Ints,
    days: Ints,
    grades: Ints | None = None,
    regions: Ints | None = None,
    labels: Mapping[str, Ints] | None = None,
    histories: Mapping[str, Ints] | None = None,
    caps_used: CapStore,
    trace: bool = True,
) -> Evaluated:
    """What each act earns under `version`, in record order.

    `measures` has a column of whole numbers for each declared measure (others are not read);
    all columns have one length of at most ACTS_MAX. `days` are civil days since 1970-01-01;
    `grades` are evidence grades 1 to 3, by default all 1; `regions` are six-digit codes, 0
    unknown; `labels` are label codes, 0 unknown. `histories` gives means, in parts, that are
    otherwise made of what `caps_used` remembers. ValueError for columns that do not fit.
    Without `trace`, `used_before` is left zero: for totals that nobody will ask to explain.
    """
    accounts, days = np.asarray(accounts, np.int64), np.asarray(days, np.int64)
    columns = _measures(version, measures, accounts, days)
    size = len(accounts)
    if not size:
        none = tuple(np.zeros(0, np.int64) for _ in version.windowed_caps)
        past = tuple(np.zeros(0, np.int64) for _ in version.histories)
        return Evaluated(accounts, accounts, none, past, np.zeros(0, np.int8), ())
    given = dict(columns)
    refused = _out_of_range(version, columns)
    told, past, left_behind = _past(version, given, accounts, days, histories, caps_used)
    columns |= told
    _choose_rows(version, columns, refused, labels or {}, regions, days)
    _judge(version, columns, refused, grades)
    if version.grades:
        columns[SHARE] = _shares(version, grades, size)
    uncapped = _results(version, columns, refused)
    if not version.caps:
        return Evaluated(uncapped, uncapped, (), past, refused, left_behind)
    state = _capping(version, columns, uncapped)
    used_before: list[Ints] = []
    for cap in version.caps:
        applied = apply_cap(cap, state, accounts=accounts, days=days, store=caps_used, trace=trace)
        if applied is not None:
            before, usage = applied
            used_before.append(before if trace else np.zeros(size, np.int64))
            left_behind += ((cap.key, usage),)
    return Evaluated(state.results, uncapped, tuple(used_before), past, refused, left_behind)


def _measures(
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


def _out_of_range(version: Version, columns: dict[str, Ints]) -> NDArray[np.int8]:
    """OUT_OF_RANGE or OK for each act; moves what is refused into the ranges of the bounds."""
    refused = np.zeros(len(columns[version.measures[0].name]), np.int8)
    for measure in version.measures:
        column = columns[measure.name]
        if column.min() < measure.min or column.max() > measure.max:
            refused[(column < measure.min) | (column > measure.max)] = OUT_OF_RANGE
    if refused.any():
        out = refused == OUT_OF_RANGE
        for m in version.measures:
            columns[m.name] = np.where(out, m.min, columns[m.name])
    return refused


def _past(
    version: Version,
    columns: Columns,
    accounts: Ints,
    days: Ints,
    given: Mapping[str, Ints] | None,
    store: CapStore,
) -> tuple[dict[str, Ints], tuple[Ints, ...], tuple[tuple[str, Usage], ...]]:
    """Each history's means by name and in order, and what is remembered of each day."""
    told: dict[str, Ints] = {}
    left_behind: list[tuple[str, Usage]] = []
    for history in version.histories:
        if given is not None:
            told[history.name] = given[history.name]
            continue
        amounts = columns[history.of]
        counts = (amounts >= history.min) & (amounts <= history.max)
        means, after = read_history(history, amounts, counts, accounts, days, store)
        told[history.name] = means
        left_behind.append((history.key, Usage(*after)))
    return told, tuple(told.values()), tuple(left_behind)


def _choose_rows(
    version: Version,
    columns: dict[str, Ints],
    refused: NDArray[np.int8],
    labels: Mapping[str, Ints],
    regions: Ints | None,
    days: Ints,
) -> None:
    """Adds the columns of factors that depend on the act; refuses acts that no row fits."""
    size, known = len(days), {}
    for label in version.labels:
        codes = labels.get(label.name)
        known[label.name] = np.zeros(size, np.int64) if codes is None else codes
        missing = (known[label.name] < 1) | (known[label.name] > len(label.values))
        refused[(refused == OK) & missing] = NOT_ELIGIBLE
    places = np.zeros(size, np.int64) if regions is None else np.asarray(regions, np.int64)
    for factor in version.factors:
        if factor.table is None:
            continue
        rows = factor.table.rows_for(known, places, np.maximum(days, 0))
        refused[(refused == OK) & (rows < 0)] = NOT_ELIGIBLE
        names = (factor.key, factor.key + LOW, factor.key + HIGH)[: 3 if factor.uncertain else 1]
        for name, column in zip(names, factor.table.columns, strict=False):
            columns[name] = column[rows]


def _judge(
    version: Version, columns: Columns, refused: NDArray[np.int8], grades: Ints | None
) -> None:
    """Refuses acts that a condition or the grade makes not eligible."""
    for condition in version.conditions:
        met = condition.formula.wholes(columns).astype(np.bool_)
        refused[(refused == OK) & ~met] = NOT_ELIGIBLE
    if version.grades and grades is not None:
        accepted = np.isin(grades, list(version.grades))
        refused[(refused == OK) & ~accepted] = NOT_ELIGIBLE
    elif version.grades and 1 not in version.grades:
        refused[refused == OK] = NOT_ELIGIBLE


def _results(version: Version, columns: Columns, refused: NDArray[np.int8]) -> Ints:
    """The rounded result of each act, before caps; zero where refused or, mostly, below zero."""
    results = version.result.rounded(columns, up=version.rounding == "ceiling")
    if version.result.low < 0 and not version.below_zero_counts:
        np.maximum(results, 0, out=results)
    if refused.any():
        results[refused != OK] = 0
    return results


def _capping(version: Version, columns: Mapping[str, Ints], uncapped: Ints) -> State:
    """The state that caps work on; measures alone are trimmed, all else stays as it was."""
    names = {measure.name for measure in version.measures}
    fixed = {name: column for name, column in columns.items() if name not in names}

    def again(rows: NDArray[np.intp], trimmed: Mapping[str, Ints]) -> Ints:
        some = {name: column[rows] for name, column in fixed.items()}
        return _results(version, {**some, **trimmed}, np.zeros(len(rows), np.int8))

    measures = {name: columns[name] for name in names}
    return State(measures, uncapped, again, version.below_zero_counts)


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
