"""Birth year and gender leave no trace: planted values reach neither acts nor messages."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.activity.feeds import (
    FeedMapping,
    MappedAct,
    MappingInvalid,
    RefusedLine,
    feed_path,
    map_stream,
    read_mapping,
)

Items = list[MappedAct | RefusedLine]
ReadLines = Callable[..., Items]
BIRTH, GENDER = "SECRETBIRTH1963", "SECRETGENDER2"


@pytest.fixture
def planted(good: str) -> str:
    return good.replace(",1963,2", f",{BIRTH},{GENDER}")


def shown(items: Items) -> str:
    """Everything that anybody could print of what was read."""
    messages = [item.message for item in items if isinstance(item, RefusedLine)]
    fields = [getattr(item, name) for item in items for name in type(item).__slots__]
    return repr((items, fields, messages))


def test_a_planted_birth_year_and_gender_do_not_reach_the_act(
    trips_2020: FeedMapping, read_lines: ReadLines, planted: str
) -> None:
    items = read_lines(trips_2020, planted)
    assert [type(item) for item in items] == [MappedAct]
    assert "SECRET" not in shown(items)


def test_the_act_is_the_same_whoever_rode(
    trips_2020: FeedMapping, read_lines: ReadLines, planted: str, good: str
) -> None:
    assert read_lines(trips_2020, planted) == read_lines(trips_2020, good)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda row: row.replace("2020-04-01", "04:50.2"),
        lambda row: row + ",one more",
        lambda row: row.replace("264,", "", 1),
        lambda row: row.replace(BIRTH, '"' + BIRTH),
        lambda row: row.replace(BIRTH, BIRTH + "\0"),
        lambda row: row.replace(BIRTH, BIRTH + "x" * 5000),
        lambda row: row.encode().replace(BIRTH.encode(), BIRTH.encode() + b"\xff"),
        lambda row: row.replace("42146", "4"),
        lambda row: row.replace("264,", "9999,", 1),
    ],
)
def test_no_refusal_quotes_them_however_the_line_is_spoilt(
    trips_2020: FeedMapping,
    read_lines: ReadLines,
    planted: str,
    spoil: Callable[[str], str | bytes],
) -> None:
    items = read_lines(trips_2020, spoil(planted))
    assert [type(item) for item in items] == [RefusedLine]
    assert "SECRET" not in shown(items)


def test_a_file_without_a_header_shows_nothing_of_the_trip_that_stands_in_its_place(
    trips_2020: FeedMapping, planted: str
) -> None:
    for first in (planted, ",".join([BIRTH, *trips_2020.layout.header[1:]])):
        items = list(map_stream(trips_2020, io.BytesIO(f"{first}\n".encode())))
        assert [type(item) for item in items] == [RefusedLine]
        assert "SECRET" not in shown(items)


def test_a_mapping_that_has_a_rule_for_a_column_that_is_never_read_is_not_loaded(
    tmp_path: Path,
) -> None:
    text = feed_path("citibike-2020").read_text("utf-8")
    rule = '[[column]]\nname = "gender"\nkind = "whole"\nmin = 0\nmax = 2\nway_out = "none"\n'
    path = tmp_path / "nosy.toml"
    path.write_text(text.replace("[[column]]", rule + "\n[[column]]", 1), "utf-8")
    with pytest.raises(MappingInvalid, match="'gender' is never read"):
        read_mapping(path)


def test_every_personal_column_of_both_layouts_is_listed(
    trips_2020: FeedMapping, trips_2021: FeedMapping
) -> None:
    assert set(trips_2020.layout.never_read) == {"birth year", "gender"}
    assert "member_casual" in trips_2021.layout.never_read


def test_a_long_cell_is_quoted_only_up_to_its_limit(
    trips_2020: FeedMapping, read_lines: ReadLines, good: str
) -> None:
    short = replace(trips_2020, limits=replace(trips_2020.limits, value_chars_max=10))
    items = read_lines(short, good.replace("42146", "4" * 500))
    assert isinstance(items[0], RefusedLine)
    assert items[0].value == "4" * 9 + "…"
