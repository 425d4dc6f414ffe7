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

from services.calculation.domain.methodology import Cap, Version
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

_APPLY: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
_COMPARE: dict[str, Callable[[Fraction, Fraction], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
}  # fmt: skip


@dataclass(frozen=True)
class Act:
    """What an act brings: its measures in base units and its evidence grade, 1 to 3."""

    measures: Mapping[str, int]
    grade: int = 1


@dataclass(frozen=True)
class Exact:
    """One act's result. `raw` is the formula's value, `graded` that times the grade's share,
    both unrounded, in mg or points; None where the act is refused."""

    refused: int
    raw: Fraction | None
    graded: Fraction | None
    uncapped: int
    credited: int
    used_before: int
    used_after: int


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


def assess_act(version: Version, act: Act, used_before: int = 0) -> Exact:
    """What one act earns when its window had used `used_before`."""
    refused = _refused(version, act)
    if refused != OK:
        return Exact(refused, None, None, 0, 0, used_before, used_before)
    raw = value_of(version.formula_tree, _values(version, act.measures))
    graded = raw * _share(version, act.grade)
    uncapped = max(0, math.floor(graded))
    if not version.caps:
        return Exact(OK, raw, graded, uncapped, uncapped, 0, 0)
    cap = version.caps[0]
    if cap.window == "act":
        credited, _ = _capped(version, cap, act, uncapped, 0)
        return Exact(OK, raw, graded, uncapped, credited, 0, 0)
    credited, used_after = _capped(version, cap, act, uncapped, used_before)
    return Exact(OK, raw, graded, uncapped, credited, used_before, used_after)


def assess_window(version: Version, acts: Sequence[Act], used_before: int = 0) -> list[int]:
    """What the surviving acts of one account's window are credited, in record order.

    This is the law of a window: a pure function of its survivors. Whatever was recorded late,
    corrected or withdrawn on the way, the credits must come to this.
    """
    credited = []
    for act in acts:
        exact = assess_act(version, act, used_before)
        credited.append(exact.credited)
        used_before = exact.used_after
    return credited


def _refused(version: Version, act: Act) -> int:
    if any(not m.min <= act.measures[m.name] <= m.max for m in version.measures):
        return OUT_OF_RANGE
    values = _values(version, act.measures)
    if not all(holds(condition.tree, values) for condition in version.conditions):
        return NOT_ELIGIBLE
    return NOT_ELIGIBLE if version.grades and act.grade not in version.grades else OK


def _values(version: Version, measures: Mapping[str, int]) -> dict[str, Fraction]:
    own = {m.name: measures[m.name] * version.values[m.name] for m in version.measures}
    return {**version.values, **own}


def _share(version: Version, grade: int) -> Fraction:
    return version.grades[grade].share if version.grades else Fraction(1)


def _capped(
    version: Version, cap: Cap, act: Act, uncapped: int, used_before: int
) -> tuple[int, int]:
    """Credited, and used afterwards."""
    if uncapped == 0:
        return 0, used_before
    asked = {"count": 1, "result": uncapped}.get(cap.of)
    asked = act.measures[cap.of] if asked is None else asked
    granted = max(0, min(asked, cap.amount - used_before))
    used_after = used_before + granted
    if granted == asked:
        return uncapped, used_after
    if cap.of == "result":
        return granted, used_after
    if granted == 0:
        return 0, used_after
    values = _values(version, {**act.measures, cap.of: granted})
    trimmed = value_of(version.formula_tree, values) * _share(version, act.grade)
    return min(max(0, math.floor(trimmed)), uncapped), used_after
