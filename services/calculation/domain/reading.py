"""Reading TOML so that every fault can name its line and how to mend it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from fractions import Fraction
from typing import Any

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_WHOLE_MAX = 2**53
_DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)
_ARRAY = re.compile(r"\s*\[\[([A-Za-z0-9_.\-\s]+)\]\]")
_TABLE = re.compile(r"\s*\[([A-Za-z0-9_.\-\s]+)\]")
_KEY = re.compile(r"(\s*)\"?([A-Za-z0-9_\-]+)\"?\s*=\s*(\"\"\"|'''|\"|')?")
_WHERE = re.compile(r"\(at line (\d+), column (\d+)\)")

Path = tuple[str | int, ...]


class FileInvalid(Exception):
    """A file breaks a rule, at a line and column from 1."""

    def __init__(self, message: str, line: int, column: int = 1) -> None:
        super().__init__(message)
        self.message, self.line, self.column = message, line, column


@dataclass
class Section:
    """A table of a file; reading a key that is missing or of another kind raises FileInvalid.

    `close` refuses keys that nobody read, so a misspelt rule cannot be passed over.
    """

    table: Mapping[str, Any]
    path: Path
    places: Mapping[Path, tuple[int, int]]
    _read: set[str] = field(default_factory=set)

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty, unless a default is given."""
        value = self._value(key, str, "text in quotes", default)
        if default is None and not value.strip():
            raise self.fault(f"{key} is empty; fill it in", key)
        return str(value)

    def choice(self, key: str, allowed: Collection[str], default: str | None = None) -> str:
        """One of the allowed words."""
        value = self.text(key, default)
        if value not in allowed:
            raise self.fault(f"{key} is {value[:40]!r}; write one of {', '.join(allowed)}", key)
        return value

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number between low and high."""
        value = self._value(key, int, "a whole number", default)
        if isinstance(value, bool) or not low <= value <= high:
            raise self.fault(f"{key} is {value}; write a whole number from {low} to {high}", key)
        return int(value)

    def decimal(self, key: str) -> tuple[str, Fraction]:
        """Decimal text and its exact value."""
        text = self.text(key)
        if not _DECIMAL.fullmatch(text):
            raise self.fault(f'{key} is {text[:40]!r}; write decimal text such as "46.7"', key)
        return text, Fraction(text)

    def has(self, key: str) -> bool:
        """Whether the key is there; it is still to be read."""
        return key in self.table

    def flag(self, key: str, default: bool | None = None) -> bool:
        """true or false."""
        return bool(self._value(key, bool, "true or false", default))

    def texts(self, key: str, default: list[str] | None = None) -> list[str]:
        """A list of texts."""
        values = self._value(key, list, "a list of texts", default)
        if not all(isinstance(value, str) and value for value in values):
            raise self.fault(f"{key} must be a list of texts in quotes", key)
        return list(values)

    def day(self, key: str, required: bool = True) -> int | None:
        """A civil day, counted from 1970-01-01; None when it is absent and not required."""
        self._read.add(key)
        value = self.table.get(key)
        if value is None and not required:
            return None
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self.fault(f"{key} must be a date without quotes such as 2022-01-01", key)
        return value.toordinal() - _EPOCH_ORDINAL

    def words(self, key: str) -> dict[str, str]:
        """A table of words by name; empty when it is absent."""
        values = self._value(key, dict, 'a table such as { fuel = "petrol" }', {})
        for name, value in values.items():
            if not isinstance(value, str):
                raise self.fault(f"{key}.{name} must be a word in quotes", key)
        return dict(values)

    def wholes(self, key: str, default: dict[str, int] | None = None) -> dict[str, int]:
        """A table of whole numbers by name."""
        values = self._value(key, dict, "a table such as { count = 1 }", default)
        for name, value in values.items():
            if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _WHOLE_MAX:
                raise self.fault(
                    f"{key}.{name} must be a whole number in base units, at most 2**53", key
                )
        return dict(values)

    def section(self, key: str) -> Section:
        """A table that must be there."""
        table = self._value(key, dict, f"a table [{key}]", None)
        return Section(table, (*self.path, key), self.places)

    def sections(self, key: str, at_least: int = 0) -> list[Section]:
        """A list of tables."""
        default: Any = None if at_least else []
        rows = self._value(key, list, f"at least one table [[{key}]]", default)
        if len(rows) < at_least or not all(isinstance(row, dict) for row in rows):
            raise self.fault(f"{key} must be at least {at_least} tables [[{key}]]", key)
        return [Section(row, (*self.path, key, n), self.places) for n, row in enumerate(rows)]

    def close(self) -> None:
        """Refuses keys that the format does not know."""
        unknown = sorted(set(self.table) - self._read)
        if unknown:
            known = ", ".join(sorted(self._read))
            raise self.fault(f"{unknown[0]} is not known here; use one of {known}", unknown[0])

    def fault(self, message: str, key: str = "") -> FileInvalid:
        """A fault at a key, or at the nearest place above it that was found in the text."""
        return FileInvalid(f"{self._name()}: {message}", *self.place(key))

    def place(self, key: str = "") -> tuple[int, int]:
        """Line and column of a key's value, or of the nearest table above it."""
        path: Path = (*self.path, key) if key else self.path
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))

    def _name(self) -> str:
        own = self.table.get("id") or self.table.get("key") or self.table.get("name")
        kind = [part for part in self.path if isinstance(part, str)][-1:] or ["the file"]
        return f"{kind[0]} {own}" if isinstance(own, str) and self.path else kind[0]

    def _value(self, key: str, kind: type, wanted: str, default: Any) -> Any:
        self._read.add(key)
        value = self.table.get(key, default)
        if value is None:
            raise self.fault(f"{key} is missing; add it ({wanted})", key)
        if not isinstance(value, kind):
            raise self.fault(f"{key} must be {wanted}", key)
        return value


def read_toml(text: str) -> Section:
    """The root of a TOML file; raises FileInvalid."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        where = _WHERE.search(str(error))
        line, column = (int(where[1]), int(where[2])) if where else (text.count("\n") + 1, 1)
        raise FileInvalid(f"this is not TOML: {error}", line, column) from error
    return Section(table, (), _places(text))


def _places(text: str) -> dict[Path, tuple[int, int]]:
    """Where tables and values begin: line and column of the first character inside quotes.

    Keys of inline tables are not listed; the key that holds the inline table is.
    """
    places: dict[Path, tuple[int, int]] = {}
    counts: dict[Path, int] = {}
    here: Path = ()
    for number, line in enumerate(text.split("\n"), 1):
        if found := _ARRAY.match(line):
            parts = _names(found[1])
            above = _within(parts[:-1], counts)
            listed = (*above, parts[-1])
            counts[listed] = counts.get(listed, -1) + 1
            here = (*listed, counts[listed])
            places.setdefault(listed, (number, 1))
            places[here] = (number, 1)
        elif found := _TABLE.match(line):
            here = _within(_names(found[1]), counts)
            places[here] = (number, 1)
        elif found := _KEY.match(line):
            # A text in three quotes begins on the next line where nothing follows them.
            long = (found[3] or "") in {'"""', "'''"} and not line[found.end() :].strip()
            places.setdefault(
                (*here, found[2]), (number + 1, 1) if long else (number, found.end() + 1)
            )
    return places


def _names(header: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in header.split("."))


def _within(parts: tuple[str, ...], counts: Mapping[Path, int]) -> Path:
    path: Path = ()
    for part in parts:
        path = (*path, part)
        if path in counts:
            path = (*path, counts[path])
    return path
