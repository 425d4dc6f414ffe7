"""The fast lane: numbered appends in, acknowledgements out in the same order.

Appends are read ahead, up to the window, while earlier ones are being committed; beyond it
the stream is not read, and gRPC's flow control holds the source back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import sqlalchemy as sa
from carbonaccount.activity.v1 import activity_service_pb2 as pb

from services.activity.domain.batch import Batch
from services.activity.domain.catalogue import Source
from services.activity.rpc.messages import write_ack
from services.activity.storage.lanes import Lanes
from services.activity.usecases.commit_submissions import Append, Receipt, Submission
from shared.gather import Gatherer
from shared.personal import looks_personal
from shared.refusal import FieldInvalid, LaneTakenOver, Refusal
from shared.rpc.status import to_status
from shared.storage.engine import Database, driver_of

Answer = asyncio.Future[Receipt]


class LaneStream:
    """One stream of one lane."""

    def __init__(
        self,
        *,
        source: Source,
        read: Callable[[Any], Batch],
        database: Database,
        gatherer: Gatherer[Submission, Receipt],
        window: int,
    ) -> None:
        self._source = source
        self._read = read
        self._database = database
        self._gatherer = gatherer
        self._window = window
        self._broken: Exception | None = None

    async def serve(
        self, requests: AsyncIterator[pb.IngestActivitiesRequest]
    ) -> AsyncIterator[pb.IngestActivitiesResponse]:
        """Answers until the source ends the stream or another one opens the lane."""
        first = await anext(aiter(requests), None)
        if first is None:
            return
        if first.WhichOneof("message") != "open" or not 0 < len(first.open.lane) <= 64:
            raise FieldInvalid(
                "open", "the first message must be open, with a lane of 1 to 64 characters"
            )
        lane = first.open.lane
        if not lane.isprintable():
            raise FieldInvalid("open.lane", "open.lane has a character that is not printable")
        kind = looks_personal(lane)
        if kind is not None:
            raise FieldInvalid("open.lane", f"open.lane looks like a {kind}; name it otherwise")
        next_offset, epoch = await self._database.call(
            lambda c: _open_lane(c, self._source.code, lane)
        )
        opened = pb.IngestActivitiesResponse.Opened(next_offset=next_offset, window=self._window)
        yield pb.IngestActivitiesResponse(opened=opened)

        answers: asyncio.Queue[Answer | Exception | None] = asyncio.Queue(self._window)
        reader = asyncio.create_task(self._read_ahead(requests, lane, epoch, answers))
        try:
            while (answer := await answers.get()) is not None:
                yield await _write(answer)
            if self._broken is not None:
                raise self._broken
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read_ahead(
        self,
        requests: AsyncIterator[pb.IngestActivitiesRequest],
        lane: str,
        epoch: int,
        answers: asyncio.Queue[Answer | Exception | None],
    ) -> None:
        """Submits appends in order; puts an answer to come for each, None at the end."""
        try:
            async for request in requests:
                await answers.put(self._submit(request, lane, epoch))
        except Exception as error:  # the contract is broken or the source is gone
            self._broken = error
        await answers.put(None)

    def _submit(
        self, request: pb.IngestActivitiesRequest, lane: str, epoch: int
    ) -> Answer | Exception:
        if request.WhichOneof("message") != "append":
            return FieldInvalid("message", "every message after the first must be an append")
        append = request.append
        if append.offset < 0:
            return FieldInvalid("append.offset", f"append.offset is {append.offset}, below 0")
        batch = self._read(append.activities)
        place = Append((self._source.code, lane), epoch, append.offset)
        try:
            return self._gatherer.send(Submission(batch, place), weight=batch.items)
        except Refusal as refusal:
            return refusal


async def _write(answer: Answer | Exception) -> pb.IngestActivitiesResponse:
    """The response to one append; raises what ends the stream."""
    try:
        if isinstance(answer, Exception):
            raise answer
        receipt = await asyncio.shield(answer)
    except (LaneTakenOver, FieldInvalid):
        raise
    except Refusal as refusal:
        return pb.IngestActivitiesResponse(refusal=to_status(refusal))
    return write_ack(receipt.judged, receipt.next_offset)


def _open_lane(connection: sa.Connection, source: int, lane: str) -> tuple[int, int]:
    return Lanes(driver_of(connection)).open_lane(source, lane)
