"""Formulas: a loop-free subset of Python's expressions, compiled to exact integer columns.

Allowed are names of measures and factors, decimal numbers, + - * /, division by constants,
min, max, comparisons, and `a if condition else b`. A compiled formula computes numerators
over one known denominator; bounds proved from the measures' ranges say whether 64 bits hold
every step, and Python's own integers are used where they do not. No float occurs.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.units import NUMBER, Unit, UnitMismatch

LENGTH_MAX = 500
NODES_MAX = 100
_NUMBER = re.compile(r"\d{1,18}(\.\d{1,18})?")
_INT64_MAX = 2**62  # one bit spare, so that a sum of two proved values is safe too

Column = NDArray[Any]
Columns = Mapping[str, Column]


class FormulaInvalid(Exception):
    """A formula breaks a rule at a line and column (both from 1) of its text."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message, self.line, self.column = message, line, column


@dataclass(frozen=True)
class Name:
    """What a formula may name: a measure (`low` to `high`) or a factor (`low` == `high`)."""

    unit: Unit
    low: Fraction
    high: Fraction
    constant: bool


@dataclass(frozen=True)
class _Part:
    """A compiled node: numerators over `denominator`, all between `low` and `high`."""

    run: Callable[[Columns], Any]
    denominator: int
    low: int
    high: int
    unit: Unit
    constant: Fraction | None = None

    def over(self, denominator: int) -> _Part:
        """The same value over a multiple of its denominator."""
        times = denominator // self.denominator
        if times == 1:
            return self
        run = self.run
        return _Part(
            lambda columns: run(columns) * times,
            denominator, self.low * times, self.high * times, self.unit, self.constant,
        )  # fmt: skip


@dataclass(frozen=True)
class Formula:
    """A compiled formula. `numerators(columns) / denominator` is its exact value."""

    text: str
    unit: Unit
    denominator: int
    low: Fraction
    high: Fraction
    names: frozenset[str]
    fits_int64: bool
    _run: Callable[[Columns], Any]

    def numerators(self, columns: Columns) -> Column:
        """Numerators for each element of the measures' columns (int64, one length)."""
        size = len(next(iter(columns.values())))
        if not self.fits_int64:
            columns = {name: column.astype(object) for name, column in columns.items()}
        value = self._run(columns)
        return value if isinstance(value, np.ndarray) else np.full(size, value)


def compile_formula(text: str, names: Mapping[str, Name]) -> Formula:
    """Compiles `text` over `names`; raises FormulaInvalid with line and column."""
    if len(text) > LENGTH_MAX:
        raise FormulaInvalid(f"the formula has {len(text)} characters and may have {LENGTH_MAX}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line, column = getattr(error, "lineno", 1) or 1, getattr(error, "offset", 1) or 1
        raise FormulaInvalid("this is no expression", line, column) from error
    nodes = sum(1 for _ in ast.walk(tree))
    if nodes > NODES_MAX * 2:
        raise FormulaInvalid(f"the formula has {nodes} parts and may have {NODES_MAX * 2}")
    compiler = _Compiler(text.strip(), names)
    part = compiler.compile(tree.body)
    return Formula(
        text=text.strip(),
        unit=part.unit,
        denominator=part.denominator,
        low=Fraction(part.low, part.denominator),
        high=Fraction(part.high, part.denominator),
        names=frozenset(compiler.used),
        fits_int64=compiler.largest < _INT64_MAX,
        _run=part.run,
    )


class _Compiler:
    def __init__(self, text: str, names: Mapping[str, Name]) -> None:
        self._text = text
        self._names = names
        self.used: set[str] = set()
        self.largest = 0

    def compile(self, node: ast.expr) -> _Part:
        try:
            part = self._dispatch(node)
        except UnitMismatch as error:
            raise self._fault(node, str(error)) from error
        self.largest = max(self.largest, abs(part.low), abs(part.high), part.denominator)
        return part

    def _dispatch(self, node: ast.expr) -> _Part:
        match node:
            case ast.Constant():
                return self._number(node)
            case ast.Name():
                return self._name(node)
            case ast.UnaryOp(op=ast.USub()):
                return _negated(self.compile(node.operand))
            case ast.BinOp():
                return self._arithmetic(node)
            case ast.Call(
                func=ast.Name(id="min" | "max" as which), args=[first, second], keywords=[]
            ):
                return self._extreme(which, self.compile(first), self.compile(second))
            case ast.IfExp():
                return self._choice(node)
            case ast.Compare():
                return self._comparison(node)
        raise self._fault(
            node, f"{type(node).__name__} is not part of the language; it has names, numbers, "
            "+ - * /, min, max, comparisons and `a if condition else b`"
        )  # fmt: skip

    def _number(self, node: ast.Constant) -> _Part:
        text = ast.get_source_segment(self._text, node) or ""
        if not _NUMBER.fullmatch(text):
            raise self._fault(node, f"{text[:32]!r} is no decimal number such as 12 or 0.5")
        return _constant(Fraction(text), NUMBER)

    def _name(self, node: ast.Name) -> _Part:
        name = node.id
        known = self._names.get(name)
        if known is None:
            raise self._fault(node, f"{name!r} is neither a measure nor a factor of this version")
        self.used.add(name)
        if known.constant:
            return _constant(known.low, known.unit)
        return _Part(lambda columns: columns[name], 1, int(known.low), int(known.high), known.unit)

    def _arithmetic(self, node: ast.BinOp) -> _Part:
        left, right = self.compile(node.left), self.compile(node.right)
        match node.op:
            case ast.Add():
                return self._sum(left, right)
            case ast.Sub():
                return self._sum(left, _negated(right))
            case ast.Mult():
                return self._product(left, right)
            case ast.Div():
                if right.constant is None:
                    raise self._fault(node.right, "only a constant may stand below the line")
                if right.constant == 0:
                    raise self._fault(node.right, "this divides by zero")
                inverse = _constant(1 / right.constant, NUMBER / right.unit)
                return self._product(left, inverse)
        raise self._fault(
            node, f"{type(node.op).__name__} is not part of the language; use + - * /"
        )

    def _sum(self, left: _Part, right: _Part) -> _Part:
        left, right = self._alike(left, right)
        a, b = left.run, right.run
        constant = _both(left, right, lambda x, y: x + y)
        return _Part(
            lambda columns: a(columns) + b(columns),
            left.denominator, left.low + right.low, left.high + right.high, left.unit, constant,
        )  # fmt: skip

    def _product(self, left: _Part, right: _Part) -> _Part:
        constant = _both(left, right, lambda x, y: x * y)
        if constant is not None:
            return _constant(constant, left.unit * right.unit)
        a, b = left.run, right.run
        corners = [x * y for x in (left.low, left.high) for y in (right.low, right.high)]
        low, high, denominator = min(corners), max(corners), left.denominator * right.denominator
        unit = left.unit * right.unit
        for one, many in ((left, right), (right, left)):
            if one.constant is not None and denominator > 1:
                # Cancel what factor and denominator share: 467/10 per metre stays 467/10.
                top = one.constant.numerator
                shared = math.gcd(top, many.denominator)
                times, run = top // shared, many.run
                denominator = one.constant.denominator * (many.denominator // shared)
                ends = [many.low * times, many.high * times]
                if times == 1:
                    return _Part(run, denominator, min(ends), max(ends), unit)
                return _Part(
                    lambda columns: run(columns) * times, denominator, min(ends), max(ends), unit
                )
        return _Part(lambda columns: a(columns) * b(columns), denominator, low, high, unit)

    def _extreme(self, which: str, left: _Part, right: _Part) -> _Part:
        left, right = self._alike(left, right)
        a, b = left.run, right.run
        choose, pick = (np.minimum, min) if which == "min" else (np.maximum, max)
        return _Part(
            lambda columns: choose(a(columns), b(columns)),
            left.denominator,
            pick(left.low, right.low),
            pick(left.high, right.high),
            left.unit,
            _both(left, right, pick),
        )

    def _choice(self, node: ast.IfExp) -> _Part:
        if not isinstance(node.test, ast.Compare):
            raise self._fault(node.test, "a condition compares two values")
        test = self.compile(node.test)
        left, right = self._alike(self.compile(node.body), self.compile(node.orelse))
        when, a, b = test.run, left.run, right.run
        return _Part(
            lambda columns: np.where(when(columns), a(columns), b(columns)),
            left.denominator, min(left.low, right.low), max(left.high, right.high), left.unit,
        )  # fmt: skip

    def _comparison(self, node: ast.Compare) -> _Part:
        compare: Any = {
            ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater,
            ast.GtE: np.greater_equal, ast.Eq: np.equal,
        }.get(type(node.ops[0]))  # fmt: skip
        if compare is None or len(node.ops) != 1:
            raise self._fault(node, "a comparison is one of < <= > >= == between two values")
        left, right = self._alike(self.compile(node.left), self.compile(node.comparators[0]))
        a, b = left.run, right.run
        return _Part(lambda columns: compare(a(columns), b(columns)), 1, 0, 1, _TRUTH)

    def _alike(self, left: _Part, right: _Part) -> tuple[_Part, _Part]:
        if left.unit != right.unit or left.unit == _TRUTH:
            raise UnitMismatch(f"{left.unit} and {right.unit} do not go together")
        denominator = math.lcm(left.denominator, right.denominator)
        left, right = left.over(denominator), right.over(denominator)
        self.largest = max(self.largest, *map(abs, (left.low, left.high, right.low, right.high)))
        return left, right

    def _fault(self, node: ast.expr, message: str) -> FormulaInvalid:
        return FormulaInvalid(message, node.lineno, node.col_offset + 1)


_TRUTH = Unit((("truth", 1),))


def is_condition(formula: Formula) -> bool:
    """Whether the formula is a comparison and nothing else."""
    return formula.unit == _TRUTH


def _constant(value: Fraction, unit: Unit) -> _Part:
    top = value.numerator
    return _Part(lambda _: top, value.denominator, top, top, unit, value)


def _negated(part: _Part) -> _Part:
    run, constant = part.run, part.constant
    return _Part(
        lambda columns: -run(columns),
        part.denominator, -part.high, -part.low, part.unit,
        None if constant is None else -constant,
    )  # fmt: skip


def _both(
    left: _Part, right: _Part, combine: Callable[[Fraction, Fraction], Fraction]
) -> Fraction | None:
    if left.constant is None or right.constant is None:
        return None
    return combine(left.constant, right.constant)
