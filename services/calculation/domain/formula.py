"""Formulas compiled to exact integer columns.

The value of every part is `whole numbers x one exact fraction` (its scale). Constants live in
the scale, so multiplying by a factor costs no pass over the data. Ends of the whole numbers
are proved from the accepted ranges of the measures; where 64 bits cannot be proved to hold
every step, the same code runs on Python's integers. No binary fraction occurs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.columns import Column, Columns, Run, where
from services.calculation.domain.compiled import (
    Part,
    alike,
    constant,
    fault_at,
    joined_part,
    may_meet,
    operand,
    over,
    reach,
    times,
    value_of_part,
)
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
BITS_MAX = 512
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
        kind: Any = np.int64 if self.fits_int64 else object
        used = self.names & columns.keys()
        return self._run({name: columns[name].astype(kind, copy=False) for name in used})

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
    widest = max(compiler.largest, last, part.scale.denominator)
    if widest.bit_length() > BITS_MAX:
        raise FormulaInvalid(
            f"a step can take {widest.bit_length()} bits; at most {BITS_MAX} may be; write factors "
            "with fewer digits or narrow the ranges", 1, 1
        )  # fmt: skip
    compiler.wide = widest > INT64_MAX
    return Formula(
        unit=part.unit,
        scale=part.scale,
        low=min(ends),
        high=max(ends),
        names=frozenset(compiler.used),
        fits_int64=not compiler.wide,
        _run=part.run,
    )


class _Compiler:
    def __init__(self, quantities: Mapping[str, Quantity], strict: bool) -> None:
        self._quantities, self._strict = quantities, strict
        self.used: set[str] = set()
        self.largest = 0
        self.wide = False  # known when all is compiled; steps ask when they run

    def compile(self, node: Node) -> Part:
        part = self._dispatch(node)
        if part.run is not None:
            self.largest = max(self.largest, abs(part.low), abs(part.high))
        return part

    def _dispatch(self, node: Node) -> Part:
        match node:
            case Number():
                return constant(node.value, NUMBER)
            case Name():
                return self._name(node)
            case Negative():
                return times(self.compile(node.value), constant(Fraction(-1), NUMBER))
            case Binary() | Extreme():
                return self._binary(node) if isinstance(node, Binary) else self._extreme(node)
            case Choice() | Comparison():
                return self._choice(node) if isinstance(node, Choice) else self._comparison(node)

    def _name(self, node: Name) -> Part:
        name, known = node.name, self._quantities.get(node.name)
        if known is None:
            names = ", ".join(sorted(self._quantities))
            raise fault_at(node, f"{name!r} is not declared; declare it or use one of {names}")
        self.used.add(name)
        if known.value is not None:
            return constant(known.value, known.unit)
        return Part(known.unit, known.scale, known.low, known.high, lambda columns: columns[name])

    def _binary(self, node: Binary) -> Part:
        left, right = self.compile(node.left), self.compile(node.right)
        if node.op == "/":
            if right.value is None:
                raise fault_at(
                    node.right, "only a constant may divide; move measures above the line"
                )
            if right.value == 0:
                raise fault_at(node.right, "this divides by zero")
            return times(left, constant(1 / right.value, NUMBER / right.unit))
        if node.op == "*":
            return times(left, right)
        if node.op == "-":
            right = times(right, constant(Fraction(-1), NUMBER))
        if left.value is not None and right.value is not None:
            left, right = alike(node, left, right)
            return constant(value_of_part(left) + value_of_part(right), left.unit)
        left, right = self._aligned(node, left, right)
        ends = (left.low + right.low, left.high + right.high)
        return joined_part(np.add, left, right, ends)

    def _extreme(self, node: Extreme) -> Part:
        left, right = self.compile(node.left), self.compile(node.right)
        ufunc, pick = (np.minimum, min) if node.which == "min" else (np.maximum, max)
        if left.value is not None and right.value is not None:
            left, right = alike(node, left, right)
            return constant(pick(value_of_part(left), value_of_part(right)), left.unit)
        left, right = self._aligned(node, left, right)
        return joined_part(
            ufunc, left, right, (pick(left.low, right.low), pick(left.high, right.high))
        )

    def _choice(self, node: Choice) -> Part:
        test, one, other = (self.compile(part) for part in (node.test, node.yes, node.no))
        if test.value is not None:
            one, other = alike(node, one, other)
            return one if test.value else other
        left, right = self._aligned(node, one, other)
        when, yes, no = test.run, operand(left), operand(right)
        assert when is not None
        return Part(
            left.unit, left.scale, min(left.low, right.low), max(left.high, right.high),
            lambda columns: where(when(columns), yes(columns), no(columns), wide=self.wide), True,
        )  # fmt: skip

    def _comparison(self, node: Comparison) -> Part:
        left, right = self._aligned(node, self.compile(node.left), self.compile(node.right))
        outcomes = {
            bool(_COMPARE[node.op](one, other))
            for one, other in ((left.low, right.high), (left.high, right.low))
        }
        single = left.low == left.high and right.low == right.high
        fixed = len(outcomes) == 1 and (node.op != "==" or single or not may_meet(left, right))
        if fixed and self._strict:
            raise fault_at(
                node, f"this is always {outcomes.pop()} in the accepted ranges; remove it"
            )
        compare, a, b = _COMPARE[node.op], operand(left), operand(right)
        if left.value is not None and right.value is not None:
            return constant(Fraction(int(compare(left.value, right.value))), TRUTH)
        return Part(
            TRUTH, Fraction(1), 0, 1, lambda columns: compare(a(columns), b(columns)), fresh=True
        )

    def _aligned(self, node: Node, left: Part, right: Part) -> tuple[Part, Part]:
        """Both over one positive scale, the greatest that keeps them whole numbers."""
        left, right = alike(node, left, right)
        one, other = reach(left), reach(right)
        scale = Fraction(
            math.gcd(one.numerator * other.denominator, other.numerator * one.denominator),
            one.denominator * other.denominator,
        ) or Fraction(1)
        left, right = over(left, scale), over(right, scale)
        self.largest = max(self.largest, *map(abs, (left.low, left.high, right.low, right.high)))
        return left, right
