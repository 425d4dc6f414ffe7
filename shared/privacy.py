"""What a service hands over of an account, and what it says after an erasure.

Pure types: a service's own part of a copy is files, each either records of one kind (a `Table`,
written as JSON and as CSV) or bytes as they are (a `File`). `shared.privacy_worker` asks for them
and sends them to identity.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import chain
from typing import NamedTuple

PIECE_BYTES_MAX = 1024 * 1024
"""A file travels in pieces of this size; only its last one is smaller."""
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
FILE_NAME_RULE = "1 to 64 lower-case letters, digits and . _ -, the first no sign"

# A spreadsheet would run a text that begins so.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_BYTE_ORDER_MARK = "\ufeff".encode()  # without it spreadsheets do not read Chinese as UTF-8


@dataclass(frozen=True)
class File:
    """A file of a copy, byte by byte, such as a signed receipt."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Table:
    """Records of one kind, handed over as {name}.json and {name}.csv.

    A row has a value for each column: text, whole number, truth, moment, day, bytes (written
    in hex), None, or a mapping or list of those. Rows are read once, when they are written.
    """

    name: str
    columns: Sequence[str]
    rows: Iterable[Sequence[object]]


Item = File | Table
"""One part of a copy."""


def table_of(name: str, records: Iterable[Mapping[str, object]]) -> Table:
    """Records that name their values themselves, all of them the same; the first is read now."""
    others = iter(records)
    first = next(others, None)
    if first is None:
        return Table(name, (), ())
    columns = list(first)
    rows = ([record[column] for column in columns] for record in chain([first], others))
    return Table(name, columns, rows)


@dataclass(frozen=True)
class Kept:
    """Something that an erasure keeps, why, and until when; None means for ever."""

    what: str
    why: str
    until_time: datetime | None = None


@dataclass(frozen=True)
class Erased:
    """What an erasure deleted, by name, and what it kept.

    Erasing again deletes what is left, which may be nothing.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    kept: Sequence[Kept] = ()


class Piece(NamedTuple):
    """The piece of that number, from 0, of a file."""

    file_name: str
    piece: int
    content: bytes


def pieces_of(items: Iterable[Item], counts: dict[str, int]) -> Iterator[Piece]:
    """Every file in pieces, each file's in order; `counts` gets the records of each table, and
    the other files under "files". No more than two pieces are held at a time."""
    for item in items:
        if isinstance(item, File):
            counts["files"] = counts.get("files", 0) + 1
            yield from _cut(item)
        else:
            yield from _written(item, counts)


def _written(table: Table, counts: dict[str, int]) -> Iterator[Piece]:
    """Both files of a table side by side, so that its rows are read once."""
    as_json, as_csv = _Growing(f"{table.name}.json"), _Growing(f"{table.name}.csv")
    as_json.add(b"[")
    as_csv.add(_BYTE_ORDER_MARK + _csv_line(table.columns))
    count = 0
    for row in table.rows:
        record = dict(zip(table.columns, map(_plain, row), strict=True))
        as_json.add((b",\n" if count else b"\n") + _json(record))
        as_csv.add(_csv_line([_cell(value) for value in record.values()]))
        count += 1
        yield from as_json.full()
        yield from as_csv.full()
    as_json.add(b"\n]\n")
    yield from as_json.rest()
    yield from as_csv.rest()
    counts[table.name] = counts.get(table.name, 0) + count


class _Growing:
    """A file that is being written; `full` gives the pieces that are finished."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._piece = 0
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        self._data += data

    def full(self) -> Iterator[Piece]:
        while len(self._data) > PIECE_BYTES_MAX:
            yield self._next()

    def rest(self) -> Iterator[Piece]:
        yield from self.full()
        yield self._next()

    def _next(self) -> Piece:
        content = bytes(self._data[:PIECE_BYTES_MAX])
        del self._data[:PIECE_BYTES_MAX]
        self._piece += 1
        return Piece(self._name, self._piece - 1, content)


def _cut(file: File) -> Iterator[Piece]:
    for number, start in enumerate(range(0, max(1, len(file.content)), PIECE_BYTES_MAX)):
        yield Piece(file.name, number, file.content[start : start + PIECE_BYTES_MAX])


def _plain(value: object) -> object:
    """A value as JSON knows it."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    raise TypeError(f"a record holds a {type(value).__name__}; no file of a copy knows how")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _cell(value: object) -> str:
    """A value as a spreadsheet shows it."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return "" if value is None else _json(value).decode()


def _csv_line(cells: Sequence[str]) -> bytes:
    """A line of RFC 4180."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().encode()
