"""The working shows every operand with its source, the rule, the grade, the cap."""

from __future__ import annotations

from fractions import Fraction

import pytest

from services.calculation.domain.evaluate import NOT_ELIGIBLE, OUT_OF_RANGE
from services.calculation.domain.exact import Act
from services.calculation.domain.explain import Working, decimal_text, explain
from tests.calculation.domain.world import whole_library

LIBRARY = whole_library()


def working(methodology: str, used: int = 0, grade: int = 1, **measures: int) -> Working:
    version = LIBRARY.version_on(
        methodology, 20_550, {"sz-pt-2021": "metro-ride"}.get(methodology, "")
    )
    assert version is not None
    return explain(version, Act(measures, grade, day=20_550), [used] if version.caps else ())


def test_a_metro_ride_shows_distance_factor_formula_rounding_and_credit() -> None:
    steps = working("sz-pt-2021", distance_metre=5_001).steps
    assert [(s.expression, s.result, s.unit) for s in steps] == [
        ("distance_metre", "5001", "metre"),
        ("metro_g_per_km", "46.7", "g/km"),
        ("distance_metre * metro_g_per_km", "233546.7", "mg"),
        ("5001 metre * 46.7 g/km", "233546.7", "mg"),
        ("floor(233546.7)", "233546", "mg"),
        ("233546", "233546", "mg"),
    ]
    assert (steps[1].status, "hnmdtv.com" in steps[1].source) == ("reposted", True)
    assert all(step.label_zh and step.label_en for step in steps)


def test_every_line_is_a_sentence_in_chinese_and_in_english() -> None:
    steps = working("sz-pt-2021", distance_metre=5_001).steps
    source = "hnmdtv.com/video/2021/1216/99777.html; citysz.net/guonei/2022/0923/2022107136.html"
    assert [step.sentence_en for step in steps] == [
        "Distance: 5001 metre.",
        "Metro, reduction per passenger-kilometre: 46.7 g/km "
        f"(an official value read in a re-post: {source}).",
        "Formula: distance_metre * metro_g_per_km.",
        "With its inputs: 5001 metre * 46.7 g/km = 233546.7 mg.",
        "It is rounded down to a whole mg: 233546 mg.",
        "Credited: 233546 mg.",
    ]
    assert steps[1].sentence_zh == (f"地铁每人公里减排量：46.7 g/km（官方数值的转载：{source}）。")
    assert steps[-1].sentence_zh == "计入 233546 mg。"


def test_a_cap_and_a_refused_condition_are_sentences_too() -> None:
    told = working("day-distance", used=19_500, grade=2, distance_metre=2_000)
    assert told.steps[-2].sentence_en.startswith(
        "Cap per day (distance_metre): 19500 used before, at most 20000 metre, 20000 used after, "
        "which leaves 8682 mg"
    )
    refused = next(
        step
        for step in working("day-count", count=1, amount_fen=99).steps
        if step.label_en == "condition"
    )
    assert refused.sentence_en.startswith("Condition “condition”: 99 fen >= 1 yuan: not met")
    assert "不满足" in refused.sentence_zh


def test_grade_and_cap_have_steps_of_their_own() -> None:
    told = working("day-distance", used=19_500, grade=2, distance_metre=2_000)
    assert (told.uncapped, told.credited) == (33_680, 8_682)
    assert [step.result for step in told.steps][-4:] == ["33680", "33680", "8682", "8682"]
    assert told.steps[-2].expression == "used before 19500, at most 20000, used after 20000"
    assert told.steps[-2].status == "decision"


def test_a_result_below_zero_is_kept_in_the_working_and_credited_as_zero() -> None:
    told = working("month-count", distance_metre=-1)
    assert (told.credited, told.uncapped) == (0, 0)
    assert "-46.7" in [step.result for step in told.steps]


@pytest.mark.parametrize(
    ("amount_fen", "refused", "shown"),
    [(100, 0, "true"), (99, NOT_ELIGIBLE, "false"), (-1, OUT_OF_RANGE, "-")],
)
def test_a_condition_is_shown_with_its_outcome(amount_fen: int, refused: int, shown: str) -> None:
    told = working("day-count", count=1, amount_fen=amount_fen)
    assert told.refused == refused
    condition = next(step for step in told.steps if step.label_en == "condition")
    assert (condition.expression, condition.result) == (f"{amount_fen} fen >= 1 yuan", shown)
    assert (told.credited > 0) == (refused == 0)


def test_a_measure_that_is_missing_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(KeyError):
        working("day-count", count=1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(-467, 10), "-46.7"),
        (Fraction(1, 1024), "0.0009765625"),
        (Fraction(10**20, 3), "100000000000000000000/3"),
        (Fraction(7), "7"),
        (Fraction(1, 20), "0.05"),
    ],
)
def test_exact_decimals_are_written_whole(value: Fraction, text: str) -> None:
    assert decimal_text(value) == text


def test_a_past_is_shown_in_the_unit_of_its_measure() -> None:
    version = LIBRARY.version_on("sz-he-2022", 20_550, "home-electricity-day")
    assert version is not None
    act = Act({"energy_watt_hour": 9_600}, day=20_550, history={"own_mean_watt_hour": 11_200 * 7})
    steps = explain(version, act).steps
    assert any("11200 watt_hour" in step.expression for step in steps)
    assert "11200 hour" not in " ".join(step.expression for step in steps)
