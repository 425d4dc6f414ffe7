"""Formulas for the independent reader: Python's parser, then fractions or plain Python integers.

Two ways that are held together by a test: `evaluated` walks the tree in fractions, and `compiled`
writes the tree out again as Python over whole numbers with one denominator that is known before
any act is, which is some thirty times as fast.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import Any, NamedTuple

SIZES = {
    "mg": 1, "g": 10**3, "gram": 10**3, "kg": 10**6, "t": 10**9, "metre": 1, "km": 10**3,
    "second": 1, "minute": 60, "hour": 3600, "watt_hour": 1, "kWh": 10**3, "MWh": 10**6,
    "millilitre": 1, "litre": 10**3, "L": 10**3, "count": 1, "fen": 1, "yuan": 100, "point": 1,
    "1": 1,
}  # fmt: skip
_BINARY: dict[type, Callable[[Fraction, Fraction], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq,
}  # fmt: skip
_SIGNS = {
    ast.Add: "+", ast.Sub: "-", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Eq: "==",
}  # fmt: skip
Names = Mapping[str, "Fraction | str"]
"""What each name of a formula is: a constant, or the argument that brings whole numbers."""


def size_of(unit: str) -> Fraction:
    """Base units in one of `unit`."""
    first, *below = unit.split("/")
    size = Fraction(SIZES[first])
    for name in below:
        size /= SIZES[name]
    return size


def tree_of(text: str) -> ast.expr:
    """Python's tree of a formula, each number with the very digits that were written."""
    bracketed = f"({text}\n)"
    tree = ast.parse(bracketed, mode="eval").body
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            # A literal with a point is a binary fraction to Python; its digits are exact.
            node.kind = ast.get_source_segment(bracketed, node)
    return tree


def evaluated(text: str, values: Mapping[str, Fraction]) -> Any:
    """The value of a formula in fractions, or the truth of a condition."""
    return walk(tree_of(text), values)


def walk(node: ast.expr, values: Mapping[str, Fraction]) -> Any:
    """The value of a Python expression in fractions."""
    match node:
        case ast.Constant():
            return number_of(node)
        case ast.Name():
            return values[node.id]
        case ast.UnaryOp(op=ast.USub()):
            return -walk(node.operand, values)
        case ast.BinOp():
            return _BINARY[type(node.op)](walk(node.left, values), walk(node.right, values))
        case ast.Compare(ops=[op], comparators=[right]):
            return _BINARY[type(op)](walk(node.left, values), walk(right, values))
    return _walk_choice(node, values)


def _walk_choice(node: ast.expr, values: Mapping[str, Fraction]) -> Any:
    match node:
        case ast.Call(func=ast.Name(id="min" | "max" as which)):
            pick = min if which == "min" else max
            return pick(walk(argument, values) for argument in node.args)
        case ast.IfExp():
            return walk(node.body if walk(node.test, values) else node.orelse, values)
    raise TypeError(ast.dump(node))


def number_of(node: ast.Constant) -> Fraction:
    """The exact value of a decimal constant."""
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        raise TypeError(ast.dump(node))
    return Fraction(node.kind or repr(node.value))


class Whole(NamedTuple):
    """Python text of a whole number, and what it is to be divided by (from 1)."""

    text: str
    parts: int


def compiled(
    text: str, sizes: Mapping[str, Fraction], ways: Sequence[Names]
) -> tuple[Callable[..., int], int]:
    """The formula's least value over several ways to read its names, as a function and its parts.

    The function takes one whole number for each of `sizes`, in that order, which says what one
    of it is worth; the value is what it returns over the parts. A condition returns its truth.
    """
    wholes = [_Writer(sizes, names).write(tree_of(text)) for names in ways]
    least = wholes[0] if len(wholes) == 1 else _least(wholes)
    code = f"lambda {', '.join(sizes)}: {least.text}"
    return eval(code, {"__builtins__": {}, "min": min, "max": max}), least.parts


def _least(wholes: Sequence[Whole]) -> Whole:
    parts, texts = _over_one(*wholes)
    return Whole(f"min({', '.join(texts)})", parts)


def _over_one(*wholes: Whole) -> tuple[int, list[str]]:
    parts = lcm(*(whole.parts for whole in wholes))
    times = [parts // whole.parts for whole in wholes]
    return parts, [
        whole.text if many == 1 else f"{whole.text} * {many}"
        for whole, many in zip(wholes, times, strict=True)
    ]


class _Writer:
    def __init__(self, sizes: Mapping[str, Fraction], names: Names) -> None:
        self._sizes, self._names = sizes, names

    def write(self, node: ast.expr) -> Whole:
        match node:
            case ast.Constant():
                return _constant(number_of(node))
            case ast.Name():
                return self._name(node.id)
            case ast.UnaryOp(op=ast.USub()):
                whole = self.write(node.operand)
                return Whole(f"(-{whole.text})", whole.parts)
            case ast.BinOp(op=ast.Mult() | ast.Div()):
                return self._product(node)
            case ast.BinOp() | ast.Compare():
                return self._joined(node)
        return self._choice(node)

    def _product(self, node: ast.BinOp) -> Whole:
        left = self.write(node.left)
        if isinstance(node.op, ast.Mult):
            right = self.write(node.right)
            return Whole(f"({left.text} * {right.text})", left.parts * right.parts)
        by = self._fixed(node.right)
        over = by.denominator if by > 0 else -by.denominator
        return Whole(f"({left.text} * {over})", left.parts * abs(by.numerator))

    def _choice(self, node: ast.expr) -> Whole:
        match node:
            case ast.Call(func=ast.Name(id="min" | "max" as which)):
                parts, texts = _over_one(*map(self.write, node.args))
                return Whole(f"{which}({', '.join(texts)})", parts)
            case ast.IfExp():
                parts, (yes, no) = _over_one(self.write(node.body), self.write(node.orelse))
                return Whole(f"({yes} if {self.write(node.test).text} else {no})", parts)
        raise TypeError(ast.dump(node))

    def _name(self, name: str) -> Whole:
        known = self._names.get(name, name)
        if isinstance(known, Fraction):
            return _constant(known)
        size = self._sizes[known]
        text = known if size.numerator == 1 else f"({known} * {size.numerator})"
        return Whole(text, size.denominator)

    def _joined(self, node: ast.BinOp | ast.Compare) -> Whole:
        if isinstance(node, ast.BinOp):
            sign, right = _SIGNS[type(node.op)], node.right
        else:
            (op,), (right,) = node.ops, node.comparators
            sign = _SIGNS[type(op)]
        parts, (one, other) = _over_one(self.write(node.left), self.write(right))
        return Whole(f"({one} {sign} {other})", parts if isinstance(node, ast.BinOp) else 1)

    def _fixed(self, node: ast.expr) -> Fraction:
        constants = {
            name: known for name, known in self._names.items() if not isinstance(known, str)
        }
        return Fraction(walk(node, constants))


def _constant(value: Fraction) -> Whole:
    text = str(value.numerator)
    return Whole(f"({text})" if value < 0 else text, value.denominator)
