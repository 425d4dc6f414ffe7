"""Structured logs to standard error, one JSON object a line, without secrets."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import structlog

from shared.settings import SettingsInvalid

LINES_KEPT_MAX = 1_000
LINES_KEPT_MS = 50
ERROR_MAX = 300  # characters of an error in a line
LEVELS = ("debug", "info", "warning", "error")
REDACTED = "[redacted]"
_SECRET_KEYS = frozenset(
    ("authorization", "token", "password", "secret", "customer_ref", "display_name", "claim")
)
# Passwords in addresses of databases, and signed tokens: they stand inside other texts.
_SECRET_TEXTS = re.compile(r"(?<=://)[^\s/@]+(?=@)|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*")


def configure_log(service: str, level: str = "info") -> None:
    """Sets up logging of this process; `level` is debug, info, warning or error."""
    if level not in LEVELS:
        raise SettingsInvalid(
            f"CARBONACCOUNT_{service.upper()}_LOG_LEVEL is {level[:64]!r}; "
            f"it must be one of {', '.join(LEVELS)}"
        )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        # Asked for each line, so that whoever replaces standard error gets what follows.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)


def in_short(error: BaseException) -> str:
    """An error as a line of the log holds it: what it is and what it says first.

    A database tells the rows that it was about in the lines below its first.
    """
    said = str(error)
    if isinstance(error, grpc.Call | grpc.aio.AioRpcError):  # not every RpcError has a code
        said = f"{error.code()} {error.details()}"
    return f"{type(error).__name__}: {said.partition(chr(10))[0]}"[:ERROR_MAX]


def redact(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replaces secrets in a line: values of telling keys, and tokens and passwords in texts.

    The last guard, not the first: what the contract marks as sensitive never gets this far.
    """
    for key, value in line.items():
        if key in _SECRET_KEYS:
            line[key] = REDACTED
        elif type(value) is str:
            if "://" in value or "eyJ" in value:
                line[key] = _SECRET_TEXTS.sub(REDACTED, value)
        elif not isinstance(value, int):
            line[key] = _redacted(value)
    return line


def _redacted(value: Any) -> Any:
    """The same inside mappings and lists; what else there is becomes its text."""
    if isinstance(value, Mapping):
        return redact(None, "", dict(value))
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(item) for item in value]
    if value is None or isinstance(value, int | float):
        return value
    return _SECRET_TEXTS.sub(REDACTED, str(value))


class LineBuffer:
    """Writes finished lines to standard error, many at once.

    A line waits at most 50 ms or for 1,000 others, which makes it cost a few microseconds
    where a logged event costs eighty. Needs a running loop.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        """Takes one line without its line end."""
        self._lines.append(line)
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_later(LINES_KEPT_MS / 1000, self.flush)
        elif len(self._lines) >= LINES_KEPT_MAX:
            self.flush()

    def flush(self) -> None:
        """Writes what waits; a log that cannot be written stops no service."""
        if self._lines:
            text = "\n".join(self._lines) + "\n"
            self._lines.clear()
            with suppress(OSError):
                sys.stderr.write(text)
                sys.stderr.flush()
