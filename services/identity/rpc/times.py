"""Moments and civil days between the contract's messages and Python."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from shared.ids import day_to_date
from shared.refusal import FieldInvalid


def read_moment(message: Any, field: str) -> datetime | None:
    """A moment in whole microseconds, cut off; None when it is not set."""
    if not message.HasField(field):
        return None
    try:
        moment: datetime = getattr(message, field).ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise FieldInvalid(field, f"{field} is no moment between the years 1 and 9999") from error
    return moment


def write_time(moment: datetime) -> Timestamp:
    """A moment as a Timestamp."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def write_day(day: int) -> Date:
    """A civil day as a Date."""
    date = day_to_date(day)
    return Date(year=date.year, month=date.month, day=date.day)
