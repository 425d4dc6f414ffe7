"""Formulas compiled to exact integer columns.

The value of every part is `whole numbers x one exact fraction` (its scale). Constants live in
the scale, so multiplying by a factor costs no pass over the data. Ends of the whole numbers
are proved from the accepted ranges of the measures; where 64 bits cannot be proved to hold
every step, the same code runs on Python's integers. No binary fraction occurs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.columns import Column, Columns, Run, joined, multiplied, where
from services.calculation.domain.parse import (
    Binary,
    Choice,
    Comparison,
    Extreme,
    FormulaInvalid,
    Name,
    Negative,
    Node,
    Number,
)
from services.calculation.domain.units import NUMBER, TRUTH, Unit

INT64_MAX = 2**63 - 1
_COMPARE: dict[str, Any] = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal,
}  # fmt: skip


@dataclass(frozen=True)
class Quantity:
    """What a name stands for: a constant `value`, or whole numbers `low`..`high` of `scale`."""

    unit: Unit
    scale: Fraction
    low: int = 0
    high: int = 0
    value: Fraction | None = None


@dataclass(frozen=True)
class Formula:
    """A compiled formula: its exact value is `wholes(columns) * scale`, within low..high."""

    unit: Unit
    scale: Fraction
    low: Fraction
    high: Fraction
    names: frozenset[str]
    fits_int64: bool
    _run: Run

    def wholes(self, columns: Columns) -> Column:
        """The whole numbers (or truths) for columns of int64 inside their proved ranges."""
        if not self.fits_int64:
            columns = {name: columns[name].astype(object) for name in self.names & columns.keys()}
        return self._run(columns)

    def rounded(self, columns: Columns, *, up: bool = False) -> NDArray[np.int64]:
        """The value rounded down, towards minus infinity, or up; it must lie inside int64."""
        out = self._run_owned(columns)
        numerator = -self.scale.numerator if up else self.scale.numerator
        if numerator != 1:
            np.multiply(out, numerator, out=out)
        if self.scale.denominator != 1:
            np.floor_divide(out, self.scale.denominator, out=out)
        if up:
            np.negative(out, out=out)
        return out.astype(np.int64, copy=False)

    def _run_owned(self, columns: Columns) -> Column:
        out = self.wholes(columns)
        # A bare measure is the caller's own array: what is changed in place must be a copy.
        return out.copy() if any(out is column for column in columns.values()) else out


@dataclass(frozen=True)
class _Part:
    """A compiled node. A constant has `value` and no `run`; `fresh` arrays may be overwritten."""

    unit: Unit
    scale: Fraction
    low: int
    high: int
    run: Run | None = None
    fresh: bool = False
    value: Fraction | None = None


def compile_formula(
    tree: Node, quantities: Mapping[str, Quantity], *, strict: bool = True
) -> Formula:
    """Compiles a tree over known names; raises FormulaInvalid with line and column.

    `strict` refuses comparisons that always come out one way.
    """
    compiler = _Compiler(quantities, strict)
    part = compiler.compile(tree)
    if part.run is None:
        raise FormulaInvalid("the formula reads no measure; multiply by one, such as count", 1, 1)
    last = max(abs(part.low), abs(part.high)) * abs(part.scale.numerator)
    ends = (part.low * part.scale, part.high * part.scale)
    return Formula(
        unit=part.unit,
        scale=part.scale,
        low=min(ends),
        high=max(ends),
        names=frozenset(compiler.used),
        fits_int64=max(compiler.largest, last, part.scale.denominator) <= INT64_MAX,
        _run=part.run,
    )


class _Compiler:
    def __init__(self, quantities: Mapping[str, Quantity], strict: bool) -> None:
        self._quantities, self._strict = quantities, strict
        self.used: set[str] = set()
        self.largest = 0

    def compile(self, node: Node) -> _Part:
        part = self._dispatch(node)
        if part.run is not None:
            self.largest = max(self.largest, abs(part.low), abs(part.high))
        return part

    def _dispatch(self, node: Node) -> _Part:
        match node:
            case Number():
                return _constant(node.value, NUMBER)
            case Name():
                return self._name(node)
            case Negative():
                return _times(self.compile(node.value), _constant(Fraction(-1), NUMBER))
            case Binary() | Extreme():
                return self._binary(node) if isinstance(node, Binary) else self._extreme(node)
            case Choice() | Comparison():
                return self._choice(node) if isinstance(node, Choice) else self._comparison(node)

    def _name(self, node: Name) -> _Part:
        name, known = node.name, self._quantities.get(node.name)
        if known is None:
            names = ", ".join(sorted(self._quantities))
            raise _fault(node, f"{name!r} is not declared; declare it or use one of {names}")
        self.used.add(name)
        if known.value is not None:
            return _constant(known.value, known.unit)
        return _Part(known.unit, known.scale, known.low, known.high, lambda columns: columns[name])

    def _binary(self, node: Binary) -> _Part:
        left, right = self.compile(node.left), self.compile(node.right)
        if node.op == "/":
            if right.value is None:
                raise _fault(node.right, "only a constant may divide; move measures above the line")
            if right.value == 0:
                raise _fault(node.right, "this divides by zero")
            return _times(left, _constant(1 / right.value, NUMBER / right.unit))
        if node.op == "*":
            return _times(left, right)
        if node.op == "-":
            right = _times(right, _constant(Fraction(-1), NUMBER))
        if left.value is not None and right.value is not None:
            left, right = _alike(node, left, right)
            return _constant(_value(left) + _value(right), left.unit)
        left, right = self._aligned(node, left, right)
        ends = (left.low + right.low, left.high + right.high)
        return _joined(np.add, left, right, ends)

    def _extreme(self, node: Extreme) -> _Part:
        left, right = self.compile(node.left), self.compile(node.right)
        ufunc, pick = (np.minimum, min) if node.which == "min" else (np.maximum, max)
        if left.value is not None and right.value is not None:
            left, right = _alike(node, left, right)
            return _constant(pick(_value(left), _value(right)), left.unit)
        left, right = self._aligned(node, left, right)
        return _joined(ufunc, left, right, (pick(left.low, right.low), pick(left.high, right.high)))

    def _choice(self, node: Choice) -> _Part:
        test = self.compile(node.test)
        left, right = self._aligned(node, self.compile(node.yes), self.compile(node.no))
        when, yes, no = test.run, _operand(left), _operand(right)
        assert when is not None
        return _Part(
            left.unit, left.scale, min(left.low, right.low), max(left.high, right.high),
            lambda columns: where(when(columns), yes(columns), no(columns)), fresh=True,
        )  # fmt: skip

    def _comparison(self, node: Comparison) -> _Part:
        left, right = self._aligned(node, self.compile(node.left), self.compile(node.right))
        outcomes = {
            bool(_COMPARE[node.op](one, other))
            for one, other in ((left.low, right.high), (left.high, right.low))
        }
        single = left.low == left.high and right.low == right.high
        fixed = len(outcomes) == 1 and (node.op != "==" or single or not _meet(left, right))
        if fixed and self._strict:
            raise _fault(node, f"this is always {outcomes.pop()} in the accepted ranges; remove it")
        compare, a, b = _COMPARE[node.op], _operand(left), _operand(right)
        return _Part(
            TRUTH, Fraction(1), 0, 1, lambda columns: compare(a(columns), b(columns)), fresh=True
        )

    def _aligned(self, node: Node, left: _Part, right: _Part) -> tuple[_Part, _Part]:
        """Both over one positive scale, the greatest that keeps them whole numbers."""
        left, right = _alike(node, left, right)
        one, other = _reach(left), _reach(right)
        scale = Fraction(
            math.gcd(one.numerator * other.denominator, other.numerator * one.denominator),
            one.denominator * other.denominator,
        ) or Fraction(1)
        left, right = _over(left, scale), _over(right, scale)
        self.largest = max(self.largest, *map(abs, (left.low, left.high, right.low, right.high)))
        return left, right


def _constant(value: Fraction, unit: Unit) -> _Part:
    return _Part(unit, Fraction(1), 0, 0, value=value)


def _times(left: _Part, right: _Part) -> _Part:
    unit, scale = left.unit * right.unit, left.scale * right.scale
    if left.value is not None and right.value is not None:
        return _constant(left.value * right.value, unit)
    for many, one in ((left, right), (right, left)):
        if one.value is not None:
            if one.value == 0:
                return _constant(Fraction(0), unit)
            ends = many.low, many.high
            return _Part(unit, many.scale * one.value, *ends, many.run, many.fresh)
    corners = [x * y for x in (left.low, left.high) for y in (right.low, right.high)]
    joined = _joined(np.multiply, left, right, (min(corners), max(corners)))
    return _Part(unit, scale, joined.low, joined.high, joined.run, fresh=True)


def _alike(node: Node, left: _Part, right: _Part) -> tuple[_Part, _Part]:
    # A bare 0 is a zero of any unit, as in max(x, 0).
    if left.value == 0 and left.unit == NUMBER:
        left = _constant(Fraction(0), right.unit)
    if right.value == 0 and right.unit == NUMBER:
        right = _constant(Fraction(0), left.unit)
    if left.unit != right.unit:
        raise _fault(node, f"{left.unit} and {right.unit} do not go together; give both one unit")
    return left, right


def _value(part: _Part) -> Fraction:
    assert part.value is not None
    return part.value


def _reach(part: _Part) -> Fraction:
    return abs(part.scale if part.value is None else part.value)


def _over(part: _Part, scale: Fraction) -> _Part:
    if part.value is not None:
        whole = int(part.value / scale)
        return _Part(part.unit, scale, whole, whole, value=part.value)
    times, run = int(part.scale / scale), part.run
    if times == 1:
        return part
    ends = sorted((part.low * times, part.high * times))
    assert run is not None
    return _Part(part.unit, scale, ends[0], ends[1], multiplied(run, times, part.fresh), True)


def _operand(part: _Part) -> Callable[[Columns], Any]:
    whole = part.low
    return part.run if part.run is not None else lambda _: whole


def _joined(ufunc: Any, left: _Part, right: _Part, ends: tuple[int, int]) -> _Part:
    run = joined(ufunc, _operand(left), _operand(right), left.fresh, right.fresh)
    return _Part(left.unit, left.scale, *ends, run, fresh=True)


def _meet(left: _Part, right: _Part) -> bool:
    return left.low <= right.high and right.low <= left.high


def _fault(node: Node, message: str) -> FormulaInvalid:
    return FormulaInvalid(message, node.at.line, node.at.column)
