"""FeedService: heads and cursors of a service, the same in every service."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from carbonaccount.feed.v1 import feed_service_pb2 as pb
from carbonaccount.feed.v1 import feed_service_pb2_grpc as pb_grpc
from carbonaccount.type.v1.cursor_pb2 import ShardCursor

from shared.storage.engine import Database


class FeedServicer(pb_grpc.FeedServiceServicer):
    """Answers from `feed_head` and, where the service follows anything, `cursor`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetProgress(
        self, request: pb.GetProgressRequest, context: Any
    ) -> pb.GetProgressResponse:
        """Newest positions, and how far `feed` is followed."""
        heads, cursors = await self._database.read(lambda c: _read(c, request.feed))
        return pb.GetProgressResponse(
            heads=[ShardCursor(shard=s, position=p) for s, p in heads],
            cursors=[ShardCursor(shard=s, position=p) for s, p in cursors],
        )


def _read(connection: sa.Connection, feed: str) -> tuple[list[Any], list[Any]]:
    heads = connection.execute(sa.text("select shard, position from feed_head order by shard"))
    if not feed:
        return list(heads), []
    cursors = connection.execute(
        sa.text("select shard, position from cursor where feed = :feed order by shard"),
        {"feed": feed},
    )
    return list(heads), list(cursors)
