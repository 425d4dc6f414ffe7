"""Reading an operator's CSV by a mapping file: each line becomes an activity or a refusal.

This is a partner's side of the contract: it runs before anything is sent. Distances are
computed here, in floating point and outside any domain, and leave as whole metres.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

_SHOWN_MAX = 40


@dataclass(frozen=True)
class MappedAct:
    """An activity of line `line`, ready to be reported; `account` is a label, not a name."""

    line: int
    account: str
    scene: str
    source_event_id: str
    occur_time_us: int
    measures: dict[str, int]
    region_code: str
    evidence_grade: str
    claim: str = ""


@dataclass(frozen=True)
class RefusedLine:
    """A line that is no activity: which field, what it says, the rule, and the way out."""

    line: int
    reason: str
    field: str
    value: str
    rule: str

    @property
    def message(self) -> str:
        """One sentence for the partner."""
        return f"line {self.line}: {self.field} is {self.value!r}; {self.rule}"


class _Refused(Exception):
    def __init__(self, field: str, value: str, rule: str) -> None:
        super().__init__(field)
        self.field, self.value, self.rule = field, value[:_SHOWN_MAX], rule


def read_feed(path: Path, mapping: Mapping[str, Any]) -> Iterator[MappedAct | RefusedLine]:
    """Every line after the header, in order, as an activity or a refusal.

    Lines are numbered from 1 for the header. A file that ends in the middle or that is no
    gzip gives one refusal for the place where it broke. Memory is bounded by one line.
    """
    with path.open("rb") as raw:
        stream: BinaryIO = raw
        if raw.read(2) == b"\x1f\x8b":
            stream = gzip.open(path)  # type: ignore[assignment]  # a GzipFile reads like a file
        raw.seek(0)
        reader = _Reader(mapping)
        number = 0
        try:
            for number, line in _lines(stream, mapping["line_length_max"]):
                yield from reader.read(number, line)
        except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
            rule = f"the file breaks off here ({error}); send it again whole"
            yield RefusedLine(number + 1, "FIELD_INVALID", "file", path.name, rule)


def _lines(stream: BinaryIO, length_max: int) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1; one that is too long is cut just above the limit."""
    number = 0
    while line := stream.readline(length_max + 1):
        number += 1
        if len(line) > length_max and not line.endswith(b"\n"):
            while (rest := stream.readline(1 << 16)) and not rest.endswith(b"\n"):
                pass
        yield number, line


class _Reader:
    """One file's lines by one mapping."""

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        self._mapping = mapping
        self._header: list[str] = mapping["header"]
        self._kept = [name for name in self._header if name not in mapping["never_read"]]
        self._zone = timezone(timedelta(hours=mapping["time"]["offset_hours"]))
        self._shift = timedelta(weeks=mapping["time"]["shift_weeks"])
        self._bad_header = ""

    def read(self, number: int, line: bytes) -> Iterator[MappedAct | RefusedLine]:
        """What one line is; nothing for the header."""
        try:
            if self._bad_header and number > 1:
                raise _Refused("header", self._bad_header, "the file is not in this layout")
            values = self._values(line)
            if number == 1:
                if values != self._header:
                    self._bad_header = ",".join(values)[:_SHOWN_MAX]
                return
            if len(values) != len(self._header):
                rule = f"a line has {len(self._header)} columns"
                raise _Refused("line", f"{len(values)} columns", rule)
            row = dict(zip(self._header, values, strict=True))
            yield self._act(number, {name: row[name] for name in self._kept})
        except _Refused as refused:
            yield RefusedLine(number, "FIELD_INVALID", refused.field, refused.value, refused.rule)

    def _values(self, line: bytes) -> list[str]:
        longest = self._mapping["line_length_max"]
        if len(line) > longest:
            raise _Refused("line", f"over {longest} bytes", f"a line has at most {longest} bytes")
        try:
            text = line.decode(self._mapping["encoding"]).rstrip("\r\n")
        except UnicodeDecodeError as error:
            rule = f"the file is {self._mapping['encoding']}; byte {error.start + 1} is not"
            raise _Refused("line", repr(line[:16]), rule) from error
        if "\0" in text:
            raise _Refused("line", "a NUL byte", "a line is text")
        try:
            return next(csv.reader(io.StringIO(text), strict=True), [])
        except csv.Error as error:
            raise _Refused("line", text, f"quotes must be closed ({error})") from error

    def _act(self, number: int, row: Mapping[str, str]) -> MappedAct:
        mapping = self._mapping
        start = self._moment(row, mapping["time"]["start"])
        stop = self._moment(row, mapping["time"]["stop"])
        seconds = self._duration(row, start, stop)
        identity = "|".join(row[name] for name in mapping["event_id"])
        riders = mapping["riders"]
        text = "|".join(row[name] for name in riders["column"])
        rider = int.from_bytes(sha256(text.encode()).digest()) % riders["accounts"]
        return MappedAct(
            line=number,
            account=riders["label"].format(number=rider),
            scene=mapping["scene"],
            source_event_id=identity.replace(" ", "T"),
            occur_time_us=(stop - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1),
            measures={"distance_metre": self._distance(row), "duration_second": seconds},
            region_code=mapping["region_code"],
            evidence_grade=mapping["evidence_grade"],
        )

    def _moment(self, row: Mapping[str, str], field: str) -> datetime:
        text = row[field]
        for layout in self._mapping["time"]["formats"]:
            try:
                return datetime.strptime(text, layout).replace(tzinfo=self._zone) + self._shift
            except (ValueError, OverflowError):
                continue
        layouts = " or ".join(self._mapping["time"]["formats"])
        raise _Refused(field, text, f"a time has date and clock as {layouts}; export it as text")

    def _duration(self, row: Mapping[str, str], start: datetime, stop: datetime) -> int:
        """Whole seconds between the times, checked against what the operator says."""
        rules = self._mapping["duration"]
        seconds = (stop - start) // timedelta(seconds=1)
        if not 0 <= seconds <= rules["second_max"]:
            rule = f"the end is 0 to {rules['second_max']} seconds after the start"
            raise _Refused(self._mapping["time"]["stop"], f"{seconds} s later", rule)
        column = rules.get("column")
        if column is None:
            return seconds
        text = row[column]
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise _Refused(column, text, "a duration is a whole number of seconds")
        if abs(int(text) - seconds) > rules["tolerance_second"]:
            rule = f"the times are {seconds} seconds apart; one of the three is wrong"
            raise _Refused(column, text, rule)
        return int(text)

    def _distance(self, row: Mapping[str, str]) -> int:
        """Great circle between two places, rounded down to whole metres."""
        rules = self._mapping["distance"]
        places = [self._place(row, *rules[end]) for end in ("from", "to")]
        if places[0] == places[1]:
            return 0
        (south, west), (north, east) = places
        half = (
            math.sin((north - south) / 2) ** 2
            + math.cos(south) * math.cos(north) * math.sin((east - west) / 2) ** 2
        )
        radius = float(rules["earth_radius_metre"])
        metres = math.floor(2 * radius * math.asin(min(1.0, math.sqrt(half))))
        if metres > rules["metre_max"]:
            rule = f"the places are {metres} m apart; a ride has at most {rules['metre_max']} m"
            raise _Refused(rules["to"][0], row[rules["to"][0]], rule)
        return metres

    def _place(self, row: Mapping[str, str], latitude: str, longitude: str) -> tuple[float, float]:
        angles = []
        for field, limit in ((latitude, 90), (longitude, 180)):
            try:
                angle = float(row[field])
            except ValueError:
                angle = math.nan
            if not -limit <= angle <= limit:
                raise _Refused(field, row[field], f"it is an angle from -{limit} to {limit}")
            angles.append(math.radians(angle))
        return angles[0], angles[1]
