"""The one place that asks what time it is."""

from __future__ import annotations

import time
from collections.abc import Callable

ClockUs = Callable[[], int]
"""Answers the current moment in microseconds since the epoch."""


def now_us() -> int:
    """The current moment in microseconds since the epoch, UTC."""
    return time.time_ns() // 1000
