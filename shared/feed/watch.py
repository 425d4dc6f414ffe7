"""Serving a feed: from any cursor on, in order, from the table and nothing else.

There is one path for catching up and for following live: the table is read from the
cursors, a writer in this process says at once that there is something new, and commits of
other processes are found by looking again after `poll_ms`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import sqlalchemy as sa

from shared.ids import SHARDS
from shared.refusal import CursorOutOfRange, FieldInvalid
from shared.storage.engine import Database


class CursorMessage(Protocol):
    """`carbonaccount.type.v1.ShardCursor`, as far as it is read here."""

    @property
    def shard(self) -> int: ...
    @property
    def position(self) -> int: ...


class FeedRow(Protocol):
    """A row of a feed: `count` facts of `shard` from `position` on."""

    @property
    def shard(self) -> int: ...
    @property
    def position(self) -> int: ...
    @property
    def count(self) -> int: ...


Row = TypeVar("Row", bound=FeedRow)


class Signal:
    """Wakes every watcher of this process when a writer has committed."""

    def __init__(self) -> None:
        self._next = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def set(self) -> None:
        """There is something new; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._wake)

    def next(self) -> asyncio.Event:
        """The event of the next `set`; take it before reading, so that none is missed."""
        return self._next

    def _wake(self) -> None:
        waiting, self._next = self._next, asyncio.Event()
        waiting.set()


def read_cursor_messages(cursors: Sequence[CursorMessage]) -> dict[int, int]:
    """Shard to position; FieldInvalid for a shard outside 0 to 63, named twice, or below 0."""
    wanted: dict[int, int] = {}
    for cursor in cursors:
        if not 0 <= cursor.shard < SHARDS or cursor.shard in wanted:
            raise FieldInvalid("cursors", f"shard {cursor.shard} is outside 0 to 63 or named twice")
        if cursor.position < 0:
            raise FieldInvalid("cursors", f"position {cursor.position} is below 0")
        wanted[cursor.shard] = cursor.position
    return wanted


def check_against_heads(connection: sa.Connection, cursors: Mapping[int, int]) -> None:
    """CursorOutOfRange when a cursor lies beyond what its shard has ever had."""
    heads = connection.execute(
        sa.text("select shard, position from feed_head where shard = any(:shards)"),
        {"shards": list(cursors)},
    )
    for shard, newest in heads:
        if cursors[shard] > newest:
            raise CursorOutOfRange(
                f"shard {shard} has {newest} events and the cursor says {cursors[shard]}; "
                "start from a position that this feed sent",
                metadata={"shard": shard, "position": cursors[shard], "newest_position": newest},
            )


async def watch(
    database: Database,
    cursors: dict[int, int],
    *,
    read: Callable[[sa.Connection, Mapping[int, int]], list[Row]],
    signal: Signal,
    poll_ms: int,
    heartbeat_ms: int = 5_000,
) -> AsyncIterator[list[Row]]:
    """Rows after `cursors`, in order within each shard; an empty list is a heartbeat.

    `cursors` is moved as rows are handed out. `read` gives some of the rows after the
    cursors, none only when there is none.
    """
    await database.read(lambda connection: check_against_heads(connection, cursors))
    loop = asyncio.get_running_loop()
    quiet_since = loop.time()
    while True:
        something_new = signal.next()
        rows = await database.read(lambda connection: read(connection, cursors))
        if rows:
            for row in rows:
                cursors[row.shard] = row.position + row.count - 1
            yield rows
            quiet_since = loop.time()
            continue
        if loop.time() - quiet_since >= heartbeat_ms / 1000:
            yield []
            quiet_since = loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(poll_ms, heartbeat_ms) / 1000):
                await something_new.wait()
