"""The operator's own files: April in order, January destroyed by a spreadsheet."""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from services.activity.feeds import FeedMapping, MappedAct, RefusedLine, map_feed
from services.activity.feeds.measures import haversine_metre

CHECKOUT = Path(__file__).parents[3]
APRIL = CHECKOUT / "deploy/samples/JC-202004-citibike-tripdata.csv.gz"
JANUARY_500 = CHECKOUT / "tests/data/JC-202001-citibike-tripdata-500.csv"
JANUARY = CHECKOUT.parent / "shared/data/bike_trips/JC-202001-citibike-tripdata.csv.gz"
BEIJING = timezone(timedelta(hours=8))


@pytest.fixture(scope="module")
def april(trips_2020: FeedMapping) -> list[MappedAct]:
    items = list(map_feed(trips_2020, APRIL))
    refused = [item.message for item in items if isinstance(item, RefusedLine)]
    assert refused == []
    return [item for item in items if isinstance(item, MappedAct)]


def test_every_line_of_april_becomes_an_act_under_its_own_line_and_event_id(
    april: list[MappedAct],
) -> None:
    with gzip.open(APRIL) as file:
        lines_in_file = sum(1 for _ in file)
    assert len(april) == lines_in_file - 1 == 9268
    assert [act.line for act in april] == list(range(2, 9270))
    assert len({act.source_event_id for act in april}) == 9268


def test_the_1915_round_trips_carry_distance_0_and_no_other_trip_does(
    april: list[MappedAct],
) -> None:
    still = [act for act in april if act.measures["distance_metre"] == 0]
    assert len(still) == 1915
    assert still == [act for act in april if "round_trip" in act.remarks]


def test_the_38_trips_over_midnight_count_on_the_day_on_which_they_end(
    april: list[MappedAct],
) -> None:
    over = [act for act in april if "over_midnight" in act.remarks]
    assert len(over) == 38
    for act in over:
        started_on = datetime.fromisoformat(act.source_event_id.split("@")[1]).date()
        ended = datetime.fromtimestamp(act.occur_time_us // 1_000_000, BEIJING).date()
        assert ended > started_on + timedelta(weeks=313)


def test_the_first_trip_is_what_a_person_computes_by_hand(april: list[MappedAct]) -> None:
    stop = datetime(2026, 4, 1, 1, 30, 17, 968_000, BEIJING)
    digest = hashlib.sha256(b"42314@2020-04-01 01:06:20.6300").digest()
    assert april[0] == MappedAct(
        line=2,
        source_event_id="42314@2020-04-01 01:06:20.6300",
        scene="scenes/shared-bike-ride",
        measures={"distance_metre": 0, "duration_second": 1437},
        occur_time_us=(stop - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1),
        region="440300",
        account=f"demo-rider-{int.from_bytes(digest[:8], 'big') % 200:03d}",
        evidence_grade="RECORDED",
        remarks=("round_trip",),
    )


def test_dates_move_by_313_weeks_and_keep_their_weekday() -> None:
    before, after = datetime(2020, 4, 1), datetime(2026, 4, 1)
    assert after - before == timedelta(weeks=313)
    assert before.weekday() == after.weekday()


def test_the_sum_of_all_distances_is_the_recorded_one(april: list[MappedAct]) -> None:
    assert sum(act.measures["distance_metre"] for act in april) == 9_290_493


def test_no_distance_lies_so_near_a_whole_metre_that_another_machine_could_round_it_otherwise(
    trips_2020: FeedMapping,
) -> None:
    rule = trips_2020.measure["distance_metre"]
    places = [trips_2020.layout.header.index(name) for name in (*rule.start, *rule.end)]
    with gzip.open(APRIL, "rt") as file:
        next(file)
        # Station names of this file hold no comma, so that a plain split finds the columns.
        rows = {tuple(float(line.split(",")[at]) for at in places) for line in file}
    metres = [
        haversine_metre(latitude_1, longitude_1, latitude_2, longitude_2, 6371008.8)
        for latitude_1, longitude_1, latitude_2, longitude_2 in rows
        if (latitude_1, longitude_1) != (latitude_2, longitude_2)
    ]
    assert min(abs(metre - round(metre)) for metre in metres) > 1e-6


def test_the_riders_fill_all_200_demo_accounts(april: list[MappedAct]) -> None:
    assert {act.account for act in april} == {f"demo-rider-{number:03d}" for number in range(200)}


def test_reading_the_file_again_gives_the_same_acts(
    april: list[MappedAct], trips_2020: FeedMapping
) -> None:
    assert list(map_feed(trips_2020, APRIL)) == april


def assert_all_refused_for_their_times(mapping: FeedMapping, path: Path, lines: int) -> None:
    items = list(map_feed(mapping, path))
    assert Counter(type(item) for item in items) == {RefusedLine: lines}
    assert [item.line for item in items] == list(range(2, lines + 2))
    for item in items:
        assert isinstance(item, RefusedLine)
        assert (item.reason, item.field) == ("FIELD_INVALID", "starttime")
        assert item.value in item.message
        assert "YYYY-MM-DD hh:mm:ss" in item.rule
        assert "export the column again with its date" in item.way_out


def test_each_of_the_500_january_lines_is_refused_with_its_number_and_a_way_out(
    trips_2020: FeedMapping,
) -> None:
    assert_all_refused_for_their_times(trips_2020, JANUARY_500, 500)


def test_each_of_the_26020_january_lines_is_refused_where_the_whole_file_is_at_hand(
    trips_2020: FeedMapping,
) -> None:
    if not JANUARY.exists():
        pytest.skip(f"{JANUARY.name} is not at hand: its 500 lines in tests/data were tried")
    assert_all_refused_for_their_times(trips_2020, JANUARY, 26_020)
