"""Calculation's feed, as settlement follows it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping

import grpc.aio
from carbonaccount.calculation.v1 import assessment_service_pb2 as pb
from carbonaccount.calculation.v1 import assessment_service_pb2_grpc as pb_grpc
from carbonaccount.type.v1.cursor_pb2 import ShardCursor


class CalculationFeed:
    """Opens WatchAssessments on a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = pb_grpc.AssessmentServiceStub(channel)

    def open(self, cursors: Mapping[int, int]) -> AsyncIterable[pb.WatchAssessmentsResponse]:
        """Runs of assessments from those positions on."""
        request = pb.WatchAssessmentsRequest(
            cursors=[ShardCursor(shard=s, position=p) for s, p in sorted(cursors.items())]
        )
        return self._stub.WatchAssessments(request)
