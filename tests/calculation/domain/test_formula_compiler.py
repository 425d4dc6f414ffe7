"""Formulas are exact whatever their shape, and what is not a formula is refused in its place."""

from __future__ import annotations

import ast
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.calculation.domain.columns import Columns
from services.calculation.domain.formula import INT64_MAX, Formula, Quantity, compile_formula
from services.calculation.domain.parse import FormulaInvalid, parse_condition, parse_value
from services.calculation.domain.units import MASS, NUMBER, UnitMismatch, parse_unit
from tests.calculation.domain.oracle_formula import walk

METRE, METRE_SIZE = parse_unit("metre")
QUANTITIES = {
    "distance_metre": Quantity(METRE, METRE_SIZE, 0, 200_000),
    "count": Quantity(parse_unit("count")[0], Fraction(1), 1, 40),
    "per_km": Quantity(parse_unit("g/km")[0], Fraction(1), value=Fraction("46.7")),
    "nothing": Quantity(METRE, Fraction(1), value=Fraction(0)),
    "x": Quantity(NUMBER, Fraction(1, 7), -50, 1_000),
    "y": Quantity(NUMBER, Fraction(-3), -9, 10**12),
    "k": Quantity(NUMBER, Fraction(1), value=Fraction("-0.125")),
}


@pytest.mark.parametrize("text", ["count", "count < 2 < 3", "count != 2", "not count > 2", "x <"])
def test_what_is_no_single_comparison_is_no_condition(text: str) -> None:
    with pytest.raises(FormulaInvalid):
        parse_condition(text)


_LEAF = st.sampled_from(["x", "y", "k", "0", "2", "0.5", "13.37"])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    sums = st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
    divided = inner.map(lambda t: f"({t} / 7)")
    extreme = st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(
        lambda t: f"{t[0]}({t[1]}, {t[2]})"
    )
    choice = st.tuples(inner, inner, st.sampled_from(["<", "<=", ">", ">=", "=="]), inner).map(
        lambda t: f"({t[0]} if {t[1]} {t[2]} {t[3]} else -{t[0]})"
    )
    return st.one_of(sums, divided, extreme, choice)


@settings(max_examples=400, deadline=None)
@given(
    text=st.recursive(_LEAF, _grown, max_leaves=9),
    rows=st.lists(
        st.tuples(st.integers(-50, 1_000), st.integers(-9, 10**12)), min_size=1, max_size=5
    ),
)
def test_a_random_formula_is_exact_and_stays_inside_its_proved_ends(
    text: str, rows: list[tuple[int, int]]
) -> None:
    formula, refusal = _compiled(text)
    if formula is None:
        assert any(word in refusal for word in ("always", "no measure", "deeper", "characters"))
        return
    rows += [(-50, -9), (1_000, 10**12), (-50, 10**12), (1_000, -9)]
    columns = {
        name: np.array(column, np.int64)
        for name, column in zip("xy", zip(*rows, strict=True), strict=True)
    }
    before = {name: column.copy() for name, column in columns.items()}
    wholes = formula.wholes(columns)
    for place, (x, y) in enumerate(rows):
        values = {"x": Fraction(x, 7), "y": Fraction(-3 * y), "k": Fraction("-0.125")}
        expected = walk(ast.parse(text, mode="eval").body, values)
        assert int(wholes[place]) * formula.scale == expected
        assert formula.low <= expected <= formula.high
    assert all((columns[name] == before[name]).all() for name in columns)
    _rounded_as_told(formula, columns)


def _compiled(text: str) -> tuple[Formula | None, str]:
    try:
        return compile_formula(parse_value(text), QUANTITIES), ""
    except FormulaInvalid as error:
        return None, error.message


def _rounded_as_told(formula: Formula, columns: Columns) -> None:
    if max(abs(formula.low), abs(formula.high)) > INT64_MAX:
        return
    exact = [int(whole) * formula.scale for whole in formula.wholes(columns).tolist()]
    for up, rounding in ((False, math.floor), (True, math.ceil)):
        rounded = formula.rounded(columns, up=up)
        assert rounded.dtype == np.int64
        assert rounded.tolist() == [rounding(value) for value in exact]


def test_sixty_four_bits_are_used_up_to_the_border_and_not_one_step_beyond() -> None:
    def fits(high: int) -> bool:
        quantities = {"x": Quantity(NUMBER, Fraction(1), 0, high)}
        return compile_formula(parse_value("x * x"), quantities).fits_int64

    border = math.isqrt(INT64_MAX)
    assert fits(border)
    assert not fits(border + 1)


def test_beyond_sixty_four_bits_the_result_is_still_exact() -> None:
    quantities = {"x": Quantity(NUMBER, Fraction(1), 0, 2**53)}
    formula = compile_formula(parse_value("x * x * x / 12345678901234567"), quantities)
    x = np.array([2**53, 2**53 - 1, 0], np.int64)
    assert not formula.fits_int64
    wholes = formula.wholes({"x": x}).tolist()
    assert [whole * formula.scale for whole in wholes] == [
        Fraction(int(v) ** 3, 12345678901234567) for v in x
    ]


def test_multiplying_by_a_factor_costs_one_pass_and_a_whole_factor_no_division() -> None:
    formula = compile_formula(parse_value("distance_metre * per_km"), QUANTITIES)
    assert formula.unit == MASS
    assert formula.scale == Fraction(467, 10)
    assert formula.rounded({"distance_metre": np.array([1, 5_001])}).tolist() == [46, 233_546]


@pytest.mark.parametrize("text", ["g/mile", "", "km/", "g km", "G"])
def test_an_unknown_unit_is_refused_with_those_that_are_known(text: str) -> None:
    with pytest.raises(UnitMismatch, match="kWh"):
        parse_unit(text)
