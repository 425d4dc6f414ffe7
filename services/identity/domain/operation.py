"""Copies and erasures of what is held about an account, followed as operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

from shared.ids import account_name
from shared.privacy import Kept

IDENTITY = "services/identity"
PARTS = ("services/activity", "services/calculation", IDENTITY, "services/settlement")
"""Every service that holds something of an account, by name."""

ARCHIVE_KEPT = timedelta(days=7)
"""So long can the archive of a copy be downloaded."""
ARCHIVES_MAX = 5
"""Archives of one account that are kept at a time, with the one under way."""
RECORDS_KEPT = timedelta(days=3 * 365 + 1)
"""Three years, a leap day among them or not: PIPL art. 55 and 56."""
LAGGING_AFTER = timedelta(seconds=60)
"""A service that waits longer lags, unless the question says otherwise."""


class Kind(IntEnum):
    """What an operation does; the numbers are those of the contract."""

    EXPORT = 1
    ERASURE = 2


class State(IntEnum):
    """How far an operation has come; the numbers are those of the contract."""

    RUNNING = 1
    DONE = 2
    EXPIRED = 3


@dataclass(frozen=True)
class Part:
    """One service's part; `counts` says how many of what were copied or deleted."""

    service: str
    finish_time: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    kept: Sequence[Kept] = ()


@dataclass(frozen=True)
class Operation:
    """A copy or an erasure, numbered from 1 within the account, with a part for each service.

    A copy that an erasure cut off is EXPIRED and has no finish_time.
    """

    account_id: int
    number: int
    kind: Kind
    state: State
    create_time: datetime
    parts: Sequence[Part]
    finish_time: datetime | None = None
    expire_time: datetime | None = None
    archive_bytes: int = 0
    archive_digest: bytes = b""

    @property
    def name(self) -> str:
        """accounts/{account}/operations/{operation}"""
        return f"{account_name(self.account_id)}/operations/{self.number}"


@dataclass(frozen=True)
class Task:
    """One service's part of an operation, to be done."""

    account_id: int
    number: int
    kind: Kind
    service: str
    create_time: datetime


@dataclass(frozen=True)
class SentFile:
    """A file as its sender saw it: `pieces` from 0 on, `digest` the SHA-256 of all of it."""

    name: str
    pieces: int
    digest: bytes
