"""The array code, the plain evaluator and an independent reader come to the same milligrams."""

from __future__ import annotations

import ast
import random
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from services.calculation.domain.evaluate import OK, evaluate
from services.calculation.domain.exact import Act as PlainAct
from services.calculation.domain.exact import assess_act, assess_window
from services.calculation.domain.explain import explain
from services.calculation.domain.methodology import Version
from tests.calculation.domain.drawn import Columns, random_columns
from tests.calculation.domain.oracle import Memory, Oracle
from tests.calculation.domain.oracle_formula import compiled, evaluated
from tests.calculation.domain.world import (
    DictStore,
    difference,
    differing,
    evaluate_columns,
    methodologies,
    outcomes_of,
    rules,
)

RULES = rules()
EVERY_RULE = pytest.mark.parametrize(
    ("version", "oracle"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES]
)
# Files of the test set whose caps random acts must really meet.
CAPPED = {
    "act-distance", "day-count", "day-distance", "month-count", "month-result", "three-caps",
    "three-caps-measured", "tiered", "piecewise", "two-versions", "uncertain-low", "table-fuel",
}  # fmt: skip
SHARING = {name: of_one for name, of_one in methodologies().items() if len(of_one) > 1}


@EVERY_RULE
def test_ten_thousand_random_acts_earn_what_the_independent_reader_says(
    version: Version, oracle: Oracle
) -> None:
    columns = random_columns(version, 10_000, seed=11)
    ours = evaluate_columns(version, columns, DictStore())
    theirs = outcomes_of(oracle.afresh(), version, columns)
    wrong = differing(version, ours, theirs)
    assert not wrong, difference(version, oracle, columns, wrong[0])


@pytest.mark.parametrize("name", SHARING)
def test_rules_of_one_methodology_use_up_the_caps_that_they_share(name: str) -> None:
    memory, store = Memory(), DictStore()
    for turn in range(12):
        _, version, oracle = SHARING[name][turn % len(SHARING[name])]
        shared = oracle.remembering(memory)
        columns = random_columns(version, 150, seed=20 + turn, accounts=4, people=3)
        ours = evaluate_columns(version, columns, store)
        assert not differing(version, ours, outcomes_of(shared, version, columns))


@EVERY_RULE
def test_the_working_of_an_act_ends_in_the_very_milligrams_it_was_credited(
    version: Version, oracle: Oracle
) -> None:
    columns = random_columns(version, 150, seed=12, accounts=4)
    ours = evaluate_columns(version, columns, DictStore())
    for place, act in enumerate(plain_acts(version, columns, ours.histories)):
        used = [int(column[place]) for column in ours.used_before]
        working = explain(version, act, used)
        assert working.credited == ours.credited[place]
        assert working.uncapped == ours.uncapped[place]
        assert working.refused == ours.refused[place]
        assert working.steps[-1].result == str(working.credited)


@EVERY_RULE
def test_the_interval_of_an_act_is_that_of_every_combination_of_ends(
    version: Version, oracle: Oracle
) -> None:
    columns = random_columns(version, 60, seed=18)
    ours = evaluate_columns(version, columns, DictStore())
    reader = oracle.afresh()
    for place, (told, act) in enumerate(
        zip(plain_acts(version, columns, ours.histories), columns.acts(version), strict=True)
    ):
        if ours.refused[place] == OK:
            exact = assess_act(version, told)
            assert (exact.low, exact.high) == reader.interval(act)
        reader.credit(act)


@EVERY_RULE
def test_acts_split_into_batches_anywhere_earn_what_one_batch_earns(
    version: Version, oracle: Oracle
) -> None:
    columns = random_columns(version, 1_000, seed=13, accounts=8)
    whole = evaluate_columns(version, columns, DictStore()).credited.tolist()
    draw = random.Random(14)
    for pieces in (1, 7, 60):
        cuts = sorted({0, len(columns), *(draw.randrange(len(columns)) for _ in range(pieces))})
        store, credited = DictStore(), []
        for start, end in pairwise(cuts):
            part = columns.take(slice(start, end))
            credited += evaluate_columns(version, part, store).credited.tolist()
        assert credited == whole


@EVERY_RULE
def test_one_window_earns_what_the_law_of_survivors_says(version: Version, oracle: Oracle) -> None:
    columns = random_columns(version, 200, seed=15).at(account=5, day=20_550)
    ours = evaluate_columns(version, columns, DictStore())
    assert ours.credited.tolist() == assess_window(
        version, plain_acts(version, columns, ours.histories)
    )


@EVERY_RULE
def test_withdrawn_acts_leave_what_one_evaluation_of_the_survivors_gives(
    version: Version, oracle: Oracle
) -> None:
    columns = random_columns(version, 600, seed=16, accounts=3)
    survive = np.flatnonzero(np.random.default_rng(17).random(600) < 0.9)
    survivors = columns.take(survive)
    ours = evaluate_columns(version, survivors, DictStore())
    assert not differing(version, ours, outcomes_of(oracle.afresh(), version, survivors))
    before = evaluate_columns(version, columns, DictStore()).credited
    first = int(np.flatnonzero(np.diff(survive, prepend=-1, append=600) > 1)[0])
    # What was recorded before the first withdrawn act does not change.
    assert ours.credited[:first].tolist() == before[:first].tolist()


def test_the_test_set_really_meets_what_it_was_made_for() -> None:
    met: dict[str, int] = {}
    for label, version, _ in RULES:
        ours = evaluate_columns(version, random_columns(version, 10_000, seed=11), DictStore())
        capped = int((ours.credited < ours.uncapped).sum())
        if label.split("/")[0] in CAPPED:
            assert (capped > 20) == bool(version.caps), label
        met["negative"] = met.get("negative", 0) + int((ours.credited < 0).sum())
        met["not eligible"] = met.get("not eligible", 0) + int((ours.refused == 2).sum())
        met["past"] = met.get("past", 0) + sum(int((h > 0).sum()) for h in ours.histories)
        met["wide"] = met.get("wide", 0) + (not version.result.fits_int64)
        met["three caps"] = met.get("three caps", 0) + (len(version.caps) == 3)
        met["credit low"] = met.get("credit low", 0) + version.credits_low
        met["emission"] = met.get("emission", 0) + (version.asset == "emission")
        for factor in version.factors:
            if factor.table is not None:
                kinds = len(factor.table.labels), factor.table.by_region, factor.table.by_date
                met[f"table by {kinds}"] = 1
    assert min(met.values()) > 0
    assert {"table by (2, True, True)", "table by (0, False, True)"} < met.keys()
    assert met["three caps"] >= 2
    assert met["wide"] >= 2


@EVERY_RULE
def test_the_two_ways_in_which_the_reader_reads_a_formula_agree(
    version: Version, oracle: Oracle
) -> None:
    draw = random.Random(19)
    texts = [oracle.rule["formula"], *(c["formula"] for c in oracle.rule.get("condition", []))]
    sizes = {name: Fraction(draw.randint(1, 90), draw.randint(1, 90)) for name in version.values}
    names = {factor.key for factor in version.factors} | sizes.keys()
    sizes |= {name: Fraction(draw.randint(1, 9), 7) for name in names - sizes.keys()}
    constants = {f.key: sizes[f.key] for f in version.factors if f.table is None}
    written = {name: size for name, size in sizes.items() if "$" not in name}
    brought = {name: size for name, size in written.items() if name not in constants}
    for text in texts:
        run, parts = compiled(text, brought, [constants])
        for _ in range(50):
            wholes = [draw.randint(-200, 200) for _ in brought]
            values = constants | {
                name: whole * size
                for whole, (name, size) in zip(wholes, brought.items(), strict=True)
            }
            assert Fraction(run(*wholes), parts) == evaluated(text, values)


def test_the_independent_reader_shares_no_code_with_the_evaluator() -> None:
    files = sorted(Path(__file__).parent.glob("oracle*.py"))
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert len(files) == 3
    assert not [module for module in imported if module and module.startswith(("serv", "num"))]


def test_without_a_trace_the_milligrams_are_the_same() -> None:
    for _, version, _ in RULES:
        columns = random_columns(version, 500, seed=17, accounts=5)
        with_trace, without = (
            evaluate(
                version, columns.measures, accounts=columns.accounts, days=columns.days,
                grades=columns.grades, regions=columns.regions, labels=columns.labels,
                caps_used=DictStore(), trace=trace,
            )
            for trace in (True, False)
        )  # fmt: skip
        assert with_trace.credited.tolist() == without.credited.tolist()
        assert not any(column.any() for column in without.used_before)


def plain_acts(
    version: Version, columns: Columns, histories: tuple[np.ndarray, ...]
) -> list[PlainAct]:
    """Acts as the plain evaluator takes them, each with the past that the arrays found."""
    return [
        PlainAct(
            measures={name: int(column[n]) for name, column in columns.measures.items()},
            grade=int(columns.grades[n]), region=int(columns.regions[n]), day=int(columns.days[n]),
            labels={name: int(column[n]) for name, column in columns.labels.items()},
            history={
                history.name: int(column[n])
                for history, column in zip(version.histories, histories, strict=True)
            },
        )
        for n in range(len(columns))
    ]  # fmt: skip
