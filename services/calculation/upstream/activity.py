"""Activity's feed, as calculation follows it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping

import grpc.aio
from carbonaccount.activity.v1 import activity_service_pb2 as pb
from carbonaccount.activity.v1 import activity_service_pb2_grpc as pb_grpc
from carbonaccount.type.v1.cursor_pb2 import ShardCursor


class ActivityFeed:
    """Opens WatchActivities on a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = pb_grpc.ActivityServiceStub(channel)

    def open(self, cursors: Mapping[int, int]) -> AsyncIterable[pb.WatchActivitiesResponse]:
        """Runs of events from those positions on."""
        request = pb.WatchActivitiesRequest(
            cursors=[ShardCursor(shard=s, position=p) for s, p in sorted(cursors.items())]
        )
        return self._stub.WatchActivities(request)
