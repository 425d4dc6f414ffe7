"""Following a feed: read what waits, apply it in one transaction, move the cursors in it.

The follower opens one Watch stream for the shards it holds, gathers what has arrived while
the last transaction ran, and hands it to `apply` in a thread. Whatever fails, it opens the
stream again from the cursors in the database: every run takes effect exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

import structlog

from shared.feed.cursors import read_cursors
from shared.feed.leases import LeaseKeeper
from shared.log import in_short
from shared.storage.engine import Database

_log = structlog.get_logger()
_QUEUE_MAX = 64  # responses read ahead; gRPC flow control holds back the rest
_BACKOFF_MAX_S = 2.0
_IDLE_S = 0.5  # without anything to apply, work between is asked for again after so long
_LIGHT = 256  # what weighs less waits a moment for more

Response = TypeVar("Response")
Result = TypeVar("Result")
Response_contra = TypeVar("Response_contra", contravariant=True)


class Applier(Protocol[Response_contra]):
    """What a service does with what it follows; both methods run in the follower's thread."""

    def begin(self, cursors: Mapping[int, int]) -> None:
        """A stream starts from these positions: forget what was remembered of other shards."""

    def apply(self, responses: Sequence[Response_contra]) -> None:
        """Takes effect in one transaction that also moves the cursors; may raise anything."""


class Follower(Generic[Response]):
    """Follows one feed for as long as `run` runs.

    `open_stream(cursors)` gives the responses from those positions on; `weight(response)`
    says how many facts one carries, and about `weight_max` are applied together; after the
    first it waits `linger_ms` for more. `work_between` does a piece of other work on the same
    shards, in the same thread, between runs, and says whether more waits.
    """

    def __init__(
        self,
        database: Database,
        feed: str,
        *,
        leases: LeaseKeeper,
        open_stream: Callable[[Mapping[int, int]], AsyncIterable[Response]],
        applier: Applier[Response],
        weight: Callable[[Response], int],
        weight_max: int = 16_000,
        linger_ms: int = 10,
        work_between: Callable[[], bool] | None = None,
    ) -> None:
        self._database = database
        self._feed = feed
        self._leases = leases
        self._open_stream = open_stream
        self._applier = applier
        self._weight = weight
        self._weight_max = weight_max
        self._linger_s = linger_ms / 1000
        self._work_between = work_between
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"follow-{feed}")

    async def run(self) -> None:
        """Follows for ever; ends only by cancellation, after the transaction under way."""
        failures = 0
        try:
            while True:
                self._leases.changed.clear()
                if not self._leases.shards:
                    await self._leases.changed.wait()
                    continue
                try:
                    await self._follow(self._leases.shards)
                    failures = 0
                except Exception as error:
                    failures += 1
                    _log.warning("follow.broken", feed=self._feed, error=in_short(error))
                    await asyncio.sleep(min(0.05 * 2 ** min(failures, 10), _BACKOFF_MAX_S))
        finally:
            self._thread.shutdown(wait=True)

    async def _follow(self, shards: frozenset[int]) -> None:
        cursors = await self._database.call(lambda c: read_cursors(c, self._feed, shards))
        await self._in_thread(self._applier.begin, cursors)
        queue: asyncio.Queue[Response] = asyncio.Queue(_QUEUE_MAX)
        reader = asyncio.create_task(self._read(cursors, queue))
        changed = asyncio.create_task(self._leases.changed.wait())
        try:
            while not changed.done():
                wait_s = None
                if self._work_between is not None:
                    wait_s = 0.0 if await self._in_thread(self._work_between) else _IDLE_S
                responses = await self._gather(queue, reader, changed, wait_s)
                if responses:
                    await self._in_thread(self._applier.apply, responses)
        finally:
            reader.cancel()
            changed.cancel()
            await asyncio.gather(reader, changed, return_exceptions=True)

    async def _read(self, cursors: Mapping[int, int], queue: asyncio.Queue[Response]) -> None:
        async for response in self._open_stream(cursors):
            await queue.put(response)
        raise ConnectionError("the stream ended")

    async def _gather(
        self,
        queue: asyncio.Queue[Response],
        reader: asyncio.Task[None],
        changed: asyncio.Task[bool],
        wait_s: float | None,
    ) -> list[Response]:
        """What has arrived; empty when nothing came in that time or the leases changed."""
        first = asyncio.create_task(queue.get())
        await asyncio.wait(
            {first, reader, changed}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
        )
        if not first.done():
            first.cancel()
            if reader.done():
                reader.result()
            return []
        responses = [first.result()]
        weight = self._weight(responses[0])
        if weight < _LIGHT:
            await asyncio.sleep(self._linger_s)  # a transaction costs as much for one as for many
        while weight < self._weight_max and not queue.empty():
            responses.append(queue.get_nowait())
            weight += self._weight(responses[-1])
        return responses

    async def _in_thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        work = asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait({work})  # a transaction under way is finished, not torn
            raise
