"""Doing a service's part of copies and erasures, as identity hands it out.

One stream says what waits; each part is done by itself, a few at a time, and again from the
start after any fault, for ever. Doing a part twice is harmless: a file that is sent again takes
the place of the first, what is erased stays erased, and finishing twice changes nothing. So a
worker needs no memory, and one that is killed leaves nothing to mend.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import grpc.aio
import structlog
from carbonaccount.identity.v1 import privacy_service_pb2 as pb
from carbonaccount.identity.v1 import privacy_service_pb2_grpc as pb_grpc

from shared.ids import account_id_of
from shared.privacy import Erased, Item, Kept, Piece, pieces_of
from shared.refusal import Refusal
from shared.rpc.channel import open_channel
from shared.rpc.status import reason_of

_SERVICE = "carbonaccount.identity.v1.PrivacyService"
_AT_ONCE_MAX = 2  # each holds a connection and a piece of a mebibyte or two
_BACKOFF_MAX_S = 60.0
_STREAM_BACKOFF_MAX_S = 2.0
_log = structlog.get_logger()
Result = TypeVar("Result")


class PrivacyWorker:
    """Does what identity at `address` asks of the service that `token` is of. Needs a running loop.

    `export(account_id)` gives the service's part of a copy, read lazily; `erase(account_id)`
    deletes what is personal. Both run in threads of the worker and may be called again for the
    same account.
    """

    def __init__(
        self,
        address: str,
        *,
        token: Callable[[], str],
        export: Callable[[int], Iterable[Item]],
        erase: Callable[[int], Erased],
    ) -> None:
        self._channel = open_channel(address, token=token, services=(_SERVICE,))
        self._stub = pb_grpc.PrivacyServiceStub(self._channel)
        self._export = export
        self._erase = erase
        self._at_once = asyncio.Semaphore(_AT_ONCE_MAX)
        self._threads = ThreadPoolExecutor(_AT_ONCE_MAX, thread_name_prefix="privacy")
        self._doing: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Works for ever; ends only by cancellation, after the reads under way."""
        failures = 0
        try:
            while True:
                try:
                    async for response in self._stub.WatchPrivacyTasks(
                        pb.WatchPrivacyTasksRequest()
                    ):
                        failures = 0
                        self._take(response.tasks)
                except grpc.aio.AioRpcError as error:
                    _log.warning("privacy.watch_broken", code=error.code().name)
                failures += 1
                await asyncio.sleep(min(0.05 * 2 ** min(failures, 10), _STREAM_BACKOFF_MAX_S))
        finally:
            doing = list(self._doing.values())
            for task in doing:
                task.cancel()
            await asyncio.gather(*doing, return_exceptions=True)
            self._threads.shutdown(wait=True)
            await self._channel.close()

    def _take(self, tasks: Iterable[Any]) -> None:
        """Begins what is not under way: after a new stream identity tells of a part again."""
        for task in tasks:
            if task.operation not in self._doing:
                work = asyncio.create_task(self._do_at_last(task))
                self._doing[task.operation] = work
                work.add_done_callback(partial(self._forget, task.operation))

    def _forget(self, operation: str, _work: asyncio.Task[None]) -> None:
        del self._doing[operation]

    async def _do_at_last(self, task: Any) -> None:
        """Does one part, however often it takes; gives up only what identity no longer knows."""
        failures = 0
        while True:
            try:
                # Held by an attempt, not while waiting for the next: a bad part blocks nobody.
                async with self._at_once:
                    await self._do(task)
                return
            except grpc.aio.AioRpcError as error:
                reason = reason_of(error)
                if reason == "RESOURCE_NOT_FOUND":
                    _log.info("privacy.task_gone", operation=task.operation)
                    return
                fault = reason or error.code().name
            except Refusal as refusal:  # such as that the service has not followed so far yet
                fault = refusal.reason
            except Exception as error:
                fault = type(error).__name__  # its text may quote what is personal
            failures += 1
            _log.warning(
                "privacy.task_failed", operation=task.operation, fault=fault, failures=failures
            )
            wait_s = min(0.2 * 2 ** min(failures, 10), _BACKOFF_MAX_S)
            await asyncio.sleep(wait_s)

    async def _do(self, task: Any) -> None:
        account_id = account_id_of(task.account, "account")
        if task.kind == pb.Operation.KIND_EXPORT:
            await self._stub.FinishPrivacyTask(await self._send(task.operation, account_id))
        else:
            erased = await self._in_thread(self._erase, account_id)
            await self._stub.FinishPrivacyTask(
                pb.FinishPrivacyTaskRequest(
                    name=task.operation,
                    counts=dict(erased.counts),
                    kept=[_write_kept(kept) for kept in erased.kept],
                )
            )

    async def _send(self, operation: str, account_id: int) -> pb.FinishPrivacyTaskRequest:
        """Sends every file; what is to be told of them when they are there."""
        counts: dict[str, int] = {}
        files: dict[str, tuple[int, Any]] = {}
        pieces = self._pieces(account_id, counts)
        try:
            while (piece := await self._in_thread(_next, pieces)) is not None:
                await self._stub.SendPrivacyFile(
                    pb.SendPrivacyFileRequest(
                        name=operation, file_name=piece.file_name, piece=piece.piece,
                        content=piece.content,
                    )
                )  # fmt: skip
                _, digest = files.get(piece.file_name) or (0, hashlib.sha256())
                digest.update(piece.content)
                files[piece.file_name] = piece.piece + 1, digest
        finally:
            await self._in_thread(pieces.close)
        return pb.FinishPrivacyTaskRequest(
            name=operation,
            counts=counts,
            files=[
                pb.FinishPrivacyTaskRequest.SentFile(
                    file_name=name, pieces=count, digest=digest.digest()
                )
                for name, (count, digest) in files.items()
            ],
        )

    def _pieces(self, account_id: int, counts: dict[str, int]) -> Generator[Piece]:
        items = self._export(account_id)
        try:
            yield from pieces_of(items, counts)
        finally:
            if isinstance(items, Generator):
                items.close()  # with its transaction

    async def _in_thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        work = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait({work})  # a transaction under way is finished, not torn
            raise


def _next(pieces: Iterator[Piece]) -> Piece | None:
    return next(pieces, None)


def _write_kept(kept: Kept) -> pb.Operation.Kept:
    message = pb.Operation.Kept(what=kept.what, why=kept.why)
    if kept.until_time is not None:
        message.until_time.FromDatetime(kept.until_time)
    return message
