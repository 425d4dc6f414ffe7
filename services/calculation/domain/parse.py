"""The formula language: text to tree, with the line and column of everything.

    value      = sum [ "if" comparison "else" value ]
    comparison = sum ( "<" | "<=" | ">" | ">=" | "==" ) sum
    sum        = product { ( "+" | "-" ) product }
    product    = signed { ( "*" | "/" ) signed }
    signed     = "-" signed | number | name | ( "min" | "max" ) "(" value { "," value } ")"
               | "(" value ")"

It is a subset of Python's expressions, so that an independent reader can be had for nothing.
There are no loops, calls, attributes or floats; length, size and depth are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

LENGTH_MAX = 500
TOKENS_MAX = 200
DEPTH_MAX = 24
COMPARISONS = ("<", "<=", ">", ">=", "==")
RESERVED = frozenset({"min", "max", "if", "else", "and", "or", "not"})

_TOKEN = re.compile(
    r"(?P<number>\d[\w.]*)|(?P<name>[A-Za-z_]\w*)|(?P<sign><=|>=|==|[-+*/(),<>])", re.ASCII
)
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?", re.ASCII)


class FormulaInvalid(Exception):
    """A formula breaks a rule at a line and column (both from 1) of its text."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message, self.line, self.column = message, line, column


@dataclass(frozen=True)
class Token:
    """A word of the text; kind is number, name, sign or end."""

    kind: str
    text: str
    line: int
    column: int
    start: int


@dataclass(frozen=True)
class Number:
    """A decimal constant without unit."""

    at: Token
    value: Fraction


@dataclass(frozen=True)
class Name:
    """A measure or a factor."""

    at: Token
    name: str


@dataclass(frozen=True)
class Negative:
    """Minus `value`."""

    at: Token
    value: Node


@dataclass(frozen=True)
class Binary:
    """`left` op `right`, op one of + - * /."""

    at: Token
    op: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Extreme:
    """The least or the greatest of two; `which` is min or max."""

    at: Token
    which: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Comparison:
    """`left` op `right`, op one of COMPARISONS."""

    at: Token
    op: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Choice:
    """`yes` where `test` holds, else `no`."""

    at: Token
    test: Comparison
    yes: Node
    no: Node


Node = Number | Name | Negative | Binary | Extreme | Comparison | Choice


def tokens_of(text: str) -> Iterator[Token]:
    """The words of a formula, ended by one of kind "end"; raises FormulaInvalid."""
    place, line, line_start = 0, 1, 0
    while place < len(text):
        if text[place] in " \t\r\n":
            if text[place] == "\n":
                line, line_start = line + 1, place + 1
            place += 1
            continue
        column = place - line_start + 1
        found = _TOKEN.match(text, place)
        if found is None:
            raise FormulaInvalid(
                f"{text[place]!r} is not part of the language; use names, decimal numbers, "
                "+ - * /, min, max, comparisons and `a if x < y else b`", line, column
            )  # fmt: skip
        yield Token(found.lastgroup or "", found.group(), line, column, place)
        place = found.end()
    yield Token("end", "", line, place - line_start + 1, place)


def parse_value(text: str) -> Node:
    """The tree of a formula; raises FormulaInvalid."""
    parser = _Parser(text)
    return parser.finish(parser.value())


def parse_condition(text: str) -> Comparison:
    """The tree of a comparison; raises FormulaInvalid."""
    parser = _Parser(text)
    node = parser.comparison()
    parser.finish(node)
    return node


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > LENGTH_MAX:
            before = text[:LENGTH_MAX].split("\n")
            raise FormulaInvalid(
                f"the formula has {len(text)} characters; shorten it to {LENGTH_MAX}",
                len(before), len(before[-1]) + 1,
            )  # fmt: skip
        self._tokens = list(tokens_of(text))
        if len(self._tokens) > TOKENS_MAX:
            late = self._tokens[TOKENS_MAX]
            raise FormulaInvalid(
                f"the formula has more than {TOKENS_MAX} words; shorten it", late.line, late.column
            )
        self._place = 0
        self._depth = 0

    def finish(self, node: Node) -> Node:
        if self._now.kind != "end":
            raise self._unexpected("the end of the formula")
        return node

    def value(self) -> Node:
        first = self._deeper()
        yes = self._sum()
        if self._take("if"):
            test = self.comparison()
            self._expect("else")
            yes = Choice(first, test, yes, self.value())
        self._depth -= 1
        return yes

    def comparison(self) -> Comparison:
        left = self._sum()
        at = self._now
        if at.text not in COMPARISONS:
            raise self._unexpected(f"one of {' '.join(COMPARISONS)}")
        self._place += 1
        return Comparison(at, at.text, left, self._sum())

    def _sum(self) -> Node:
        node = self._product()
        while (at := self._now).text in {"+", "-"}:
            self._place += 1
            node = Binary(at, at.text, node, self._product())
        return node

    def _product(self) -> Node:
        node = self._signed()
        while (at := self._now).text in {"*", "/"}:
            self._place += 1
            node = Binary(at, at.text, node, self._signed())
        return node

    def _signed(self) -> Node:
        at = self._deeper()
        node: Node
        if self._take("-"):
            node = Negative(at, self._signed())
        elif at.kind == "number":
            node = self._number(at)
        elif at.text in {"min", "max"}:
            node = self._extreme(at)
        elif self._take("("):
            node = self.value()
            self._expect(")")
        elif at.kind == "name" and at.text not in RESERVED:
            self._place += 1
            node = Name(at, at.text)
            if self._now.text == "(":
                raise self._fault(at, f"{at.text} cannot be called; only min and max can")
        else:
            raise self._unexpected("a name, a number or an opening parenthesis")
        self._depth -= 1
        return node

    def _number(self, at: Token) -> Node:
        if not _DECIMAL.fullmatch(at.text):
            raise self._fault(at, f"{at.text[:40]!r} is not a decimal number such as 12 or 0.5")
        self._place += 1
        return Number(at, Fraction(at.text))

    def _extreme(self, at: Token) -> Node:
        self._place += 1
        self._expect("(")
        node = self.value()
        self._expect(",")
        node = Extreme(at, at.text, node, self.value())
        while self._take(","):
            node = Extreme(at, at.text, node, self.value())
        self._expect(")")
        return node

    @property
    def _now(self) -> Token:
        return self._tokens[self._place]

    def _take(self, text: str) -> bool:
        taken = self._now.text == text
        self._place += taken
        return taken

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._unexpected(repr(text))

    def _deeper(self) -> Token:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._fault(self._now, f"this is nested deeper than {DEPTH_MAX}; flatten it")
        return self._now

    def _unexpected(self, wanted: str) -> FormulaInvalid:
        found = repr(self._now.text) if self._now.text else "the end"
        return self._fault(self._now, f"found {found} where {wanted} should stand")

    def _fault(self, at: Token, message: str) -> FormulaInvalid:
        return FormulaInvalid(message, at.line, at.column)
