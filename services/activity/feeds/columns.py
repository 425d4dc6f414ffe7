"""What one cell may be: a rule of the mapping file compiled to a function of its text.

A parser returns the value or raises ValueError; it never sees a column that has no rule.
Patterns name the digits 0-9, so that neither `nan`, `1e999`, `1_000` nor digits of other
scripts are numbers here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from services.activity.feeds.mapping import Clock, Column

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
DAY_US = 86_400 * SECOND_US
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DEGREE = re.compile(r"-?[0-9]{1,3}(?:\.[0-9]{1,20})?")
_WHOLE = re.compile(r"-?[0-9]{1,15}")
_TOKENS = {
    "YYYY": "(?P<year>[0-9]{4})",
    "MM": "(?P<month>[0-9]{2})",
    "DD": "(?P<day>[0-9]{2})",
    "hh": "(?P<hour>[0-9]{2})",
    "mm": "(?P<minute>[0-9]{2})",
    "ss": "(?P<second>[0-9]{2})",
    "M": "(?P<month>[0-9]{1,2})",
    "D": "(?P<day>[0-9]{1,2})",
    "h": "(?P<hour>[0-9]{1,2})",
    "f": "(?P<fraction>[0-9]{1,6})",
}
_TOKEN = re.compile("(YYYY|MM|DD|hh|mm|ss|M|D|h|f)")
_NEEDED = {"year", "month", "day", "hour", "minute"}

Parser = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """A compiled column: `parse` its text; `rule` and `way_out` are for who sent it."""

    name: str
    parse: Parser
    rule: str
    way_out: str


def compile_column(column: Column, clock: Clock) -> Cell:
    """The compiled rule of one column.

    Values: text gives str, time gives int microseconds on the wall since 1970, degree gives
    float, whole gives int.
    """
    low, high = column.min or 0, column.max or 0
    if column.kind == "text":
        rule = f"it must match {column.pattern}"
        return Cell(column.name, _text(column.pattern), rule, column.way_out)
    if column.kind == "time":
        rule = (
            f"a time is written {' or '.join(column.formats)}, with a date from "
            f"{clock.earliest_date} to {clock.latest_date}"
        )
        return Cell(column.name, _time(column.formats, clock), rule, column.way_out)
    if column.kind == "degree":
        rule = f"it must be decimal degrees from {low} to {high}"
        return Cell(column.name, _number(_DEGREE, float, low, high), rule, column.way_out)
    rule = f"it must be a whole number from {low:.0f} to {high:.0f}"
    return Cell(column.name, _number(_WHOLE, int, low, high), rule, column.way_out)


def time_pattern(text: str) -> re.Pattern[str]:
    """The pattern of a time format made of YYYY MM M DD D hh h mm ss f and literal characters.

    ValueError when the format has no year, month, day, hour and minute, or has one twice.
    """
    parts = (_TOKENS.get(part) or re.escape(part) for part in _TOKEN.split(text))
    try:
        pattern = re.compile("".join(parts))
    except re.error as error:
        raise ValueError(f"time format {text!r}: {error}") from error
    missing = sorted(_NEEDED - set(pattern.groupindex))
    if missing:
        raise ValueError(f"time format {text!r} has no {missing}")
    return pattern


def _text(pattern: str) -> Parser:
    matches = re.compile(pattern).fullmatch

    def parse(text: str) -> str:
        if not matches(text):
            raise ValueError
        return text

    return parse


def _number(
    pattern: re.Pattern[str], kind: Callable[[str], Any], low: float, high: float
) -> Parser:
    matches = pattern.fullmatch

    def parse(text: str) -> Any:
        if not matches(text):
            raise ValueError
        value = kind(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse


def _time(formats: tuple[str, ...], clock: Clock) -> Parser:
    readers = [_time_reader(time_pattern(text)) for text in formats]
    first = (clock.earliest_date.toordinal() - _EPOCH_DAY) * DAY_US
    end = (clock.latest_date.toordinal() + 1 - _EPOCH_DAY) * DAY_US

    def parse(text: str) -> int:
        for read in readers:
            wall_us = read(text)
            if wall_us is not None:
                if not first <= wall_us < end:
                    raise ValueError
                return wall_us
        raise ValueError

    return parse


def _time_reader(pattern: re.Pattern[str]) -> Callable[[str], int | None]:
    matches = pattern.fullmatch
    place = {name: at - 1 for name, at in pattern.groupindex.items()}
    year, month, day = place["year"], place["month"], place["day"]
    hour, minute = place["hour"], place["minute"]
    second, fraction = place.get("second"), place.get("fraction")

    def read(text: str) -> int | None:
        match = matches(text)
        if match is None:
            return None
        part = match.groups()
        hours, minutes = int(part[hour]), int(part[minute])
        seconds = 0 if second is None else int(part[second])
        if hours > 23 or minutes > 59 or seconds > 59:
            raise ValueError
        # date() refuses a thirteenth month and the thirtieth of February with ValueError.
        days = date(int(part[year]), int(part[month]), int(part[day])).toordinal() - _EPOCH_DAY
        micros = 0 if fraction is None else int(part[fraction].ljust(6, "0"))
        return (days * 86_400 + hours * 3600 + minutes * 60 + seconds) * SECOND_US + micros

    return read
