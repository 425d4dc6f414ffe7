"""Loading of mapping files: parsed, shaped and checked before a line of data is read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from services.activity.feeds.columns import time_pattern
from services.activity.feeds.mapping import COLUMN_KINDS, MEASURE_KINDS, Column, FeedMapping
from services.activity.feeds.shape import MappingInvalid, read_shape

FEEDS = Path(__file__).parents[1] / "catalogue" / "feeds"
# Encodings in which the bytes of line end, comma and quote never are a part of another character.
ENCODINGS = ("utf-8", "gb18030")
GRADES = ("RECORDED", "SHOWN", "DECLARED")
# The csv module's own field limit is 131,072 characters; ours must be met first.
LINE_BYTES_TOP = 131_072
HASH_BYTES_TOP = 32
LABELS_MAX = 1
# The zones that exist: UTC-12 to UTC+14.
OFFSET_MINUTES = (-720, 840)


def feed_path(feed: str) -> Path:
    """The mapping file of the feed with that id."""
    return FEEDS / f"{feed}.toml"


def read_toml(path: Path) -> dict[str, Any]:
    """The parsed file; MappingInvalid when it is no TOML, OSError when it cannot be read."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingInvalid(f"it is no TOML: {error}") from error


def read_mapping(path: Path) -> FeedMapping:
    """The mapping in that file; raises MappingInvalid naming the file, the key and the rule."""
    try:
        mapping = read_shape(FeedMapping, read_toml(path), "mapping")
        for fault in _faults(mapping):
            raise MappingInvalid(fault)
    except MappingInvalid as error:
        raise MappingInvalid(f"{path.name}: {error}") from error
    return mapping


def _faults(mapping: FeedMapping) -> Iterable[str]:
    layout, limits, clock = mapping.layout, mapping.limits, mapping.clock
    if mapping.kind != "csv":
        yield f"kind is {mapping.kind!r}; this reader knows csv"
    if layout.encoding not in ENCODINGS:
        yield f"layout.encoding is {layout.encoding!r}; one of {ENCODINGS}"
    if len(layout.delimiter) != 1 or layout.delimiter in '"\r\n':
        yield f"layout.delimiter is {layout.delimiter!r}; it must be one character and no quote"
    if not layout.header or len(set(layout.header)) != len(layout.header):
        yield "layout.header must name each column once"
    if not 0 < limits.line_bytes_max <= LINE_BYTES_TOP:
        yield f"limits.line_bytes_max is {limits.line_bytes_max}; from 1 to {LINE_BYTES_TOP}"
    if min(limits.lines_max, limits.file_bytes_max, limits.value_chars_max) <= 0:
        yield "every limit must be above 0"
    low, high = OFFSET_MINUTES
    if not low <= clock.utc_offset_minute <= high:
        yield f"clock.utc_offset_minute is {clock.utc_offset_minute}; from {low} to {high}"
    yield from _act_faults(mapping)
    yield from _column_faults(mapping)
    yield from _measure_faults(mapping)


def _act_faults(mapping: FeedMapping) -> Iterable[str]:
    act = mapping.act
    kinds = {column.name: column.kind for column in mapping.column}
    if act.evidence_grade not in GRADES:
        yield f"act.evidence_grade is {act.evidence_grade!r}; one of {GRADES}"
    if not re.fullmatch("[0-9]{6}", act.region):
        yield f"act.region is {act.region!r}; it must be six digits"
    if len(act.labels) > LABELS_MAX:
        yield f"act.labels has {sorted(act.labels)}; a scene has at most {LABELS_MAX}"
    if not (0 < act.account.hash_bytes <= HASH_BYTES_TOP and act.account.count > 0):
        yield f"act.account needs hash_bytes from 1 to {HASH_BYTES_TOP} and a count above 0"
    if not (act.source_event_id.columns and act.account.columns):
        yield "act.source_event_id and act.account need at least one column"
    for name in sorted({*act.source_event_id.columns, *act.account.columns} - set(kinds)):
        yield f"column {name!r} is used by [act] and has no [[column]] rule"
    for name in (act.start_time, act.occur_time):
        if kinds.get(name) != "time":
            yield f"column {name!r} must be a column of kind time"


def _column_faults(mapping: FeedMapping) -> Iterable[str]:
    header, never = set(mapping.layout.header), set(mapping.layout.never_read)
    names = {column.name for column in mapping.column}
    if len(names) != len(mapping.column):
        yield "two [[column]] entries share a name"
    for name in sorted((never | names) - header):
        yield f"column {name!r} is not in layout.header"
    for name in sorted(never & names):
        yield f"column {name!r} is never read and may have no rule"
    for column in mapping.column:
        in_range = column.min is not None and column.max is not None
        complete = {
            "text": bool(column.pattern),
            "time": bool(column.formats),
            "degree": in_range,
            "whole": in_range,
        }
        if not complete.get(column.kind, False):
            yield (
                f"column {column.name!r} of kind {column.kind!r} is not complete: one of "
                f"{COLUMN_KINDS}; text has pattern, time has formats, numbers have min and max"
            )
        yield from _expression_faults(column)


def _expression_faults(column: Column) -> Iterable[str]:
    try:
        re.compile(column.pattern)
        for text in column.formats:
            time_pattern(text)
    except (re.error, ValueError) as error:
        yield f"column {column.name!r}: {error}"


def _measure_faults(mapping: FeedMapping) -> Iterable[str]:
    kinds = {column.name: column.kind for column in mapping.column}
    wanted = {"great_circle": ("degree", 2), "elapsed": ("time", 1)}
    for name, rule in mapping.measure.items():
        if rule.kind not in MEASURE_KINDS:
            yield f"measure.{name}.kind is {rule.kind!r}; one of {MEASURE_KINDS}"
            continue
        kind, size = wanted[rule.kind]
        for end in (rule.start, rule.end):
            if len(end) != size or any(kinds.get(column) != kind for column in end):
                yield f"measure.{name} needs {size} column(s) of kind {kind} at each end"
        if rule.kind == "great_circle" and rule.earth_radius_metre is None:
            yield f"measure.{name} needs earth_radius_metre"
        if rule.same_place and (len(rule.same_place) != 2 or set(rule.same_place) - set(kinds)):
            yield f"measure.{name}.same_place needs two columns that have rules"
    yield from _check_faults(mapping, kinds)


def _check_faults(mapping: FeedMapping, kinds: dict[str, str]) -> Iterable[str]:
    speed, duration = mapping.checks.speed, mapping.checks.duration
    named = [speed.distance, speed.duration] if speed else []
    for name in named + ([duration.measure] if duration else []):
        if name not in mapping.measure:
            yield f"[checks] names measure {name!r}, which has no rule"
    if duration and kinds.get(duration.column) != "whole":
        yield "checks.duration.column must be a column of kind whole"
