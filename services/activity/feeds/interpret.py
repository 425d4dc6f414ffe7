"""The interpreter of a feed mapping: an operator's file in, acts and refused lines out."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

from services.activity.feeds.acts import (
    FIELD_INVALID,
    OVER_MIDNIGHT,
    ROUND_TRIP,
    MappedAct,
    RefusedLine,
    shorten,
)
from services.activity.feeds.columns import DAY_US, MINUTE_US, compile_column
from services.activity.feeds.lines import read_lines
from services.activity.feeds.mapping import AccountRule, FeedMapping
from services.activity.feeds.measures import compile_measure
from shared.personal import looks_personal

EVENT_ID_CHARS_MAX = 64  # the contract's bound on source_event_id
SEND_AGAIN = "mend the line and send it again"
HASH_IT = "send a keyed hash of it instead"


def map_feed(mapping: FeedMapping, path: Path) -> Iterator[MappedAct | RefusedLine]:
    """One item for each line after the header of the file at `path`, in order.

    A wrong header, a damaged file or a file above its limits is one RefusedLine with
    `ends_feed`, the last item. Nothing in the file raises; OSError says that it cannot be read.
    """
    with path.open("rb") as stream:
        yield from map_stream(mapping, stream)


def map_stream(mapping: FeedMapping, stream: BinaryIO) -> Iterator[MappedAct | RefusedLine]:
    """As `map_feed`, from a binary stream; it is read as the items are asked for."""
    lines = read_lines(stream, mapping.layout, mapping.limits)
    refused = _judge_header(mapping, next(lines, None))
    if refused:
        yield refused
        return
    reader = RowReader(mapping)
    for line in lines:
        yield line if isinstance(line, RefusedLine) else reader.read(*line)


def _judge_header(
    mapping: FeedMapping, line: tuple[int, str] | RefusedLine | None
) -> RefusedLine | None:
    expected, delimiter = mapping.layout.header, mapping.layout.delimiter
    text = ",".join(expected)
    rule, field = f"the first line must name the columns {text}", "header"
    if line is None:
        rule, field = f"the file is empty; {rule}", "file"
    elif isinstance(line, RefusedLine):
        rule = f"{line.rule}; {rule}"
    else:
        found = _split(line[1], delimiter)
        if found == list(expected):
            return None
        rule = f"{_header_fault(found or [], expected)}; {rule}"
    way_out = (
        f"send the file as the operator publishes it, or choose the mapping of its layout "
        f"({mapping.id} is another); nothing of this file was read"
    )
    return RefusedLine(1, FIELD_INVALID, field, "", rule, way_out, ends_feed=True)


def _header_fault(found: list[str], expected: tuple[str, ...]) -> str:
    # What stands there is told only where it is a column's name: a file without a header begins
    # with a trip, and its cells may be of columns that are never read.
    for at, name in enumerate(expected):
        if at >= len(found):
            return f"column {at + 1} ({name}) is missing"
        if found[at] != name:
            stands = repr(found[at]) if found[at] in expected else "something else"
            return f"column {at + 1} must be {name!r} and is {stands}"
    return f"there are {len(found)} columns and {len(expected)} are known"


def _split(text: str, delimiter: str) -> list[str] | None:
    """The cells of one line; None when its quotes are not in order."""
    try:
        # One line is one record: a quote that is never closed spoils its own line and no other.
        return next(csv.reader((text,), delimiter=delimiter, strict=True), [])
    except csv.Error:
        return None


class RowReader:
    """Reads the lines of one feed; the mapping's rules are compiled once."""

    def __init__(self, mapping: FeedMapping) -> None:
        layout, clock, act = mapping.layout, mapping.clock, mapping.act
        self._mapping = mapping
        self._delimiter = layout.delimiter
        self._columns = len(layout.header)
        order = sorted(mapping.column, key=lambda column: layout.header.index(column.name))
        self._cells = tuple(compile_column(column, clock) for column in order)
        self._names = tuple(column.name for column in order)
        self._pick = _picker([layout.header.index(name) for name in self._names])
        self._measures = tuple(
            (name, compile_measure(rule), rule) for name, rule in mapping.measure.items()
        )
        self._event_id = _joiner(act.source_event_id.columns, act.source_event_id.join)
        self._account = account_picker(act.account)
        self._to_utc_us = clock.shift_week * 7 * DAY_US - clock.utc_offset_minute * MINUTE_US

    def read(self, line: int, text: str) -> MappedAct | RefusedLine:
        """The act of one line, or the first rule that the line breaks."""
        cells = _split(text, self._delimiter)
        if cells is None or len(cells) != self._columns:
            return self._bad_split(line, cells)
        # From here on only the picked cells exist; columns that are never read are gone.
        cells = self._pick(cells)
        values: list[Any] = []
        for cell, given in zip(self._cells, cells, strict=True):
            try:
                values.append(cell.parse(given))
            except ValueError:
                return self._refuse(line, cell.name, given, cell.rule, cell.way_out)
        return self._act(
            line,
            dict(zip(self._names, cells, strict=True)),
            dict(zip(self._names, values, strict=True)),
        )

    def _act(
        self, line: int, cells: Mapping[str, str], values: Mapping[str, Any]
    ) -> MappedAct | RefusedLine:
        act = self._mapping.act
        start_us, end_us = values[act.start_time], values[act.occur_time]
        if end_us < start_us:
            rule = f"it must not lie before {act.start_time}, {cells[act.start_time]!r}"
            return self._refuse(line, act.occur_time, cells[act.occur_time], rule, SEND_AGAIN)
        measures: dict[str, int] = {}
        for name, measure, bounds in self._measures:
            amount = measures[name] = measure(cells, values)
            if not bounds.min <= amount <= bounds.max:
                rule = f"it is computed and must lie from {bounds.min} to {bounds.max}"
                return self._refuse(line, name, str(amount), rule, SEND_AGAIN)
        refused = self._implausible(line, cells, values, measures)
        if refused:
            return refused
        event_id = self._event_id(cells)
        if not 0 < len(event_id) <= EVENT_ID_CHARS_MAX or not event_id.isprintable():
            rule = f"it must have 1 to {EVENT_ID_CHARS_MAX} printable characters"
            return self._refuse(line, "source_event_id", event_id, rule, SEND_AGAIN)
        if looks_personal(event_id):
            rule = "it looks like a phone, card or identity number, which no event id may hold"
            return self._refuse(line, "source_event_id", "", rule, HASH_IT)
        return MappedAct(
            line,
            event_id,
            act.scene,
            measures,
            end_us + self._to_utc_us,
            act.region,
            self._account(cells),
            act.evidence_grade,
            "",
            self._remarks(cells, start_us, end_us),
            act.labels,
        )

    def _remarks(self, cells: Mapping[str, str], start_us: int, end_us: int) -> tuple[str, ...]:
        remarks: tuple[str, ...] = ()
        for _, _, rule in self._measures:
            if rule.same_place and cells[rule.same_place[0]] == cells[rule.same_place[1]] != "":
                remarks += (ROUND_TRIP,)
        # The wall's own midnight: the operator's clock is read as the clock of the civil day.
        if start_us // DAY_US != end_us // DAY_US:
            remarks += (OVER_MIDNIGHT,)
        return remarks

    def _implausible(
        self,
        line: int,
        cells: Mapping[str, str],
        values: Mapping[str, Any],
        measures: dict[str, int],
    ) -> RefusedLine | None:
        duration, speed = self._mapping.checks.duration, self._mapping.checks.speed
        if duration:
            stated, elapsed = values[duration.column], measures[duration.measure]
            if abs(stated - elapsed) > duration.tolerance_second:
                rule = (
                    f"start and stop are {elapsed} s apart and the two may differ by "
                    f"{duration.tolerance_second} s"
                )
                return self._refuse(line, duration.column, cells[duration.column], rule, SEND_AGAIN)
        if speed:
            metres, seconds = measures[speed.distance], measures[speed.duration]
            if metres * 3600 > speed.metre_per_hour_max * (seconds + speed.time_precision_second):
                rule = f"in {seconds} s it is faster than {speed.metre_per_hour_max} metres an hour"
                return self._refuse(line, speed.distance, str(metres), rule, SEND_AGAIN)
        return None

    def _bad_split(self, line: int, cells: list[str] | None) -> RefusedLine:
        rule = "a quote is not closed, or stands inside a cell that does not begin with one"
        if cells is not None:
            rule = f"it has {len(cells)} columns and must have {self._columns}"
        return RefusedLine(line, FIELD_INVALID, "line", "", rule, SEND_AGAIN)

    def _refuse(self, line: int, field: str, value: str, rule: str, way_out: str) -> RefusedLine:
        shown = shorten(value, self._mapping.limits.value_chars_max)
        return RefusedLine(line, FIELD_INVALID, field, shown, rule, way_out)


def _picker(places: list[int]) -> Callable[[list[str]], list[str]]:
    pick = itemgetter(*places, places[-1])  # one place more, so that it is a tuple for one, too

    def picked(cells: list[str]) -> list[str]:
        return list(pick(cells)[:-1])

    return picked


def _joiner(columns: tuple[str, ...], join: str) -> Callable[[Mapping[str, str]], str]:
    def joined(cells: Mapping[str, str]) -> str:
        return join.join([cells[column] for column in columns])

    return joined


def account_picker(rule: AccountRule) -> Callable[[Mapping[str, str]], str]:
    """The function from cells to the label of a demo account, as AccountRule states it."""
    joined = _joiner(rule.columns, rule.join)
    labels = [f"{rule.prefix}{number:0{rule.digits}d}" for number in range(rule.count)]

    def account(cells: Mapping[str, str]) -> str:
        digest = hashlib.sha256(joined(cells).encode()).digest()
        return labels[int.from_bytes(digest[: rule.hash_bytes]) % rule.count]

    return account
