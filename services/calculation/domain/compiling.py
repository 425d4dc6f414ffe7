"""From the parts of a rule to compiled formulas: what names stand for, and their ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

from services.calculation.domain.formula import Formula, Quantity, compile_formula
from services.calculation.domain.history import mean_times
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
    parse_condition,
    parse_value,
    tokens_of,
)
from services.calculation.domain.reading import FileInvalid, Section
from services.calculation.domain.rule import STATUSES, Condition, Factor, History, Measure
from services.calculation.domain.units import MASS, NUMBER, POINT, TRUTH, Unit, parse_unit

SHARE = "$share"
"""The name, which no file can write, that the grade's share has in a compiled result."""
LOW, HIGH = "$low", "$high"
"""What the names of an uncertain factor's ends finish with."""
_UNCERTAIN_MAX = 4
_NOWHERE = next(tokens_of(""))

Quantities = Mapping[str, Quantity]


@dataclass(frozen=True)
class Trees:
    """A rule's formula as written and at its ends; one tree where nothing is uncertain."""

    text: str
    tree: Node
    low: Node
    high: Node
    names: frozenset[str]


def quantities_of(
    row: Section,
    measures: Sequence[Measure],
    factors: Sequence[Factor],
    histories: Sequence[History],
    trimmed: set[str],
) -> dict[str, Quantity]:
    """What every name stands for; FileInvalid for a name that is declared twice.

    A cap trims the measures of `trimmed`, down to nothing.
    """
    quantities: dict[str, Quantity] = {}

    def add(kind: str, name: str, quantity: Quantity) -> None:
        if name in quantities:
            raise row.fault(f"{name} is declared twice; rename one", kind)
        quantities[name] = quantity

    sizes = {measure.name: parse_unit(measure.unit) for measure in measures}
    for measure in measures:
        unit, size = sizes[measure.name]
        low = min(measure.min, 0) if measure.name in trimmed else measure.min
        add("measure", measure.name, Quantity(unit, size, low, measure.max))
    for factor in factors:
        unit, size = parse_unit(factor.unit)
        for end, name in enumerate((factor.key, factor.key + LOW, factor.key + HIGH)):
            if end == 0 or factor.uncertain:
                add("factor", name, _factor_end(factor, unit, size, end))
    for history in histories:
        unit, size = sizes[history.of]
        times = mean_times(history)
        add("history", history.name, Quantity(unit, size / times, 0, history.max * times))
    return quantities


def _factor_end(factor: Factor, unit: Unit, size: Fraction, end: int) -> Quantity:
    if factor.table is None:
        text = (factor.value, factor.low, factor.high)[end]
        return Quantity(unit, Fraction(1), value=Fraction(text) * size)
    wholes = [whole[end] for whole in factor.table.wholes]
    return Quantity(unit, factor.table.scale, min(wholes), max(wholes))


def read_formula(
    row: Section, quantities: Quantities, factors: Sequence[Factor], asset: str
) -> Trees:
    """The rule's formula, checked; FileInvalid at its own line and column."""
    text = row.text("formula")
    try:
        tree = parse_value(text)
        formula = compile_formula(tree, quantities)
    except FormulaInvalid as error:
        raise _moved(row, error) from error
    wanted = POINT if asset.startswith("point:") else MASS
    if formula.unit != wanted:
        raise row.fault(
            f"the formula gives {formula.unit} and {asset} is {wanted}; mend a unit or the formula",
            "formula",
        )
    uncertain = [f.key for f in factors if f.uncertain and f.key in formula.names]
    if len(uncertain) > _UNCERTAIN_MAX:
        raise row.fault(f"{len(uncertain)} factors have low and high; at most {_UNCERTAIN_MAX} may",
                        "formula")  # fmt: skip
    low, high = (_extreme_of_ends(tree, uncertain, which) for which in ("min", "max"))
    try:
        for end in (low, high) if uncertain else ():
            compile_formula(end, quantities, strict=False)
    except FormulaInvalid as error:
        raise _moved(row, error) from error
    return Trees(text, tree, low, high, formula.names)


def _extreme_of_ends(tree: Node, uncertain: Sequence[str], which: str) -> Node:
    """The least or greatest of the formula over its value and every combination of ends."""
    if not uncertain:
        return tree
    corners = [
        renamed(tree, {key: key + end for key, end in zip(uncertain, ends, strict=True)})
        for ends in product((LOW, HIGH), repeat=len(uncertain))
    ]
    # Halved again and again, so that its depth stays within what the trees may have.
    while len(corners) > 1:
        pairs = zip(corners[::2], corners[1::2], strict=True)
        corners = [Extreme(_NOWHERE, which, one, other) for one, other in pairs]
    return Extreme(_NOWHERE, which, tree, corners[0])


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The tree with other names in it."""
    match node:
        case Number():
            return node
        case Name():
            return replace(node, name=names.get(node.name, node.name))
        case Negative():
            return replace(node, value=renamed(node.value, names))
        case Binary() | Extreme() | Comparison():
            return replace(node, left=renamed(node.left, names), right=renamed(node.right, names))
        case Choice():
            test = renamed(node.test, names)
            assert isinstance(test, Comparison)
            return replace(
                node, test=test, yes=renamed(node.yes, names), no=renamed(node.no, names)
            )


def compile_result(tree: Node, quantities: Quantities, denominator: int | None) -> Formula:
    """What is credited, times the share of the grade where `denominator` is that of the shares."""
    if denominator is not None:
        share = Quantity(NUMBER, Fraction(1, denominator), 0, denominator)
        tree = Binary(_NOWHERE, "*", tree, Name(_NOWHERE, SHARE))
        quantities = {**quantities, SHARE: share}
    # At one end of a factor a choice may go one way throughout; that is no fault of the file.
    return compile_formula(tree, quantities, strict=False)


def read_condition(row: Section, quantities: Quantities) -> Condition:
    """A comparison that an act must meet."""
    text = row.text("formula")
    try:
        tree = parse_condition(text)
        formula = compile_formula(tree, quantities)
    except FormulaInvalid as error:
        raise _moved(row, error) from error
    assert formula.unit == TRUTH
    condition = Condition(
        text, tree, formula, row.text("source"), row.choice("status", STATUSES),
        row.text("label_zh"), row.text("label_en"),
    )  # fmt: skip
    row.close()
    return condition


def _moved(row: Section, error: FormulaInvalid) -> FileInvalid:
    """The fault of a formula at its place in the file."""
    line, column = row.place("formula")
    at = f"line {error.line}, column {error.column} of the formula"
    if error.line > 1:
        return FileInvalid(f"{error.message} ({at})", line + error.line - 1, error.column)
    return FileInvalid(f"{error.message} ({at})", line, column + error.column - 1)
