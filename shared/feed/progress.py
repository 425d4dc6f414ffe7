"""FeedService: heads and cursors of a service, the same in every service."""

from __future__ import annotations

import asyncio
from typing import Any

import sqlalchemy as sa
from carbonaccount.feed.v1 import feed_service_pb2 as pb
from carbonaccount.feed.v1 import feed_service_pb2_grpc as pb_grpc
from carbonaccount.type.v1.cursor_pb2 import ShardCursor

from shared.feed.freshness import read_freshness_token
from shared.refusal import FieldInvalid, RetryLater
from shared.storage.engine import Database

AWAIT_MAX_S = 5.0
_LOOK_S, _LOOK_MAX_S = 0.02, 0.32  # seldomer the longer it takes: who waits costs little


class FeedServicer(pb_grpc.FeedServiceServicer):
    """Answers from `feed_head` and, where the service follows anything, `cursor`.

    `own` is the name of the service's feed, `follows` those that it follows.
    """

    def __init__(self, database: Database, own: str, follows: tuple[str, ...] = ()) -> None:
        self._database = database
        self._own = own
        self._follows = follows

    async def GetProgress(
        self, request: pb.GetProgressRequest, context: Any
    ) -> pb.GetProgressResponse:
        """Newest positions, and how far `feed` is followed."""
        if request.feed and request.feed not in self._follows:
            raise self._not_followed("feed", request.feed)
        heads, cursors = await self._database.read(lambda c: _read(c, request.feed))
        return pb.GetProgressResponse(
            heads=[ShardCursor(shard=s, position=p) for s, p in heads],
            cursors=[ShardCursor(shard=s, position=p) for s, p in cursors],
        )

    async def AwaitFreshness(
        self, request: pb.AwaitFreshnessRequest, context: Any
    ) -> pb.AwaitFreshnessResponse:
        """Answers once the change of the token has been followed."""
        feed, shard, position = read_freshness_token(request.freshness_token)
        if feed == self._own:
            return pb.AwaitFreshnessResponse()  # what is written here is read here
        if feed not in self._follows:
            raise self._not_followed("freshness_token", feed)
        remaining = context.time_remaining()
        give_up_s = AWAIT_MAX_S if remaining is None else min(AWAIT_MAX_S, 0.9 * remaining)
        try:
            async with asyncio.timeout(give_up_s):
                wait_s = _LOOK_S
                while await self._database.read(lambda c: _at(c, feed, shard)) < position:
                    await asyncio.sleep(wait_s)
                    wait_s = min(2 * wait_s, _LOOK_MAX_S)
        except TimeoutError:
            raise RetryLater(
                f"this service has not followed {feed} so far yet; ask again",
                cause="not as fresh yet",
            ) from None
        return pb.AwaitFreshnessResponse()

    def _not_followed(self, field: str, feed: str) -> FieldInvalid:
        known = ", ".join(self._follows) or "none"
        return FieldInvalid(field, f"{field} is of feed {feed[:32]!r}; followed here: {known}")


def _read(connection: sa.Connection, feed: str) -> tuple[list[Any], list[Any]]:
    heads = connection.execute(sa.text("select shard, position from feed_head order by shard"))
    if not feed:
        return list(heads), []
    cursors = connection.execute(
        sa.text("select shard, position from cursor where feed = :feed order by shard"),
        {"feed": feed},
    )
    return list(heads), list(cursors)


def _at(connection: sa.Connection, feed: str, shard: int) -> int:
    """How far the shard is followed."""
    position = connection.scalar(
        sa.text("select position from cursor where feed = :feed and shard = :shard"),
        {"feed": feed, "shard": shard},
    )
    return int(position or 0)
