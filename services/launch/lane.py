"""Sending reports through a lane: ahead by the window, again from where the server stands."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from carbonaccount.activity.v1 import activity_service_pb2 as pb
from carbonaccount.activity.v1 import activity_service_pb2_grpc as pb_grpc

from shared.rpc.status import reason_of

APPEND_ACTS = 500
ATTEMPTS_MAX = 200
_WORDS = {1: "RECORDED", 2: "REPEATED"}
_RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED)


class _SendAgain(Exception):
    """The server asked to go on from where it stands."""


async def send_lane(
    stub: pb_grpc.ActivityServiceAsyncStub,
    lane: str,
    reports: Sequence[pb.ActivityReport],
    progress: Callable[[int, int], Any],
) -> Counter[str]:
    """Sends every report that the lane has not taken yet; counts outcomes and refusal reasons.

    Whatever breaks, the lane is opened again and says where to go on: nothing is lost and
    nothing counts twice. What the lane had taken before counts as repeated.
    """
    counts: Counter[str] = Counter()
    attempts = 0
    while True:
        try:
            before = await _send(stub, lane, reports, counts, progress)
            counts["REPEATED"] += before if not attempts else 0
            return counts
        except (grpc.aio.AioRpcError, _SendAgain) as error:
            attempts += 1
            retryable = isinstance(error, _SendAgain) or error.code() in _RETRYABLE
            if not retryable or attempts > ATTEMPTS_MAX:
                raise
            await asyncio.sleep(min(0.1 * attempts, 1.0))


async def _send(
    stub: pb_grpc.ActivityServiceAsyncStub,
    lane: str,
    reports: Sequence[pb.ActivityReport],
    counts: Counter[str],
    progress: Callable[[int, int], Any],
) -> int:
    """One stream; returns where it began."""
    begin: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    room = asyncio.Semaphore(1)

    async def requests() -> AsyncIterator[pb.IngestActivitiesRequest]:
        yield pb.IngestActivitiesRequest(open=pb.IngestActivitiesRequest.Open(lane=lane))
        offset, window = await begin
        for _ in range(window - 1):
            room.release()
        for start in range(offset, len(reports), APPEND_ACTS):
            await room.acquire()
            append = pb.IngestActivitiesRequest.Append(
                offset=start, activities=reports[start : start + APPEND_ACTS]
            )
            yield pb.IngestActivitiesRequest(append=append)

    call = stub.IngestActivities(requests())
    try:
        async for response in call:
            match response.WhichOneof("message"):
                case "opened":
                    opened = response.opened
                    begin.set_result((opened.next_offset, opened.window))
                    progress(opened.next_offset, len(reports))
                case "ack":
                    room.release()
                    _count(response.ack, counts)
                    progress(response.ack.next_offset, len(reports))
                case _:
                    raise _SendAgain(reason_of(response.refusal))
    finally:
        call.cancel()
        begin.cancel()
    return begin.result()[0]


def _count(ack: pb.IngestActivitiesResponse.Ack, counts: Counter[str]) -> None:
    counts.update(_WORDS[outcome] for outcome in ack.outcomes if outcome in _WORDS)
    counts.update(reason_of(refusal.status) for refusal in ack.refusals)
