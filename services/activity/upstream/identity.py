"""Identity's state feed, as activity follows it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping

import grpc.aio
from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as pb_grpc
from carbonaccount.type.v1.cursor_pb2 import ShardCursor


class IdentityFeed:
    """Opens WatchAccounts on a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = pb_grpc.AccountServiceStub(channel)

    def open(self, cursors: Mapping[int, int]) -> AsyncIterable[pb.WatchAccountsResponse]:
        """Snapshots and heartbeats from those positions on."""
        request = pb.WatchAccountsRequest(
            cursors=[ShardCursor(shard=s, position=p) for s, p in sorted(cursors.items())]
        )
        return self._stub.WatchAccounts(request)
