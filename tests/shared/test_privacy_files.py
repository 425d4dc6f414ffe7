"""How records become files: JSON and CSV of the same rows, in pieces, whatever is in them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from shared.privacy import (
    FILE_NAME,
    PIECE_BYTES_MAX,
    File,
    Item,
    Table,
    pieces_of,
    table_of,
)


def files_of(*items: Item) -> tuple[dict[str, bytes], dict[str, int]]:
    """The files whole, and what was counted."""
    counts: dict[str, int] = {}
    files: dict[str, bytes] = {}
    numbers: dict[str, int] = {}
    for piece in pieces_of(items, counts):
        assert piece.piece == numbers.get(piece.file_name, 0), "the pieces of a file are in order"
        numbers[piece.file_name] = piece.piece + 1
        files[piece.file_name] = files.get(piece.file_name, b"") + piece.content
    return files, counts


def table(*values: object) -> Table:
    return Table("t", ("value",), [[value] for value in values])


def cells(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize(
    ("value", "as_json", "as_csv"),
    [
        ("碳", "碳", "碳"),
        ('a,"b"\r\nc', 'a,"b"\r\nc', 'a,"b"\r\nc'),
        ("", "", ""),
        (None, None, ""),
        (-(2**63), -(2**63), str(-(2**63))),
        (True, True, "true"),
        (b"\x00\xff", "00ff", "00ff"),
        (date(2026, 4, 1), "2026-04-01", "2026-04-01"),
        (
            datetime(2026, 4, 1, 8, 0, 0, 5, timezone(timedelta(hours=8))),
            "2026-04-01T00:00:00.000005Z",
            "2026-04-01T00:00:00.000005Z",
        ),
        ({"distance_metre": 3}, {"distance_metre": 3}, '{"distance_metre":3}'),
        ([1, datetime(2026, 1, 1, tzinfo=UTC)], [1, "2026-01-01T00:00:00.000000Z"],
         '[1,"2026-01-01T00:00:00.000000Z"]'),
        ("=1+1", "=1+1", "'=1+1"),
        ("@x", "@x", "'@x"),
        ("-", "-", "'-"),
        (-5, -5, "-5"),
    ],
)  # fmt: skip
def test_a_value_is_the_same_in_both_files(value: object, as_json: object, as_csv: str) -> None:
    files, counts = files_of(table(value))
    assert json.loads(files["t.json"]) == [{"value": as_json}]
    assert cells(files["t.csv"]) == [["value"], [as_csv]]
    assert counts == {"t": 1}


@pytest.mark.parametrize("value", [1.5, Decimal(1), object(), {1.5}])
def test_a_value_that_no_file_knows_is_a_fault_and_not_a_guess(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        files_of(table(value))


@pytest.mark.parametrize("row", [(), ("a", "b")])
def test_a_row_has_a_value_for_each_column(row: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="argument"):
        files_of(Table("t", ("value",), [row]))


def test_an_empty_table_is_two_files_that_say_so() -> None:
    files, counts = files_of(Table("t", ("a", "b"), []), table_of("u", []))
    assert json.loads(files["t.json"]) == json.loads(files["u.json"]) == []
    assert cells(files["t.csv"]) == [["a", "b"]]
    assert counts == {"t": 0, "u": 0}


def test_records_that_name_their_values_become_a_table() -> None:
    files, _ = files_of(table_of("t", [{"b": 1, "a": 2}, {"a": 4, "b": 3}]))
    assert json.loads(files["t.json"]) == [{"b": 1, "a": 2}, {"b": 3, "a": 4}]
    assert cells(files["t.csv"])[0] == ["b", "a"]


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES_MAX, PIECE_BYTES_MAX + 1, 3 * PIECE_BYTES_MAX])
def test_a_file_is_cut_into_full_pieces_and_a_rest(size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    counts: dict[str, int] = {}
    pieces = list(pieces_of([File("a.bin", content[:size])], counts))
    assert [len(piece.content) for piece in pieces[:-1]] == [PIECE_BYTES_MAX] * (len(pieces) - 1)
    assert b"".join(piece.content for piece in pieces) == content[:size]
    assert len(pieces) == max(1, -(-size // PIECE_BYTES_MAX))
    assert counts == {"files": 1}


def test_a_large_table_is_read_once_while_its_pieces_are_taken() -> None:
    read = 0

    def rows() -> Iterator[tuple[Any, ...]]:
        nonlocal read
        for number in range(40_000):
            read += 1
            yield number, f"row {number} " + "x" * 100

    pieces = pieces_of([Table("big", ("number", "text"), rows())], {})
    first = next(pieces)
    assert (first.file_name, first.piece) == ("big.json", 0)
    assert read < 10_000, "rows are read as they are needed"
    sizes = [len(piece.content) for piece in pieces]
    assert read == 40_000
    assert max(sizes) <= PIECE_BYTES_MAX
    files, counts = files_of(Table("big", ("number", "text"), rows()))
    assert len(json.loads(files["big.json"])) == len(cells(files["big.csv"])) - 1 == 40_000
    assert counts == {"big": 40_000}


@pytest.mark.parametrize("name", ["a", "a.json", "receipt-00001-granted.jws", "0", "a" * 64])
def test_a_file_name_of_the_contract_is_taken(name: str) -> None:
    assert FILE_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", ".a", "-a", "A", "a/b", "..", "a b", "a\n", "碳", "a" * 65])
def test_another_file_name_is_not(name: str) -> None:
    assert not FILE_NAME.fullmatch(name)
