"""Words that the tests of feeds share: the mappings, and a file of hand-written lines."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from services.activity.feeds import (
    BankMapping,
    FeedMapping,
    MappedAct,
    RefusedLine,
    feed_path,
    map_stream,
    read_bank_mapping,
    read_mapping,
)

Items = list[MappedAct | RefusedLine]
CHECKOUT = Path(__file__).parents[3]
GOOD = (
    '264,"2020-04-01 05:02:42.0570","2020-04-01 05:07:06.1260",3207,"Oakland Ave",40.7376037,'
    '-74.0524783,3195,"Sip Ave",40.73089709786179,-74.06391263008118,42146,"Subscriber",1963,2'
)


@pytest.fixture(scope="session")
def trips_2020() -> FeedMapping:
    return read_mapping(feed_path("citibike-2020"))


@pytest.fixture(scope="session")
def trips_2021() -> FeedMapping:
    return read_mapping(feed_path("citibike-2021"))


@pytest.fixture(scope="session")
def bank() -> BankMapping:
    return read_bank_mapping(feed_path("demo-bank"))


@pytest.fixture
def good() -> str:
    """One line that is in order."""
    return GOOD


@pytest.fixture
def read() -> Callable[[FeedMapping, bytes], Items]:
    """Everything that a file of these bytes yields."""
    return lambda mapping, content: list(map_stream(mapping, io.BytesIO(content)))


@pytest.fixture
def read_lines(read: Callable[[FeedMapping, bytes], Items]) -> Callable[..., Items]:
    """Everything that these lines yield under the mapping's own header."""

    def lines(mapping: FeedMapping, *rows: str | bytes) -> Items:
        header = ",".join(f'"{name}"' for name in mapping.layout.header).encode()
        raw = [row if isinstance(row, bytes) else row.encode() for row in rows]
        return read(mapping, b"".join(row + b"\n" for row in [header, *raw]))

    return lines
