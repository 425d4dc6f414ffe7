"""A year of a person: every line exact to its end, and nothing counted that was not answered."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from services.calculation.domain.exact import Act, assess_act
from services.calculation.domain.footprint import compare_footprints
from services.calculation.domain.questionnaire import HOUSEHOLD_MAX
from services.calculation.domain.rates import Where, rounding_step
from shared.refusal import FieldInvalid
from tests.calculation.calculators_world import (
    SHENZHEN,
    TIBET,
    TODAY,
    calculators,
    footprint_of,
    in_year,
    library,
    line_of,
)

QUESTIONNAIRE = calculators().questionnaire
WHOLE = {"electricity": 1000, "metro-distance": 1000, "rice": 100, "clothing": 10_000}


def refused(answers: dict[str, int], **where: int) -> FieldInvalid:
    with pytest.raises(FieldInvalid) as caught:
        footprint_of(answers, **where)  # type: ignore[arg-type]
    return caught.value


def test_electricity_is_counted_by_the_factor_of_its_province_and_year() -> None:
    footprint = footprint_of({"electricity": 100_000}, in_year(2023, SHENZHEN))
    assert footprint.emission_mg == 100 * 12 * 441_900


def test_the_same_electricity_elsewhere_is_another_number() -> None:
    footprint = footprint_of({"electricity": 100_000}, in_year(2023, 510100))
    assert footprint.emission_mg == 100 * 12 * 156_400


def test_a_household_shares_what_the_home_uses_and_not_what_a_person_eats() -> None:
    answers = {"electricity": 100_000, "rice": 1000}
    alone, three = footprint_of(answers), footprint_of(answers, household=3)
    assert (
        line_of(three, "electricity").emission_mg * 3 == line_of(alone, "electricity").emission_mg
    )
    assert line_of(three, "rice").emission_mg == line_of(alone, "rice").emission_mg


def test_a_line_is_rounded_up_once_and_not_before_it_is_divided() -> None:
    # 100 mg a bag: 5200 / 7 = 742.86; a bag's share rounded first would have come to 780.
    footprint = footprint_of({"plastic-bags": 1}, household=7)
    assert footprint.emission_mg == 743


def test_a_line_that_comes_out_whole_gains_no_milligram() -> None:
    assert footprint_of({"plastic-bags": 1}, household=2).emission_mg == 2600


def test_flights_are_each_priced_by_their_distance_and_then_counted() -> None:
    # By the sum of kilometres the formula would give another number: its rates fall with distance.
    four = footprint_of({"domestic-flight-count": 4, "domestic-flight-distance": 500_000})
    one = footprint_of({"domestic-flight-count": 1, "domestic-flight-distance": 2_000_000})
    assert four.emission_mg == 4 * 86_500_000
    assert one.emission_mg == 278_000_000


def test_a_full_car_is_a_fraction_of_an_empty_one() -> None:
    alone = footprint_of({"petrol-car-distance": 100_000, "car-persons": 1})
    four = footprint_of({"petrol-car-distance": 100_000, "car-persons": 4})
    assert alone.emission_mg == 52 * 16_450_000
    assert four.emission_mg * 4 == alone.emission_mg


def test_a_car_whose_persons_are_not_said_carries_one_and_says_so() -> None:
    line = line_of(footprint_of({"petrol-car-distance": 100_000}), "petrol-car")
    assert line.emission_mg == 52 * 16_450_000
    assert any("is not answered; 1 is taken" in note.en for note in line.notes)


def test_sums_by_category_add_up_to_the_total_and_name_every_category() -> None:
    footprint = footprint_of({**WHOLE, "video": 3600, "paper": 10})
    assert sum(total for _, total in footprint.by_category) == footprint.emission_mg
    assert [named.key for named, _ in footprint.by_category] == [
        category.key for category in QUESTIONNAIRE.categories
    ]


def test_what_is_not_answered_is_not_counted_and_is_listed() -> None:
    footprint = footprint_of({"rice": 1000})
    assert [line.line.key for line in footprint.lines] == ["rice"]
    assert "electricity" in footprint.unanswered
    assert "rice" not in footprint.unanswered


def test_zero_is_an_answer() -> None:
    footprint = footprint_of({"rice": 0})
    assert footprint.emission_mg == 0
    assert "rice" not in footprint.unanswered


def test_no_flight_needs_no_distance() -> None:
    footprint = footprint_of({"rice": 1000, "domestic-flight-count": 0})
    assert [line.line.key for line in footprint.lines] == ["rice"]


def test_every_line_equals_the_plain_evaluator_times_its_year() -> None:
    drawn = random.Random(20260115)
    for _ in range(200):
        answers = {key: drawn.randint(q.min, q.max) for key, q in QUESTIONNAIRE.questions.items()}
        persons = drawn.randint(1, HOUSEHOLD_MAX)
        where = in_year(drawn.choice([2021, 2022, 2023]), drawn.choice([0, SHENZHEN, TIBET]))
        footprint = footprint_of(answers, where, persons)
        assert len(footprint.lines) == len(QUESTIONNAIRE.lines)
        for found in footprint.lines:
            line = found.line
            version = library().version_on(line.rate.methodology.id, TODAY, line.rate.scene)
            assert version is not None
            act = Act(
                {name: answers[key] for name, key in line.measures.items()},
                region=where.region, day=where.day, labels=line.rate.labels,
            )  # fmt: skip
            raw = assess_act(version, act).raw
            assert raw is not None
            times = Fraction(answers[line.count] if line.count else 1)
            for key in line.asks:
                times *= QUESTIONNAIRE.questions[key].period.times
            divide = {"": 1, "household": persons}.get(line.divide)
            divide = answers[line.divide] if divide is None else divide
            assert found.emission_mg == math.ceil(raw * times / divide)


def test_an_interval_encloses_its_line_and_is_there_only_where_the_source_gives_one() -> None:
    footprint = footprint_of({"petrol-car-distance": 100_000, "rice": 1000})
    car, rice = line_of(footprint, "petrol-car"), line_of(footprint, "rice")
    assert car.interval is not None
    assert (car.interval.low_mg, car.interval.high_mg) == (52 * 14_370_000, 52 * 26_885_000)
    assert car.interval.meaning.en == "from the small to the large car"
    assert rice.interval is None
    assert footprint.interval is not None
    assert footprint.interval.low_mg == car.interval.low_mg + rice.emission_mg


def test_without_any_uncertain_line_the_total_has_no_interval() -> None:
    assert footprint_of({"rice": 1000}).interval is None


def test_the_working_shows_answer_factor_source_status_and_ends_with_the_milligrams() -> None:
    line = line_of(
        footprint_of({"electricity": 100_000}, in_year(2023, SHENZHEN), 3), "electricity"
    )
    shown = {step.label_en: step for step in line.steps}
    assert shown["electricity"].result == "100000"
    factor = shown["grid, emission per kWh"]
    assert (factor.result, factor.unit) == ("0.4419", "kg/kWh")
    assert "grid-average-cn 440000 2023" in factor.source
    assert factor.status == line.priced.status == "secondary"
    assert line.formula.en == (
        "[electricity] * [grid, emission per kWh] x 12 (a month) / 3 persons"
    )
    assert line.formula.zh == "[用电量] * [电网排放因子] × 12（每月） ÷ 3 人"
    assert line.steps[-1].result == str(line.emission_mg)


def test_the_working_keeps_no_rounding_but_the_last() -> None:
    for line in footprint_of({**WHOLE, "petrol-car-distance": 1}).lines:
        roundings = [step for step in line.steps if "rounded" in step.label_en]
        assert roundings == [line.steps[-1]]
        assert not [step for step in line.steps if step.label_en == "credited"]


def test_the_last_step_says_what_was_rounded() -> None:
    last = rounding_step(Fraction(1, 3), Fraction(2), Fraction(2, 3))
    assert (last.expression, last.result) == ("ceiling(1/3 * 2 = 2/3)", "1")


def notes_of(where: Where) -> list[str]:
    return [
        note.en for note in line_of(footprint_of({"electricity": 1000}, where), "electricity").notes
    ]


def test_a_region_without_a_factor_is_counted_with_the_national_one_and_says_so() -> None:
    where = in_year(2023, TIBET)
    assert footprint_of({"electricity": 1000}, where).emission_mg == 12 * 530_600
    assert notes_of(where) == [
        "grid, emission per kWh: the national one, 0.5306, because there is none for 540100."
    ]


def test_a_city_is_counted_with_its_province_and_says_so() -> None:
    assert notes_of(in_year(2023, SHENZHEN)) == [
        "grid, emission per kWh: that of 440000, 0.4419, because 440300 lies in it."
    ]


def test_no_region_is_the_nation_and_says_so() -> None:
    assert "because no region was given" in notes_of(in_year(2023))[0]


@pytest.mark.parametrize(
    ("year", "region", "taken", "factor"),
    [(2026, 0, 2023, 530_600), (2015, 0, 2020, 570_300), (2020, SHENZHEN, 2021, 471_500)],
)
def test_a_year_without_a_factor_is_counted_with_the_nearest_and_says_so(
    year: int, region: int, taken: int, factor: int
) -> None:
    where = in_year(year, region)
    assert footprint_of({"electricity": 1000}, where).emission_mg == 12 * factor
    assert any(f"there is none for {year}" in note and f"of {taken} is taken" in note
               for note in notes_of(where))  # fmt: skip


def test_a_year_with_a_factor_needs_no_word() -> None:
    assert not any("there is none for" in note for note in notes_of(in_year(2022)))


def test_a_day_before_every_version_is_answered_by_the_first() -> None:
    footprint = footprint_of({"rice": 1000}, Where(0, 0))
    assert footprint.emission_mg == 52 * 4_450_000


def test_enough_answers_are_held_against_the_average_with_its_source_and_scope() -> None:
    comparison = footprint_of(WHOLE).comparison
    assert comparison is not None
    assert comparison.average.emission_mg == 4_200_000_000
    assert "sitra.fi" in comparison.average.source
    assert "does not mean better than average" in comparison.average.scope_en
    assert comparison.difference_mg == footprint_of(WHOLE).emission_mg - 4_200_000_000


@pytest.mark.parametrize("left_out", WHOLE)
def test_too_few_answers_are_held_against_nothing_and_say_what_is_missing(left_out: str) -> None:
    footprint = footprint_of({key: value for key, value in WHOLE.items() if key != left_out})
    assert footprint.comparison is None
    assert any("Not held against an average" in note.en for note in footprint.notes)


def test_the_greatest_answer_is_taken_and_one_more_is_refused() -> None:
    most = QUESTIONNAIRE.questions["rice"].max
    assert footprint_of({"rice": most}).emission_mg > 0
    refusal = refused({"rice": most + 1})
    assert refusal.field == "answers.rice"
    assert refusal.message == (
        f"rice is {most + 1} gram; the question takes 0 to {most} gram a week (at most 30 kg)"
    )


def test_the_least_answer_is_taken_and_one_less_is_refused() -> None:
    assert footprint_of({"rice": 0}).emission_mg == 0
    assert "rice is -1 gram" in refused({"rice": -1}).message
    assert "car-persons is 0 count" in refused({"petrol-car-distance": 1, "car-persons": 0}).message


def test_an_answer_to_no_question_is_refused_with_the_nearest() -> None:
    refusal = refused({"metro-distanse": 1000})
    assert "the nearest is metro-distance" in refusal.message


def test_a_count_without_its_distance_is_refused_and_the_other_way_round() -> None:
    assert refused({"domestic-flight-count": 1}).field == "answers.domestic-flight-distance"
    assert refused({"domestic-flight-distance": 1000}).field == "answers.domestic-flight-count"


def test_nothing_to_count_is_refused() -> None:
    assert refused({}).field == refused({"car-persons": 2}).field == "answers"


@pytest.mark.parametrize("persons", [0, HOUSEHOLD_MAX + 1])
def test_a_household_of_nobody_or_of_a_crowd_is_refused(persons: int) -> None:
    assert refused({"rice": 1}, household=persons).field == "household_size"


def test_the_largest_household_is_counted() -> None:
    assert footprint_of({"electricity": 1000}, household=HOUSEHOLD_MAX).emission_mg > 0


def test_two_metro_days_instead_of_the_car_are_a_difference_by_category() -> None:
    base = {"petrol-car-distance": 100_000, "metro-distance": 0, "rice": 1000}
    changes = {"petrol-car-distance": 60_000, "metro-distance": 40_000}
    found = compare_footprints(QUESTIONNAIRE, base, changes, where=in_year(2023))
    by_key = {named.key: (before, after) for named, before, after in found.by_category}
    assert found.difference_mg == 52 * (40 * 32_000 - 40 * 164_500)
    assert by_key["transport"][1] - by_key["transport"][0] == found.difference_mg
    assert by_key["food"][0] == by_key["food"][1]


def test_a_change_of_nothing_changes_nothing() -> None:
    found = compare_footprints(QUESTIONNAIRE, {"rice": 1000}, {"rice": 1000}, where=in_year(2023))
    assert found.difference_mg == 0


def test_a_what_if_without_a_change_is_refused() -> None:
    with pytest.raises(FieldInvalid, match="changes is empty"):
        compare_footprints(QUESTIONNAIRE, {"rice": 1000}, {}, where=in_year(2023))


def test_a_what_if_outside_a_range_is_refused_as_an_answer_is() -> None:
    with pytest.raises(FieldInvalid, match="rice is -1"):
        compare_footprints(QUESTIONNAIRE, {"rice": 1}, {"rice": -1}, where=in_year(2023))


def test_every_question_has_both_languages_and_its_range_fits_the_unit_that_is_shown() -> None:
    for question in QUESTIONNAIRE.questions.values():
        assert question.text_zh.endswith(("？", "）"))
        assert "?" in question.text_en or question.text_en.endswith(".")
        assert question.max % question.shown_size == 0
