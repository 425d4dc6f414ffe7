"""What is not a formula is refused at its place, whatever it is; what is one has a bounded cost."""

from __future__ import annotations

import ast
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.calculation.domain.formula import Formula, compile_formula
from services.calculation.domain.library import load_library
from services.calculation.domain.methodology import Version
from services.calculation.domain.parse import FormulaInvalid, parse_value
from tests.calculation.domain.drawn import random_columns
from tests.calculation.domain.hostile_corpus import HOSTILE
from tests.calculation.domain.test_formula_compiler import QUANTITIES
from tests.calculation.domain.world import TESTSET, DictStore, evaluate_columns, faults_of


@pytest.mark.parametrize(("text", "line", "column", "said"), HOSTILE)
def test_a_hostile_formula_is_refused_at_its_line_and_column_with_a_sentence(
    text: str, line: int, column: int, said: str
) -> None:
    with pytest.raises(FormulaInvalid) as caught:
        compile_formula(parse_value(text), QUANTITIES)
    assert said in caught.value.message
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 11 + "x" + ")" * 11,
        "-" * 21 + "x",
        "+".join("x" * 100),
        "x" + " " * 498 + "\n",
        "x -- y",
        "x * 999999999999999999.999999999999999999",
        "min(x, y, -1 if x < 3 else 2, max(0, k))",
        "x if x < 3 else y if x <= 4 else k if y == 7 else 0",
        "x / -0.5 / (3 - 1) / min(2, 3)",
        "\tx\r\n+\ty ",
    ],
)
def test_what_is_just_inside_the_language_is_a_formula(text: str) -> None:
    assert compile_formula(parse_value(text), QUANTITIES).names <= QUANTITIES.keys()


def test_the_corpus_is_large_and_names_every_text_once() -> None:
    texts = [text for text, *_ in HOSTILE]
    assert len(texts) == len(set(texts)) > 160


WORDS = [
    "x", "y", "k", "count", "distance_metre", "per_km", "0", "1", "2.5", "(", ")", ",", "min(",
    "max(", "if", "else", "<", "<=", ">", ">=", "==", "+", "-", "*", "/", " ", "\n", "and", "not",
    "**", "1e5", "lambda", ".", "'", "=", "\u0661", "\uff0a", "in", "walk_metre",
]  # fmt: skip


@settings(max_examples=1_500, deadline=500)
@given(
    st.one_of(st.text(max_size=400), st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
)
def test_any_text_either_compiles_or_is_refused_in_its_place_and_nothing_else(text: str) -> None:
    formula, error = tried(text)
    if formula is not None:
        python_reads(text)
        return
    assert error is not None
    lines = text.split("\n")
    assert 1 <= error.line <= len(lines)
    assert 1 <= error.column <= len(lines[error.line - 1]) + 1
    assert len(error.message.split()) >= 3


@pytest.mark.parametrize("name", ["in", "is", "lambda", "class", "from", "yield", "await", "def"])
def test_a_name_that_python_keeps_for_itself_is_no_name_of_a_factor(name: str) -> None:
    # Else the formula would not be the subset of Python that others may read it as.
    text = (TESTSET / "day-distance.toml").read_text("utf-8").replace("per_km", name)
    (fault,) = faults_of({"day-distance.toml": text})
    assert repr(name) in fault.message
    assert text.splitlines()[fault.line - 1] == f'key = "{name}"'


def tried(text: str) -> tuple[Formula | None, FormulaInvalid | None]:
    try:
        return compile_formula(parse_value(text), QUANTITIES), None
    except FormulaInvalid as error:
        return None, error


def python_reads(text: str) -> None:
    allowed = (ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Compare, ast.Call, ast.Name, ast.Constant,
               ast.operator, ast.unaryop, ast.cmpop, ast.expr_context)  # fmt: skip
    for node in ast.walk(ast.parse(f"({text}\n)", mode="eval").body):
        assert isinstance(node, allowed)


PLAIN = ("fen * f", "mg/fen", "")
WIDE = ("min(" + "*".join(["fen"] * 8) + "*f, most)", "mg" + "/fen" * 8, "")
# The dearest that loads: numbers of nearly 512 bits, once for each combination of four ends.
DEAREST = (
    "min(" + "*".join(["fen"] * 8) + "*f*a*b*c, most)", "mg" + "/fen" * 8, 'credit = "low"',
)  # fmt: skip
LONG = ("+".join(["fen*f"] * 49), "mg/fen", "")


def costly(formula: str, unit: str, credit: str) -> Version:
    """A rule with that formula; with `credit`, four of its factors are uncertain."""
    text = (TESTSET / "act-distance.toml").read_text("utf-8")
    head, _, _ = text.partition("[[version.rule]]")
    ends = 'low = "0.5"\nhigh = "2"\n' if credit else ""
    told = 'source = "invented"\nstatus = "operator"\nlabel_zh = "a"\nlabel_en = "a"\n'
    rule = f'[[version.rule]]\nscenes = ["costly"]\nformula = "{formula}"\n{credit}\n'
    rule += '[[version.rule.measure]]\nname = "fen"\nunit = "fen"\nmin = 0\n'
    rule += f'max = {100_000 if "most" not in formula else 2**53}\nlabel_zh = "a"\nlabel_en = "a"\n'
    for key, of in {"f": unit, "a": "1", "b": "1", "c": "1", "most": "kg"}.items():
        if key == "f" or key in formula.replace("max", ""):
            rule += f'[[version.rule.factor]]\nkey = "{key}"\nvalue = "1"\nunit = "{of}"\n{told}'
            rule += "" if key == "most" else ends
    rule += (
        '[[version.rule.case]]\nid = "c"\nmeasures = { fen = 0 }\nexpected_mg = 0\nsource = "a"\n'
    )
    library = load_library({"act-distance.toml": head + rule})
    return library.methodologies["act-distance"].versions[0]


def nanoseconds_an_act(version: Version, acts: int) -> float:
    columns = random_columns(version, acts, seed=1)
    took = []
    for _ in range(3):
        started = time.perf_counter_ns()
        evaluate_columns(version, columns, DictStore())
        took.append(time.perf_counter_ns() - started)
    return min(took) / acts


@pytest.mark.parametrize(
    ("rule", "acts", "times_most"), [(LONG, 100_000, 100), (WIDE, 2_000, 40_000),
                                     (DEAREST, 500, 400_000)],
    ids=["64 bits", "wider", "wider, with ends"],
)  # fmt: skip
def test_the_dearest_formula_that_loads_costs_a_bounded_number_of_plain_ones(
    rule: tuple[str, str, str], acts: int, times_most: int
) -> None:
    # Measured: 20 times, 7,000 times, 74,000 times. What bounds it are the 200 words,
    # the 53 bits of a measure and the four uncertain factors.
    plain = nanoseconds_an_act(costly(*PLAIN), 100_000)
    assert nanoseconds_an_act(costly(*rule), acts) < times_most * plain


def test_the_dearest_formulas_are_what_they_are_meant_to_be() -> None:
    assert costly(*LONG).result.fits_int64
    assert not costly(*WIDE).result.fits_int64
    dearest = costly(*DEAREST)
    columns = random_columns(dearest, 50, seed=2)
    assert dearest.credits_low
    assert sum(factor.uncertain for factor in dearest.factors) == 4
    assert np.all(evaluate_columns(dearest, columns, DictStore()).credited <= 10**6)
