"""A compiled node of a formula, and what may be made of one or two.

Its value is `whole numbers x one exact fraction` (its scale); ends of the whole numbers are known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from services.calculation.domain.columns import Columns, Run, joined, multiplied
from services.calculation.domain.parse import FormulaInvalid, Node
from services.calculation.domain.units import NUMBER, Unit


@dataclass(frozen=True)
class Part:
    """A compiled node. A constant has `value` and no `run`; `fresh` arrays may be overwritten."""

    unit: Unit
    scale: Fraction
    low: int
    high: int
    run: Run | None = None
    fresh: bool = False
    value: Fraction | None = None


def constant(value: Fraction, unit: Unit) -> Part:
    """A part that is a constant."""
    return Part(unit, Fraction(1), 0, 0, value=value)


def times(left: Part, right: Part) -> Part:
    """The product; a constant goes into the scale."""
    unit, scale = left.unit * right.unit, left.scale * right.scale
    if left.value is not None and right.value is not None:
        return constant(left.value * right.value, unit)
    for many, one in ((left, right), (right, left)):
        if one.value is not None:
            if one.value == 0:
                return constant(Fraction(0), unit)
            ends = many.low, many.high
            return Part(unit, many.scale * one.value, *ends, many.run, many.fresh)
    corners = [x * y for x in (left.low, left.high) for y in (right.low, right.high)]
    joined = joined_part(np.multiply, left, right, (min(corners), max(corners)))
    return Part(unit, scale, joined.low, joined.high, joined.run, fresh=True)


def alike(node: Node, left: Part, right: Part) -> tuple[Part, Part]:
    """Both with one unit; a bare 0 takes the other's."""
    # A bare 0 is a zero of any unit, as in max(x, 0).
    if left.value == 0 and left.unit == NUMBER:
        left = constant(Fraction(0), right.unit)
    if right.value == 0 and right.unit == NUMBER:
        right = constant(Fraction(0), left.unit)
    if left.unit != right.unit:
        raise fault_at(node, f"{left.unit} and {right.unit} do not go together; give both one unit")
    return left, right


def value_of_part(part: Part) -> Fraction:
    """The value of a constant."""
    assert part.value is not None
    return part.value


def reach(part: Part) -> Fraction:
    """What a part's whole numbers count."""
    return abs(part.scale if part.value is None else part.value)


def over(part: Part, scale: Fraction) -> Part:
    """The part over another scale, which its own must be a whole number of."""
    if part.value is not None:
        whole = int(part.value / scale)
        return Part(part.unit, scale, whole, whole, value=part.value)
    times, run = int(part.scale / scale), part.run
    if times == 1:
        return part
    ends = sorted((part.low * times, part.high * times))
    assert run is not None
    return Part(part.unit, scale, ends[0], ends[1], multiplied(run, times, part.fresh), True)


def operand(part: Part) -> Callable[[Columns], Any]:
    """What a step reads: a column, or one whole number."""
    whole = part.low
    return part.run if part.run is not None else lambda _: whole


def joined_part(ufunc: Any, left: Part, right: Part, ends: tuple[int, int]) -> Part:
    """Two parts over one scale made one by `ufunc`."""
    run = joined(ufunc, operand(left), operand(right), left.fresh, right.fresh)
    return Part(left.unit, left.scale, *ends, run, fresh=True)


def may_meet(left: Part, right: Part) -> bool:
    """Whether the two can be equal."""
    return left.low <= right.high and right.low <= left.high


def fault_at(node: Node, message: str) -> FormulaInvalid:
    """A fault at the place of a node."""
    return FormulaInvalid(message, node.at.line, node.at.column)
