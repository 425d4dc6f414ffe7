"""Mapping files are checked before a line of data is read, and say what they assume."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from services.activity.feeds import (
    FEEDS,
    BankMapping,
    FeedMapping,
    MappedAct,
    MappingInvalid,
    feed_path,
    read_bank_mapping,
    read_mapping,
)
from services.launch.main_job import report_of

CATALOGUE = FEEDS.parent


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "csv"', 'kind = "xml"', "this reader knows csv"),
        ("shift_week = 313", "shift_weeks = 313", "shift_weeks"),
        ("shift_week = 313", 'shift_week = "313"', "must be of type int"),
        ("shift_week = 313", "shift_week = true", "must be of type int"),
        ('encoding = "utf-8"', 'encoding = "utf-16"', "layout.encoding"),
        ('region = "440300"', 'region = "Shenzhen"', "six digits"),
        ('region = "440300"', 'region = "440300"\nlabels = { a = "x", b = "y" }', "act.labels"),
        ('region = "440300"', 'region = "440300"\nlabels = { fuel = 95 }', "must be of type str"),
        ('occur_time = "stoptime"', 'occur_time = "bikeid"', "must be a column of kind time"),
        ("line_bytes_max = 4096", "line_bytes_max = 9_000_000", "line_bytes_max"),
        ("hh:mm:ss.f", "hh:MM:ss.f", "time format"),
        ("hh:mm:ss.f", "ss.f", "has no"),
        ('pattern = "[0-9]{5}"', 'pattern = "[0-9"', "column 'bikeid'"),
        ('pattern = "[0-9]{5}"', "min = 1", "not complete"),
        ('kind = "great_circle"', 'kind = "route"', "measure.distance_metre.kind"),
        ("earth_radius_metre = 6371008.8", "", "earth_radius_metre"),
        ('columns = ["bikeid", "starttime"]', 'columns = ["usertype"]', "has no [[column]] rule"),
        ('measure = "duration_second"', 'measure = "duration"', "has no rule"),
        ('delimiter = ","', 'delimiter = ",,"', "layout.delimiter"),
        ("[licence]", "[licence", "it is no TOML"),
    ],
)
def test_a_mapping_with_a_fault_is_not_loaded_and_the_fault_is_named(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = feed_path("citibike-2020").read_text("utf-8")
    assert old in text
    path = tmp_path / "faulty.toml"
    path.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(MappingInvalid) as caught:
        read_mapping(path)
    assert str(caught.value).startswith("faulty.toml: ")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("demo = true", "demo = false", "demo must be true"),
        ("repeats = 25", "repeats = 2001", "from 0 to 2000"),
        ("count = 10", "count = 601", "from 0 to 600"),
        ('"2026-04", "2026-05"', '"2026-13", "2026-05"', "a period is YYYY-MM"),
        ("last_day = 28", "last_day = 29", "first_day"),
        ('"{period}"', '"{month}"', "its words are"),
        ('"{period}"', '"{period"', "its words are"),
        ('"again-{event}"', '"again"', "second_claims.source_event_id"),
    ],
)
def test_a_bank_file_with_a_fault_is_not_loaded_and_the_fault_is_named(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = feed_path("demo-bank").read_text("utf-8")
    assert old in text
    path = tmp_path / "faulty.toml"
    path.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(MappingInvalid) as caught:
        read_bank_mapping(path)
    assert said in str(caught.value)


def test_the_trip_mapping_states_every_assumption_in_both_languages(
    trips_2020: FeedMapping, trips_2021: FeedMapping
) -> None:
    for mapping in (trips_2020, trips_2021):
        said = {assumption.id: assumption for assumption in mapping.assumption}
        assert set(said) == {
            "date_shift", "clock", "region", "riders", "round_trips", "midnight", "distance"
        }  # fmt: skip
        assert all(one.zh and one.en for one in said.values())
        assert f"{mapping.clock.shift_week} weeks" in said["date_shift"].en
        assert f"{mapping.clock.shift_week} 周" in said["date_shift"].zh
        assert mapping.act.region in said["region"].en
        assert str(mapping.act.account.count) in said["riders"].en
        radius = mapping.measure["distance_metre"].earth_radius_metre
        assert f"{radius} m" in said["distance"].en


def test_the_mappings_name_scenes_and_measures_of_the_catalogue_and_sources_that_may_report_them(
    trips_2020: FeedMapping, trips_2021: FeedMapping, bank: BankMapping
) -> None:
    scenes = tomllib.loads((CATALOGUE / "scenes.toml").read_text("utf-8"))["scene"]
    sources = tomllib.loads((CATALOGUE / "sources.toml").read_text("utf-8"))["source"]
    measures = {row["name"]: {one["name"] for one in row["measures"]} for row in scenes}
    labels = {row["name"]: row.get("label") for row in scenes}
    may_report = {row["name"]: set(row["scenes"]) for row in sources}
    for mapping in (trips_2020, trips_2021):
        assert mapping.act.scene in may_report[mapping.source]
        assert set(mapping.measure) <= measures[mapping.act.scene]
        label = labels[mapping.act.scene]
        for name, word in mapping.act.labels.items():
            assert (name, word) in [(label["name"], value) for value in label["values"]]
    for rule in bank.act:
        assert rule.scene in may_report[bank.source]
        assert measures[rule.scene] == {"count"}


def test_every_file_of_the_catalogue_loads(trips_2020: FeedMapping) -> None:
    found = {path.stem for path in FEEDS.glob("*.toml")}
    assert found == {"citibike-2020", "citibike-2021", "demo-bank"}
    for feed in found - {"demo-bank"}:
        assert read_mapping(feed_path(feed)).id == feed
    assert read_bank_mapping(feed_path("demo-bank")).id == "demo-bank"


def test_a_mapping_may_give_all_its_acts_one_word(
    tmp_path: Path, trips_2020: FeedMapping, good: str, read_lines: Callable[..., list[MappedAct]]
) -> None:
    text = feed_path("citibike-2020").read_text("utf-8")
    path = tmp_path / "labelled.toml"
    path.write_text(
        text.replace('region = "440300"', 'region = "440300"\nlabels = { fuel = "petrol" }')
    )
    plain, labelled = (read_lines(one, good)[0] for one in (trips_2020, read_mapping(path)))
    assert plain.labels == {}
    assert labelled.labels == {"fuel": "petrol"}
    assert dict(report_of(labelled, "accounts/any").labels) == {"fuel": "petrol"}
    assert not report_of(plain, "accounts/any").labels
