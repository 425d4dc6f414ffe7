"""Several caps in their order, and an account's own past, at their borders."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.calculation.domain.evaluate import NOT_ELIGIBLE, OK, OUT_OF_RANGE
from tests.calculation.domain.oracle import Act
from tests.calculation.domain.test_engine_caps import credits, version_of
from tests.calculation.domain.world import DictStore, evaluate_acts

DAY = 20_550  # 2026-04-07
MEAN_TIMES = 420  # parts of a mean over four to seven days


def trip(distance_metre: int, *, day: int = DAY, grade: int = 1) -> Act:
    return Act(1, day, {"distance_metre": distance_metre}, grade)


def reading(energy_watt_hour: int, *, day: int, account: int = 1) -> Act:
    return Act(account, day, {"energy_watt_hour": energy_watt_hour})


def means(acts: Sequence[Act], store: DictStore | None = None) -> list[float]:
    """The own means that the household rule finds before each act."""
    evaluated = evaluate_acts(version_of("history-household"), acts, store or DictStore())
    return [int(parts) / MEAN_TIMES for parts in evaluated.histories[0]]


def test_the_third_trip_of_a_day_counts_and_the_fourth_does_not() -> None:
    acts = [trip(1_000)] * 4 + [trip(1_000, day=DAY + 1)]
    assert credits(version_of("three-caps"), acts) == [47_050] * 3 + [0, 47_050]


def test_what_the_trip_s_own_cap_cuts_is_not_asked_of_the_month() -> None:
    # 3 kg a month hold six trips of 10 km and the better part of a seventh, however long they are.
    acts = [trip(60_000, day=DAY + n) for n in range(8)]
    assert credits(version_of("three-caps"), acts) == [467_350] * 6 + [195_900, 0]


def test_a_trip_that_the_day_has_no_room_for_uses_nothing_of_the_month() -> None:
    version, store = version_of("three-caps"), DictStore()
    evaluate_acts(version, [trip(1_000)] * 5, store)
    month = 2026 * 12 + 3
    assert store.used["three-caps/trips-a-day", 1, DAY] == 3
    assert store.used["three-caps/kg-a-month", 1, month] == 3 * 47_050


def test_caps_apply_act_day_month_in_whatever_order_the_file_has_them() -> None:
    assert [cap.window for cap in version_of("three-caps").caps] == ["act", "day", "month"]
    assert [cap.window for cap in version_of("three-caps").windowed_caps] == ["day", "month"]


def test_a_measure_that_the_day_trimmed_asks_for_what_is_left_of_it() -> None:
    version, store = version_of("three-caps-measured"), DictStore()
    acts = [
        Act(1, DAY, {"distance_metre": 20_000, "fuel_millilitre": 100}),
        Act(1, DAY, {"distance_metre": 20_000, "fuel_millilitre": 100}),
        Act(1, DAY, {"distance_metre": 20_000, "fuel_millilitre": 100}),
    ]
    # 250 g/km less 37 g of fuel and 12.5 g; 2 kg a trip. Of the second 5 km are left.
    assert credits(version, acts, store) == [2_000_000, 1_200_500, 0]
    # The third earns nothing, so its fuel is asked of nobody.
    assert store.used["three-caps-measured/fuel-a-month", 1, 2026 * 12 + 3] == 200


def test_a_loss_that_counts_stays_as_it_is_and_uses_nothing() -> None:
    version, store = version_of("history-counts"), DictStore()
    acts = [Act(1, DAY, {"energy_watt_hour": 1_000, "count": 1})] * 30
    assert credits(version, acts, store) == [-571_550] * 30
    assert store.used["history-counts/readings-a-month", 1, 2026 * 12 + 3] == 0


@pytest.mark.parametrize(("days", "mean"), [(3, 0), (4, 1_000), (7, 1_000)])
def test_a_past_counts_from_as_many_days_as_the_rule_asks_for(days: int, mean: int) -> None:
    before = [reading(1_000, day=DAY - 1 - n) for n in range(days)]
    assert means([*before, reading(0, day=DAY)])[-1] == mean


def test_the_day_itself_and_the_eighth_day_before_are_not_part_of_the_past() -> None:
    four = [reading(1_000, day=DAY - n) for n in (1, 2, 3, 7)]
    more = [reading(50_000, day=DAY), reading(50_000, day=DAY - 8), reading(9, day=DAY + 1)]
    assert means([*four, *more, reading(0, day=DAY)])[-1] == 1_000


def test_what_a_day_sums_up_to_is_one_of_the_days_of_the_mean() -> None:
    acts = [reading(1_000, day=DAY - n) for n in (1, 1, 1, 2, 3, 4)]
    assert means([*acts, reading(0, day=DAY)])[-1] == 1_500


def test_a_day_counts_at_most_what_one_act_may_bring() -> None:
    acts = [reading(100_000, day=DAY - n) for n in (1, 1, 2, 3, 4)]
    assert means([*acts, reading(0, day=DAY)])[-1] == 100_000


def test_an_act_that_is_recorded_late_changes_nothing_that_was_credited_before() -> None:
    days = [reading(8_000, day=DAY - 1 - n) for n in range(4)]
    today, late = reading(1_000, day=DAY), reading(2_000, day=DAY - 5)
    version = version_of("history-household")
    assert credits(version, [*days, today, late])[4] == credits(version, [*days, today])[4]
    assert credits(version, [*days, late, today])[5] < credits(version, [*days, today])[4]


def test_another_account_has_a_past_of_its_own() -> None:
    acts = [reading(1_000, day=DAY - 1 - n) for n in range(4)]
    assert means([*acts, reading(0, day=DAY, account=2), reading(0, day=DAY)])[-2:] == [0, 1_000]


def test_an_act_outside_the_range_is_no_past_and_one_that_is_not_eligible_is() -> None:
    version, store = version_of("history-household"), DictStore()
    acts = [reading(1_000, day=DAY - n) for n in (1, 2, 3)] + [reading(100_001, day=DAY - 4)]
    evaluated = evaluate_acts(version, [*acts, reading(100, day=DAY)], store)
    # With no past there is nothing to save against: the condition refuses, and the act is kept.
    assert evaluated.refused.tolist() == [NOT_ELIGIBLE] * 3 + [OUT_OF_RANGE, NOT_ELIGIBLE]
    later = [reading(1_000, day=DAY - 4), reading(100, day=DAY)]
    evaluated = evaluate_acts(version, later, store)
    assert evaluated.refused.tolist() == [NOT_ELIGIBLE, OK]
    assert int(evaluated.histories[0][1]) == 1_000 * MEAN_TIMES
