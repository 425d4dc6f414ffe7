"""Files that nobody vouches for: each line is accounted for, nothing raises, memory is bounded."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.activity.feeds import (
    REASONS,
    FeedMapping,
    MappedAct,
    RefusedLine,
    feed_path,
    map_stream,
    read_mapping,
)

Items = list[MappedAct | RefusedLine]
Read = Callable[[FeedMapping, bytes], Items]
ReadLines = Callable[..., Items]


def only_refusal(items: Items) -> RefusedLine:
    """The one item that was refused."""
    refused = [item for item in items if isinstance(item, RefusedLine)]
    assert len(refused) == 1
    return refused[0]


def whole_file(mapping: FeedMapping, *rows: str) -> bytes:
    return "".join(f"{row}\n" for row in [",".join(mapping.layout.header), *rows]).encode()


def test_a_good_line_is_mapped(trips_2020: FeedMapping, read_lines: ReadLines, good: str) -> None:
    assert [type(item) for item in read_lines(trips_2020, good)] == [MappedAct]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_of_either_kind_and_a_byte_order_mark_are_taken(
    trips_2020: FeedMapping, read: Read, good: str, end: str
) -> None:
    content = b"\xef\xbb\xbf" + whole_file(trips_2020, good).replace(b"\n", end.encode())
    assert [type(item) for item in read(trips_2020, content)] == [MappedAct]


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("264,", "-264,", "tripduration"),
        ("264,", "9e99,", "tripduration"),
        ("264,", "99999999999999999999999,", "tripduration"),
        ("264,", "٢٦٤,", "tripduration"),
        ("264,", "266,", "tripduration"),
        ("264,", ",", "tripduration"),
        ("2020-04-01 05:02", "2020-04-31 05:02", "starttime"),
        ("2020-04-01 05:02", "2020-13-01 05:02", "starttime"),
        ("2020-04-01 05:02", "9999-12-31 05:02", "starttime"),
        ("2020-04-01 05:02", "2020-04-01 24:02", "starttime"),
        ("2020-04-01 05:02", "2020-04-01T05:02", "starttime"),
        ("2020-04-01 05:07", "2020-04-01 05:01", "stoptime"),
        ("40.7376037", "nan", "start station latitude"),
        ("40.7376037", "0", "start station latitude"),
        ("40.7376037", "1e1", "start station latitude"),
        ("-74.0524783", "74.0524783", "start station longitude"),
        ("40.73089709786179", "41.0999", "distance_metre"),
        ("42146", "4214", "bikeid"),
        ("42146", "42146\x07", "bikeid"),
    ],
)
def test_an_absurd_cell_is_refused_by_name_and_its_neighbours_are_mapped(
    trips_2020: FeedMapping, read_lines: ReadLines, good: str, old: str, new: str, field: str
) -> None:
    items = read_lines(trips_2020, good, good.replace(old, new, 1), good)
    refused = only_refusal(items)
    assert (refused.line, refused.reason, refused.field) == (3, "FIELD_INVALID", field)
    assert refused.message.isprintable()
    assert refused.rule
    assert refused.way_out
    assert [item.line for item in items] == [2, 3, 4]


@pytest.mark.parametrize(("stated", "kind"), [(263, MappedAct), (265, MappedAct),
                                              (262, RefusedLine), (266, RefusedLine)])  # fmt: skip
def test_the_stated_duration_may_differ_by_the_tolerance_and_not_by_a_second_more(
    trips_2020: FeedMapping, read_lines: ReadLines, good: str, stated: int, kind: type
) -> None:
    items = read_lines(trips_2020, good.replace("264,", f"{stated},", 1))
    assert [type(item) for item in items] == [kind]


@pytest.mark.parametrize(("seconds", "kind"), [(109, MappedAct), (108, RefusedLine)])
def test_a_trip_may_be_as_fast_as_the_speed_limit_and_not_a_second_faster(
    trips_2020: FeedMapping, read_lines: ReadLines, good: str, seconds: int, kind: type
) -> None:
    # 1,218 m at 40 km/h take 109.62 s, and one second is the precision of the times.
    stop = f"2020-04-01 05:{2 + (42 + seconds) // 60:02d}:{(42 + seconds) % 60:02d}.0570"
    row = good.replace("264,", f"{seconds},", 1).replace("2020-04-01 05:07:06.1260", stop)
    assert [type(item) for item in read_lines(trips_2020, row)] == [kind]


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"1,2,3",
        b",".join([b"x"] * 16),
        b'264,"2020-04-01 05:02:42.0570,never closed',
        b'264,"a"b,c',
        b"\xff\xfe\x00not text",
        b"264,\x00",
        b"\xc3\x28,bad utf-8",
        b"a\rb",
    ],
)
def test_a_line_that_is_no_row_spoils_itself_alone(
    trips_2020: FeedMapping, read_lines: ReadLines, good: str, row: bytes
) -> None:
    items = read_lines(trips_2020, good, row, good)
    refused = only_refusal(items)
    assert (refused.line, refused.reason, refused.field) == (3, "FIELD_INVALID", "line")
    assert not refused.value
    assert [type(item) for item in items] == [MappedAct, RefusedLine, MappedAct]


def test_a_line_may_be_as_long_as_its_limit_and_not_a_byte_longer(
    trips_2020: FeedMapping, read_lines: ReadLines, good: str
) -> None:
    roomy = replace(trips_2020, limits=replace(trips_2020.limits, line_bytes_max=400))
    filled = good.replace("Sip Ave", "Sip Ave" + "x" * (399 - len(good)))
    assert [type(item) for item in read_lines(roomy, filled)] == [MappedAct]
    refused = only_refusal(read_lines(roomy, filled.replace("xx", "xxx", 1), good))
    assert (refused.line, refused.reason) == (2, "LIMIT_REACHED")


def test_a_cell_of_5_megabytes_is_one_refused_line_in_bounded_memory(
    trips_2020: FeedMapping, good: str
) -> None:
    huge = good.replace("Sip Ave", "x" * 5_000_000)
    stream = io.BytesIO(whole_file(trips_2020, huge, good))
    tracemalloc.start()
    items = list(map_stream(trips_2020, stream))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [type(item) for item in items] == [RefusedLine, MappedAct]
    assert isinstance(items[0], RefusedLine)
    assert items[0].reason == "LIMIT_REACHED"
    assert peak < 1_000_000


def test_a_small_gzip_that_grows_without_end_stops_at_the_file_limit(
    trips_2020: FeedMapping, read: Read
) -> None:
    bounded = replace(trips_2020, limits=replace(trips_2020.limits, file_bytes_max=100_000))
    content = gzip.compress(whole_file(trips_2020) + b"0" * 20_000_000)
    refused = only_refusal(read(bounded, content))
    assert (refused.reason, refused.ends_feed) == ("LIMIT_REACHED", True)


def test_a_file_may_have_as_many_lines_as_its_limit_and_not_one_more(
    trips_2020: FeedMapping, read: Read, good: str
) -> None:
    bounded = replace(trips_2020, limits=replace(trips_2020.limits, lines_max=3))
    assert len(read(bounded, whole_file(trips_2020, good, good))) == 2
    items = read(bounded, whole_file(trips_2020, good, good, good, good))
    assert [type(item) for item in items] == [MappedAct, MappedAct, RefusedLine]
    assert only_refusal(items).ends_feed


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"a,b,c\n",
        b"\x1f\x8b",
        b"\x1f\x8bno gzip at all",
        gzip.compress(b""),
        b"\xff\xfe\n",
        b"x" * 10_000,
        b"PK\x03\x04 a spreadsheet",
    ],
)
def test_a_file_without_the_expected_header_is_one_refusal_that_says_what_to_send(
    trips_2020: FeedMapping, read: Read, content: bytes
) -> None:
    items = read(trips_2020, content)
    refused = only_refusal(items)
    assert len(items) == 1
    assert (refused.line, refused.ends_feed, refused.reason) == (1, True, "FIELD_INVALID")
    assert "tripduration,starttime" in refused.message


@pytest.mark.parametrize("change", [("stoptime", "stop_time"), ("starttime,stoptime",
                                    "stoptime,starttime"), (",gender", ""), ("gender",
                                    "gender,more")])  # fmt: skip
def test_columns_renamed_moved_lost_or_added_refuse_the_file_and_not_each_line(
    trips_2020: FeedMapping, read: Read, good: str, change: tuple[str, str]
) -> None:
    content = whole_file(trips_2020, good, good).replace(change[0].encode(), change[1].encode(), 1)
    assert only_refusal(read(trips_2020, content)).field == "header"


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_cut_at_any_byte_yields_the_acts_before_the_cut_and_one_refusal_at_most(
    trips_2020: FeedMapping, read: Read, good: str, compress: bool
) -> None:
    content = whole_file(trips_2020, good, good.replace("42146", "42147"))
    acts = read(trips_2020, content)
    content = gzip.compress(content) if compress else content
    for cut in range(len(content)):
        items = read(trips_2020, content[:cut])
        mapped = [item for item in items if isinstance(item, MappedAct)]
        assert mapped == acts[: len(mapped)]
        assert len(items) - len(mapped) <= 1
        if compress:
            assert only_refusal(items).ends_feed


def test_a_gzip_with_a_flipped_byte_never_raises(
    trips_2020: FeedMapping, read: Read, good: str
) -> None:
    content = gzip.compress(whole_file(trips_2020, *[good] * 20))
    for at in range(len(content)):
        spoilt = bytearray(content)
        spoilt[at] ^= 0x55
        assert len(read(trips_2020, bytes(spoilt))) <= 40


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=300))
def test_whatever_follows_the_header_is_accounted_for_line_by_line(body: bytes) -> None:
    mapping = read_mapping(feed_path("citibike-2020"))
    content = whole_file(mapping) + body
    lines = body.count(b"\n") + (0 if not body or body.endswith(b"\n") else 1)
    items = list(map_stream(mapping, io.BytesIO(content)))
    assert [item.line for item in items] == list(range(2, lines + 2))
    for item in items:
        assert isinstance(item, RefusedLine)
        assert item.reason in REASONS
        assert item.message.isprintable()


@pytest.mark.parametrize(
    ("old", "new"),
    [('"Sip Ave"', '"Sip" Ave'), (",1963,2", ',1963,"2'), ('"Sip Ave"', '"Sip"Ave"')],
)
def test_a_quote_out_of_order_is_refused_even_where_the_columns_would_add_up(
    trips_2020: FeedMapping, read_lines: ReadLines, good: str, old: str, new: str
) -> None:
    refused = only_refusal(read_lines(trips_2020, good, good.replace(old, new), good))
    assert (refused.line, refused.field) == (3, "line")
    assert "quote" in refused.rule


def test_a_last_line_without_line_end_is_refused_unless_the_mapping_allows_it(
    trips_2020: FeedMapping, read: Read, good: str
) -> None:
    content = whole_file(trips_2020, good, good).removesuffix(b"\n")
    refused = only_refusal(read(trips_2020, content))
    assert (refused.line, refused.ends_feed) == (3, False)
    assert "cut" in refused.rule
    layout = replace(trips_2020.layout, line_end_required=False)
    items = read(replace(trips_2020, layout=layout), content)
    assert [type(item) for item in items] == [MappedAct, MappedAct]


class Endless(io.RawIOBase):
    """A header, and then one line that never ends."""

    def __init__(self, start: bytes) -> None:
        self.given = 0
        self._start = start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._start or b"0" * len(buffer)
        size = min(len(piece), len(buffer))
        buffer[:size], self._start = piece[:size], self._start[size:]
        self.given += size
        return size


def test_a_line_that_never_ends_is_left_at_the_file_limit(trips_2020: FeedMapping) -> None:
    bounded = replace(trips_2020, limits=replace(trips_2020.limits, file_bytes_max=1_000_000))
    stream = Endless(whole_file(trips_2020))
    items = list(map_stream(bounded, cast(BinaryIO, stream)))
    assert only_refusal(items).ends_feed
    assert stream.given < 1_200_000
