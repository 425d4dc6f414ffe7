"""An independent reader of methodology files: TOML, Python's own parser, and fractions.

It shares no code with the evaluator: a formula is a subset of Python's expressions, so `ast`
reads it, and every number is a Fraction. One act at a time, caps in a dict.
"""

from __future__ import annotations

import ast
import math
import operator
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

SIZES = {
    "mg": 1, "g": 10**3, "gram": 10**3, "kg": 10**6, "t": 10**9, "metre": 1, "km": 10**3,
    "watt_hour": 1, "kWh": 10**3, "count": 1, "fen": 1, "yuan": 100, "point": 1, "1": 1,
}  # fmt: skip
GRADES = {1: "recorded", 2: "shown", 3: "declared"}
_BINARY: dict[type, Callable[[Fraction, Fraction], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq,
}  # fmt: skip


@dataclass(frozen=True)
class Act:
    """One act; day counts from 1970-01-01."""

    account: int
    day: int
    measures: dict[str, int]
    grade: int = 1


@dataclass
class Oracle:
    """One rule of a file, and what its cap has used."""

    rule: dict[str, Any]
    used: dict[tuple[int, object], int] = field(default_factory=dict)

    def credit(self, act: Act) -> tuple[int, int, int]:
        """Credited, uncapped, and what the window had used before."""
        caps = self.rule.get("cap", [])
        window = self._window(caps[0], act) if caps else None
        before = self.used.get((act.account, window), 0)
        if not self.accepts(act):
            return 0, 0, before
        uncapped = max(0, math.floor(self.value(act.measures) * self._share(act)))
        if not caps:
            return uncapped, uncapped, 0
        cap = caps[0]
        if uncapped == 0:
            return 0, 0, before
        asked = {"count": 1, "result": uncapped}.get(cap["of"]) or act.measures[cap["of"]]
        granted = min(asked, cap["amount"] - before)
        if cap["window"] != "act":
            self.used[act.account, window] = before + granted
        return self._granted(cap, act, uncapped, asked, granted), uncapped, before

    def _granted(
        self, cap: dict[str, Any], act: Act, uncapped: int, asked: int, granted: int
    ) -> int:
        if granted == asked:
            return uncapped
        if granted == 0 or cap["of"] == "result":
            return granted
        trimmed = self.value({**act.measures, cap["of"]: granted}) * self._share(act)
        return min(uncapped, max(0, math.floor(trimmed)))

    def accepts(self, act: Act) -> bool:
        """Whether it is inside every range, meets every condition, and its grade counts."""
        if any(not m["min"] <= act.measures[m["name"]] <= m["max"] for m in self.rule["measure"]):
            return False
        values = self._values(act.measures)
        if not all(self._eval(c["formula"], values) for c in self.rule.get("condition", [])):
            return False
        grades = [row["grade"] for row in self.rule.get("grade", [])]
        return not grades or GRADES.get(act.grade) in grades

    def value(self, measures: dict[str, int]) -> Fraction:
        """The formula's value in mg or points."""
        return Fraction(self._eval(self.rule["formula"], self._values(measures)))

    def _share(self, act: Act) -> Fraction:
        rows = {row["grade"]: Fraction(row["share"]) for row in self.rule.get("grade", [])}
        return rows[GRADES[act.grade]] if rows else Fraction(1)

    def _values(self, measures: dict[str, int]) -> dict[str, Fraction]:
        values = {m["name"]: measures[m["name"]] * size_of(m["unit"]) for m in self.rule["measure"]}
        return values | {
            f["key"]: Fraction(f["value"]) * size_of(f["unit"]) for f in self.rule["factor"]
        }

    def _eval(self, text: str, values: dict[str, Fraction]) -> Any:
        return walk(ast.parse(f"({text})", mode="eval").body, values)

    @staticmethod
    def _window(cap: dict[str, Any], act: Act) -> object:
        when = date(1970, 1, 1) + timedelta(days=act.day)
        return {"act": None, "day": when, "month": (when.year, when.month)}[cap["window"]]


def oracles(text: str) -> list[Oracle]:
    """The rules of a file, in order."""
    return [Oracle(rule) for version in tomllib.loads(text)["version"] for rule in version["rule"]]


def size_of(unit: str) -> Fraction:
    """Base units in one of `unit`."""
    first, *below = unit.split("/")
    size = Fraction(SIZES[first])
    for name in below:
        size /= SIZES[name]
    return size


def walk(node: ast.expr, values: dict[str, Fraction]) -> Any:
    """The value of a Python expression in fractions."""
    match node:
        case ast.Constant(value=int() | float() as number):
            return Fraction(repr(number))
        case ast.Name():
            return values[node.id]
        case ast.UnaryOp(op=ast.USub()):
            return -walk(node.operand, values)
        case ast.BinOp():
            return _BINARY[type(node.op)](walk(node.left, values), walk(node.right, values))
        case ast.Compare(ops=[op], comparators=[right]):
            return _BINARY[type(op)](walk(node.left, values), walk(right, values))
    return _walk_choice(node, values)


def _walk_choice(node: ast.expr, values: dict[str, Fraction]) -> Any:
    match node:
        case ast.Call(func=ast.Name(id="min" | "max" as which)):
            pick = min if which == "min" else max
            return pick(walk(argument, values) for argument in node.args)
        case ast.IfExp():
            return walk(node.body if walk(node.test, values) else node.orelse, values)
    raise TypeError(ast.dump(node))
