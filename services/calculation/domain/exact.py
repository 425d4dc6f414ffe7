"""The plain evaluator: one act at a time, in fractions, sharing no arithmetic with the arrays.

It explains single results and says what a window of surviving acts comes to. The arrays of
`evaluate` must give the same milligrams; tests hold the two together.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

from services.calculation.domain.compiling import HIGH, LOW
from services.calculation.domain.methodology import Version
from services.calculation.domain.parse import (
    Binary,
    Choice,
    Comparison,
    Extreme,
    Name,
    Negative,
    Node,
    Number,
)
from services.calculation.domain.refused import NOT_ELIGIBLE, OK, OUT_OF_RANGE
from services.calculation.domain.rule import Cap
from services.calculation.domain.tables import Row, Table

_APPLY: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
_COMPARE: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
}  # fmt: skip


class Act(NamedTuple):
    """What an act brings: measures in base units, grade 1 to 3, region, civil day, label codes.

    `history` has each mean of the account's own past, in parts (`history.mean_times`).
    """

    measures: Mapping[str, int]
    grade: int = 1
    region: int = 0
    day: int = 0
    labels: Mapping[str, int] = MappingProxyType({})
    history: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class CapUse:
    """What one windowed cap had used before an act, and after."""

    before: int
    after: int


@dataclass(frozen=True)
class Exact:
    """One act's result. `raw` is the formula's value, `graded` what is credited times the
    grade's share, `low` and `high` the ends of `raw`, all unrounded, in mg or points; None where
    the act is refused. `left` has what each cap left of the result, `uses` what each windowed
    cap had used and has used after."""

    refused: int
    raw: Fraction | None
    graded: Fraction | None
    low: Fraction | None
    high: Fraction | None
    uncapped: int
    credited: int
    left: tuple[int, ...]
    uses: tuple[CapUse, ...]
    values: Mapping[str, Fraction]

    @property
    def used_after(self) -> tuple[int, ...]:
        """What every windowed cap has used after the act."""
        return tuple(use.after for use in self.uses)


def value_of(node: Node, values: Mapping[str, Fraction]) -> Fraction:
    """The value of a tree in base units."""
    match node:
        case Number():
            return node.value
        case Name():
            return values[node.name]
        case Negative():
            return -value_of(node.value, values)
        case Binary():
            return _APPLY[node.op](value_of(node.left, values), value_of(node.right, values))
        case Extreme():
            pick = min if node.which == "min" else max
            return pick(value_of(node.left, values), value_of(node.right, values))
        case Choice():
            return value_of(node.yes if holds(node.test, values) else node.no, values)
        case Comparison():
            raise TypeError("a comparison has no value; use holds")


def holds(node: Comparison, values: Mapping[str, Fraction]) -> bool:
    """Whether a comparison is true."""
    return _COMPARE[node.op](value_of(node.left, values), value_of(node.right, values))


def assess_act(version: Version, act: Act, used_before: Sequence[int] = ()) -> Exact:
    """What one act earns; `used_before` is for each windowed cap, by default nothing."""
    before = tuple(used_before) or (0,) * len(version.windowed_caps)
    refused, values = judge(version, act)
    if refused != OK:
        uses = tuple(CapUse(used, used) for used in before)
        return Exact(refused, None, None, None, None, 0, 0, (0,) * len(version.caps), uses, values)
    raw = low = high = value_of(version.formula_tree, values)
    if version.low_tree is not version.formula_tree:
        low, high = (value_of(tree, values) for tree in (version.low_tree, version.high_tree))
    graded = (low if version.credits_low else raw) * _share(version, act.grade)
    uncapped = rounded(version, graded)
    result, measures, windowed = uncapped, dict(act.measures), iter(before)
    left: list[int] = []
    spent: list[CapUse] = []
    for cap in version.caps:
        used = 0 if cap.window == "act" else next(windowed)
        result, granted = _capped(version, cap, act, measures, result, used, values)
        left.append(result)
        if cap.window != "act":
            spent.append(CapUse(used, used + granted))
    return Exact(OK, raw, graded, low, high, uncapped, result, tuple(left), tuple(spent),
                 values)  # fmt: skip


def rounded(version: Version, value: Fraction) -> int:
    """The value as the version rounds it, and zero below zero unless it says that it counts."""
    whole = math.ceil(value) if version.rounding == "ceiling" else math.floor(value)
    return whole if version.below_zero_counts else max(0, whole)


def assess_window(
    version: Version, acts: Sequence[Act], used_before: Sequence[int] = ()
) -> list[int]:
    """What the surviving acts of one account's windows are credited, in record order.

    This is the law of a window: a pure function of its survivors. Whatever was recorded late,
    corrected or withdrawn on the way, the credits must come to this.
    """
    credited = []
    for act in acts:
        exact = assess_act(version, act, used_before)
        credited.append(exact.credited)
        used_before = exact.used_after
    return credited


def judge(version: Version, act: Act) -> tuple[int, dict[str, Fraction]]:
    """Why the act is refused, or OK, and the value of every name as far as it has one."""
    if any(not m.min <= act.measures[m.name] <= m.max for m in version.measures):
        return OUT_OF_RANGE, {}
    values = dict(version.values)
    values |= {m.name: values[m.name] * act.measures[m.name] for m in version.measures}
    values |= {h.name: values[h.name] * act.history.get(h.name, 0) for h in version.histories}
    for label in version.labels:
        if not 1 <= act.labels.get(label.name, 0) <= len(label.values):
            return NOT_ELIGIBLE, values
    for factor in version.factors:
        if factor.table is None:
            continue
        row = row_of(factor.table, act)
        if row is None:
            return NOT_ELIGIBLE, values
        for name, end in zip((factor.key, factor.key + LOW, factor.key + HIGH), row.ends,
                             strict=True):  # fmt: skip
            values[name] = end
    if not all(holds(condition.tree, values) for condition in version.conditions):
        return NOT_ELIGIBLE, values
    refused = bool(version.grades) and act.grade not in version.grades
    return NOT_ELIGIBLE if refused else OK, values


def row_of(table: Table, act: Act) -> Row | None:
    """The row of a factor's table that fits the act."""
    codes = [act.labels.get(name, 0) for name in table.labels]
    number = table.row_for(codes, act.region, act.day)
    return table.rows[number] if number >= 0 else None


def _share(version: Version, grade: int) -> Fraction:
    return version.grades[grade].share if version.grades else Fraction(1)


def _capped(
    version: Version,
    cap: Cap,
    act: Act,
    measures: dict[str, int],
    result: int,
    used: int,
    values: Mapping[str, Fraction],
) -> tuple[int, int]:
    """What the cap leaves of the result, and what of it is granted; trims `measures`."""
    if result <= 0:
        return result, 0
    asked = {"count": 1, "result": result}.get(cap.of)
    asked = measures[cap.of] if asked is None else asked
    granted = max(0, min(asked, cap.amount - used))
    if granted == asked:
        return result, granted
    if cap.of == "result":
        return granted, granted
    if granted == 0:
        if cap.of in measures:
            measures[cap.of] = 0
        return 0, 0
    measures[cap.of] = granted
    own = {m.name: version.values[m.name] * measures[m.name] for m in version.measures}
    again = value_of(version.credited_tree, {**values, **own}) * _share(version, act.grade)
    return min(rounded(version, again), result), granted
