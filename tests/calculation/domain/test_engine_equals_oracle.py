"""The array code, the plain evaluator and an independent reader come to the same milligrams."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from services.calculation.domain.evaluate import OK, NothingUsed, assess_window, evaluate, explain
from services.calculation.domain.exact import Act as PlainAct
from services.calculation.domain.methodology import Version
from tests.calculation.domain.oracle import Act, Oracle
from tests.calculation.domain.world import DictStore, evaluate_acts, random_acts, rules

RULES = rules()
EVERY_RULE = pytest.mark.parametrize(
    ("version", "oracle"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES]
)


@EVERY_RULE
def test_ten_thousand_random_acts_earn_what_the_independent_reader_says(
    version: Version, oracle: Oracle
) -> None:
    oracle = Oracle(oracle.rule)
    acts = random_acts(version, 10_000, seed=11)
    evaluated = evaluate_acts(version, acts, DictStore())
    expected = [oracle.credit(act) for act in acts]
    assert evaluated.credited.tolist() == [credited for credited, _, _ in expected]
    assert evaluated.uncapped.tolist() == [uncapped for _, uncapped, _ in expected]
    assert evaluated.used_before.tolist() == [used for _, _, used in expected]
    assert (evaluated.refused == OK).tolist() == [oracle.accepts(act) for act in acts]


@EVERY_RULE
def test_the_working_of_an_act_ends_in_the_very_milligrams_it_was_credited(
    version: Version, oracle: Oracle
) -> None:
    acts = random_acts(version, 300, seed=12, accounts=6)
    evaluated = evaluate_acts(version, acts, DictStore())
    for place, act in enumerate(acts):
        used = int(evaluated.used_before[place])
        working = explain(version, act.measures, used_before=used, grade=act.grade)
        assert working.credited == evaluated.credited[place]
        assert working.uncapped == evaluated.uncapped[place]
        assert working.refused == evaluated.refused[place]
        assert working.steps[-1].result == str(working.credited)


@EVERY_RULE
def test_acts_split_into_batches_anywhere_earn_what_one_batch_earns(
    version: Version, oracle: Oracle
) -> None:
    acts = random_acts(version, 2_000, seed=13, accounts=8)
    whole = evaluate_acts(version, acts, DictStore()).credited.tolist()
    draw = random.Random(14)
    for pieces in (1, 7, 60):
        cuts = sorted({0, len(acts), *(draw.randrange(len(acts)) for _ in range(pieces))})
        store, credited = DictStore(), []
        for start, end in pairwise(cuts):
            credited += evaluate_acts(version, acts[start:end], store).credited.tolist()
        assert credited == whole


@EVERY_RULE
def test_one_window_earns_what_the_law_of_survivors_says(version: Version, oracle: Oracle) -> None:
    acts = [Act(5, 20_550, act.measures, act.grade) for act in random_acts(version, 200, seed=15)]
    plain = [PlainAct(act.measures, act.grade) for act in acts]
    evaluated = evaluate_acts(version, acts, DictStore())
    assert evaluated.credited.tolist() == assess_window(version, plain)


@EVERY_RULE
def test_withdrawing_an_act_leaves_what_one_evaluation_of_the_survivors_gives(
    version: Version, oracle: Oracle
) -> None:
    acts = [Act(5, 20_550, act.measures, act.grade) for act in random_acts(version, 40, seed=16)]
    survivors = acts[:11] + acts[12:]
    fresh = evaluate_acts(version, survivors, DictStore()).credited.tolist()
    assert fresh == assess_window(version, [PlainAct(a.measures, a.grade) for a in survivors])


def test_the_test_set_really_meets_its_caps_and_its_wide_numbers() -> None:
    for scene, version, _ in RULES:
        evaluated = evaluate_acts(version, random_acts(version, 10_000, seed=11), DictStore())
        capped = int((evaluated.credited < evaluated.uncapped).sum())
        assert (capped > 20) == bool(version.caps), scene
    wide = next(version for scene, version, _ in RULES if scene == "scenes/wide")
    assert not wide.result.fits_int64


def test_without_a_trace_the_milligrams_are_the_same() -> None:
    for _, version, _ in RULES:
        acts = random_acts(version, 500, seed=17, accounts=5)
        columns = {
            m.name: np.array([act.measures[m.name] for act in acts], np.int64)
            for m in version.measures
        }
        accounts = np.array([act.account for act in acts], np.int64)
        days = np.array([act.day for act in acts], np.int64)
        with_trace, without = (
            evaluate(
                version, columns, accounts=accounts, days=days, caps_used=NothingUsed(), trace=t
            )
            for t in (True, False)
        )
        assert with_trace.credited.tolist() == without.credited.tolist()
        assert not without.used_before.any()
