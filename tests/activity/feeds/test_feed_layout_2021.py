"""The operator's layout of 2021 is one more file: minute times, no bike id, stations may lack."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from services.activity.feeds import FeedMapping, MappedAct, RefusedLine

ReadLines = Callable[..., list[MappedAct | RefusedLine]]
RIDE = (
    "A9C3B7D01E5F4422,docked_bike,2/3/2021 23:11,2/3/2021 23:19,Grove St PATH,JC005,"
    "Hamilton Park,JC009,40.71958612,-74.04311746,40.727595966,-74.044247311,member"
)


def only(items: list[MappedAct | RefusedLine]) -> MappedAct:
    """The one act."""
    assert len(items) == 1
    assert isinstance(items[0], MappedAct), items[0]
    return items[0]


def test_a_ride_with_minute_times_is_mapped(trips_2021: FeedMapping, read_lines: ReadLines) -> None:
    act = only(read_lines(trips_2021, RIDE))
    ended = datetime(2021, 2, 3, 23, 19, tzinfo=timezone(timedelta(hours=8)))
    assert act.source_event_id == "A9C3B7D01E5F4422"
    assert act.occur_time_us == int((ended + timedelta(weeks=261)).timestamp()) * 1_000_000
    assert act.measures == {"distance_metre": 895, "duration_second": 480}
    assert (act.scene, act.region, act.remarks) == ("scenes/shared-bike-ride", "440300", ())


def test_times_to_the_second_of_later_exports_are_mapped_by_the_same_file(
    trips_2021: FeedMapping, read_lines: ReadLines
) -> None:
    row = RIDE.replace("2/3/2021 23:11", "2021-02-03 23:11:07")
    row = row.replace("2/3/2021 23:19", "2021-02-03 23:19:00")
    assert only(read_lines(trips_2021, row)).measures["duration_second"] == 473


def test_a_ride_over_midnight_counts_where_it_ends(
    trips_2021: FeedMapping, read_lines: ReadLines
) -> None:
    act = only(read_lines(trips_2021, RIDE.replace("2/3/2021 23:19", "2/4/2021 0:02")))
    assert act.remarks == ("over_midnight",)


def test_a_ride_that_ends_at_its_own_station_has_distance_0_although_its_fixes_differ(
    trips_2021: FeedMapping, read_lines: ReadLines
) -> None:
    act = only(read_lines(trips_2021, RIDE.replace("JC009", "JC005")))
    assert (act.measures["distance_metre"], act.remarks) == (0, ("round_trip",))


def test_two_stations_that_are_both_unknown_are_not_the_same_station(
    trips_2021: FeedMapping, read_lines: ReadLines
) -> None:
    act = only(read_lines(trips_2021, RIDE.replace("JC005", "").replace("JC009", "")))
    assert (act.measures["distance_metre"], act.remarks) == (895, ())


def test_a_ride_within_one_minute_is_not_refused_for_its_speed(
    trips_2021: FeedMapping, read_lines: ReadLines
) -> None:
    near = RIDE.replace("23:19", "23:11").replace("40.727595966", "40.7209")
    assert only(read_lines(trips_2021, near)).measures["duration_second"] == 0


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("2/3/2021 23:11", "3/2021 23:11", "started_at"),
        ("2/3/2021 23:11", "23:11", "started_at"),
        ("2/3/2021 23:11", "13/3/2021 23:11", "started_at"),
        ("2/3/2021 23:19", "2/3/2021 23:10", "ended_at"),
        ("2/3/2021 23:19", "2/3/2021 23:11", "distance_metre"),
        ("40.727595966", "", "end_lat"),
        ("A9C3B7D01E5F4422", "1.23E+15", "ride_id"),
    ],
)
def test_a_spoilt_cell_is_refused_by_name(
    trips_2021: FeedMapping, read_lines: ReadLines, old: str, new: str, field: str
) -> None:
    items = read_lines(trips_2021, RIDE.replace(old, new, 1))
    assert len(items) == 1
    assert isinstance(items[0], RefusedLine)
    assert (items[0].field, items[0].reason) == (field, "FIELD_INVALID")


def test_a_file_of_one_layout_is_refused_whole_by_the_mapping_of_the_other(
    trips_2020: FeedMapping, trips_2021: FeedMapping, read_lines: ReadLines, good: str
) -> None:
    header_2021 = ",".join(trips_2021.layout.header)
    items = read_lines(trips_2020, header_2021, RIDE)
    assert all(isinstance(item, RefusedLine) for item in items)
    items = read_lines(trips_2021, ",".join(trips_2020.layout.header), good)
    assert all(isinstance(item, RefusedLine) for item in items)


def test_an_event_id_that_looks_like_a_card_is_refused_and_not_quoted_and_its_neighbour_is_not(
    trips_2021: FeedMapping, read_lines: ReadLines
) -> None:
    card, neighbour = "4111111111111111", "4111111111111112"  # the second fails the checksum
    (refused,) = read_lines(trips_2021, RIDE.replace("A9C3B7D01E5F4422", card))
    assert isinstance(refused, RefusedLine)
    assert refused.field == "source_event_id"
    assert card not in refused.message
    assert "keyed hash" in refused.message
    act = only(read_lines(trips_2021, RIDE.replace("A9C3B7D01E5F4422", neighbour)))
    assert act.source_event_id == neighbour
