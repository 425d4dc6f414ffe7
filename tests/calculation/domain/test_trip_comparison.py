"""One distance by every mode: what a person emits, and what would be credited for it."""

from __future__ import annotations

import pytest

from services.calculation.domain.rates import Where
from services.calculation.domain.trips import (
    DISTANCE_MAX,
    PERSONS_MAX,
    TripComparison,
    TripMode,
    compare_trips,
)
from shared.refusal import FieldInvalid
from tests.calculation.calculators_world import (
    SHENZHEN,
    TODAY,
    calculators,
    in_year,
    library,
)

TRIPS = calculators().trips


def compared(distance_metre: int, where: Where | None = None, persons: int = 1) -> TripComparison:
    return compare_trips(
        TRIPS, distance_metre, where=where or Where(TODAY, TODAY, SHENZHEN), persons=persons,
        library=library(), programme=library().programmes["demo"],
    )  # fmt: skip


def mode(comparison: TripComparison, key: str) -> TripMode:
    return next(one for one in comparison.modes if one.mode.named.key == key)


def test_modes_come_with_the_least_emission_first() -> None:
    for distance in (1_000, 8_000, 120_000, 1_200_000):
        emissions = [one.emission_mg for one in compared(distance).modes]
        assert emissions == sorted(emissions)
        assert emissions


def test_ten_kilometres_cost_what_the_factors_say() -> None:
    comparison = compared(10_000)
    assert {one.mode.named.key: one.emission_mg for one in comparison.modes} == {
        "walk": 0,
        "shared-bike": 87_000,
        "metro": 320_000,
        "bus": 520_000,
        "electric-car": 929_228,  # 2.1028 kWh x 0.4419, rounded up
        "petrol-car": 1_645_000,
        "diesel-car": 1_698_400,
    }


def test_a_car_is_shared_by_those_in_it_and_a_bus_is_already_by_head() -> None:
    alone, four = compared(10_000), compared(10_000, persons=4)
    assert mode(four, "petrol-car").emission_mg == 411_250
    assert mode(four, "bus").emission_mg == mode(alone, "bus").emission_mg
    assert mode(four, "petrol-car").formula.en.endswith("/ 4 persons")


def test_sharing_rounds_up_once() -> None:
    # 164.5 mg for a metre by three: 54.83.
    assert mode(compared(1, persons=3), "petrol-car").emission_mg == 55


def test_a_battery_car_depends_on_the_province() -> None:
    sichuan = mode(compared(10_000, in_year(2023, 510000)), "electric-car")
    guangdong = mode(compared(10_000, in_year(2023, SHENZHEN)), "electric-car")
    assert sichuan.emission_mg * 2 < guangdong.emission_mg
    assert any("510000" in note.en for note in sichuan.notes)


def test_a_car_has_the_interval_of_small_and_large_and_a_metro_has_none() -> None:
    comparison = compared(10_000, persons=2)
    car = mode(comparison, "petrol-car").interval
    assert car is not None
    assert (car.low_mg, car.high_mg) == (718_500, 1_344_250)
    assert mode(comparison, "metro").interval is None


def test_every_mode_shows_source_and_status() -> None:
    for one in (*compared(10_000).modes, *compared(1_200_000).modes):
        assert any(step.source for step in one.steps), one.mode.named.key
        assert one.status in {"reposted", "secondary"}
        assert one.steps[-1].result == str(one.emission_mg)


def test_a_metro_ride_in_shenzhen_is_credited_by_its_methodology_under_the_programme() -> None:
    credits = {one.version.name: one for one in mode(compared(5_000), "metro").credits}
    credited = credits["methodologies/sz-pt-2021/versions/1"]
    assert (credited.reduction_mg, credited.programme) == (233_500, "programmes/demo")
    compared_only = credits["methodologies/jjj-db11t3043-2024/versions/1"]
    assert compared_only.programme == ""


def test_elsewhere_the_same_ride_is_only_compared() -> None:
    credits = mode(compared(5_000, Where(TODAY, TODAY, 110000)), "metro").credits
    assert credits
    assert not [one for one in credits if one.programme]


def test_a_car_earns_nothing() -> None:
    assert mode(compared(5_000), "petrol-car").credits == ()


def test_a_mode_is_left_out_one_metre_beyond_its_distances_and_says_so() -> None:
    walk = TRIPS.modes["walk"]
    assert mode(compared(walk.to_metre), "walk")
    beyond = compared(walk.to_metre + 1)
    reasons = {left.named.key: why.en for left, why in beyond.left_out}
    assert "50001 was asked" in reasons["walk"]


def test_a_flight_is_left_out_one_metre_short_of_its_distances() -> None:
    flight = TRIPS.modes["flight"]
    assert mode(compared(flight.from_metre), "flight").emission_mg == 41_250_000
    short = compared(flight.from_metre - 1)
    assert "flight" in {left.named.key for left, _ in short.left_out}


def test_every_mode_is_either_compared_or_left_out() -> None:
    for distance in (1, 50_000, 50_001, 150_000, DISTANCE_MAX):
        comparison = compared(distance)
        keys = [one.mode.named.key for one in comparison.modes]
        keys += [left.named.key for left, _ in comparison.left_out]
        assert sorted(keys) == sorted(TRIPS.modes)


@pytest.mark.parametrize("distance_metre", [0, -1, DISTANCE_MAX + 1])
def test_a_distance_that_nobody_travels_is_refused(distance_metre: int) -> None:
    with pytest.raises(FieldInvalid, match=f"distance_metre is {distance_metre}"):
        compared(distance_metre)


@pytest.mark.parametrize("persons", [0, PERSONS_MAX + 1])
def test_a_car_without_a_driver_or_with_a_crowd_is_refused(persons: int) -> None:
    with pytest.raises(FieldInvalid, match=f"car_person_count is {persons}"):
        compared(1_000, persons=persons)


def test_a_full_car_is_taken() -> None:
    assert mode(compared(9_000, persons=PERSONS_MAX), "petrol-car").emission_mg == 164_500
