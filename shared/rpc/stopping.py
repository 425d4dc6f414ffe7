"""The end of a server's life: streams are told, so that none of them holds the stop up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from shared.refusal import RetryLater

Item = TypeVar("Item")


class Stopping:
    """Whether the server stops, and what runs that would otherwise not end by itself.

    Needs a running loop.
    """

    def __init__(self) -> None:
        self._begun: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._watches: set[asyncio.Task[object]] = set()
        self._ended: set[asyncio.Task[object]] = set()

    @property
    def begun(self) -> bool:
        """Whether the server stops."""
        return self._begun.done()

    def begin(self) -> None:
        """Ends watches, and the reading of streams after the message under way."""
        if self.begun:
            return
        self._begun.set_result(None)
        for task in self._watches:
            self._ended.add(task)
            task.cancel()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """A stream that only reads, served by this task: it is cut off when the server stops."""
        task = asyncio.current_task()
        assert task is not None
        self._watches.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._ended or task.uncancel():
                raise
            raise refusal() from None
        finally:
            self._watches.discard(task)
            self._ended.discard(task)

    async def until_begun(self, requests: AsyncIterable[Item]) -> AsyncIterator[Item]:
        """The messages of a stream; ends early, between two of them, when the server stops."""
        iterator = aiter(requests)
        while not self.begun:
            upcoming: asyncio.Future[Any] = asyncio.ensure_future(anext(iterator))
            # Left alone when the server stops or the call is cancelled: it ends with the call,
            # and cancelling it would cut gRPC's reading in two.
            upcoming.add_done_callback(_forget)
            await asyncio.wait({upcoming, self._begun}, return_when=asyncio.FIRST_COMPLETED)
            if not upcoming.done():
                return
            try:
                yield upcoming.result()
            except StopAsyncIteration:
                return


def refusal() -> RetryLater:
    """What a stream is told that the server cuts off."""
    return RetryLater("this server stops; call again and go on from there", cause="server stopping")


def _forget(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
