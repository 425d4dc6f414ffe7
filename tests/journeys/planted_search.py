"""Looking for planted values in bytes, files, and every row of a database."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import psycopg
from psycopg import sql

from tests.journeys.planted_values import is_short, spellings

PIECE_BYTES = 8 << 20
_HEX = re.compile(rb"\\+x((?:[0-9a-f]{2})+)")
_HEAD = 4
_OWN_TABLES = """
select table_schema, table_name from information_schema.tables
where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')
order by 1, 2
"""


class Searcher:
    """Finds texts in all their spellings; hundreds of them at the speed of the disk.

    Two tables say which pairs of bytes begin a spelling; what passes both is compared.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._spelled: dict[bytes, list[tuple[bytes, str]]] = defaultdict(list)
        self._first, self._second = np.zeros(1 << 16, np.bool_), np.zeros(1 << 16, np.bool_)
        self.longest = _HEAD
        for text in texts:
            for spelled in dict.fromkeys(spellings(text)):
                self._spelled[spelled[:_HEAD]].append((spelled, text))
                self._first[int.from_bytes(spelled[:2], "little")] = True
                self._second[int.from_bytes(spelled[2:4], "little")] = True
                self.longest = max(self.longest, len(spelled))

    def found_in(self, data: bytes) -> set[str]:
        """The texts that occur in `data`."""
        if len(data) < _HEAD:
            return set()
        pairs = np.frombuffer(data[:-1], np.uint8).astype(np.uint16)
        pairs |= np.frombuffer(data[1:], np.uint8).astype(np.uint16) << 8
        places = np.flatnonzero(self._first[pairs[:-2]] & self._second[pairs[2:]])
        return {
            text
            for place in places.tolist()
            for spelled, text in self._spelled.get(data[place : place + _HEAD], ())
            if data.startswith(spelled, place) and _stands_alone(data, place, spelled)
        }

    def found_in_file(self, path: Path, piece_bytes: int = PIECE_BYTES) -> set[str]:
        """The texts that occur in a file; none in one that went away meanwhile."""
        found: set[str] = set()
        try:
            with path.open("rb") as file:
                tail = b""
                while piece := file.read(piece_bytes):
                    found |= self.found_in(tail + piece)
                    tail = piece[-self.longest :]
        except FileNotFoundError:
            pass
        return found

    def found_below(self, place: Path) -> dict[str, set[str]]:
        """The texts in the contents and names of every file below a directory, by file."""
        found = {
            str(path.relative_to(place)): self.found_in_file(path)
            | self.found_in(bytes(path.relative_to(place)))
            for path in sorted(place.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
        return {name: texts for name, texts in found.items() if texts}


def _stands_alone(data: bytes, place: int, spelled: bytes) -> bool:
    """A short number counts where it is not a part of a longer one, nor of a moment's fraction."""
    if not is_short(spelled):
        return True
    before, after = data[max(0, place - 1) : place], data[place + len(spelled) :][:1]
    return not before.isdigit() and before != b"." and not after.isdigit()


def tables(database_url: str) -> Iterator[tuple[str, bytes]]:
    """Every table of a database: its name, and all its rows as text, bytes as they are: written in
    hexadecimal, what is sealed would hold any six digits by chance."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        for schema, name in connection.execute(_OWN_TABLES).fetchall():
            query = sql.SQL("select t::text from {} t").format(sql.Identifier(schema, name))
            rows = connection.execute(query).fetchall()
            yield name, _HEX.sub(_bytes, "\n".join(row[0] for row in rows).encode())


def _bytes(found: re.Match[bytes]) -> bytes:
    return bytes.fromhex(found[1].decode())
