"""AssessmentService: reads, calls, writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np
import sqlalchemy as sa
from carbonaccount.calculation.v1 import assessment_service_pb2 as pb
from carbonaccount.calculation.v1 import assessment_service_pb2_grpc as pb_grpc
from google.protobuf.timestamp_pb2 import Timestamp

from services.calculation.rpc import messages
from services.calculation.storage.book import Book, Run
from services.calculation.storage.shelf import Shelf
from services.calculation.usecases.estimate import estimate_many, estimate_reduction
from services.calculation.usecases.read_assessment import read_assessment
from shared.clock import ClockUs
from shared.feed.watch import Signal, read_cursor_messages, watch
from shared.ids import civil_day, shard_of
from shared.storage.bulk import unpack
from shared.storage.engine import Database

RUNS_PER_SHARD = 8


class AssessmentServicer(pb_grpc.AssessmentServiceServicer):
    """Estimates, shows and streams assessments."""

    def __init__(
        self,
        *,
        database: Database,
        shelf: Shelf,
        signal: Signal,
        clock: ClockUs,
        poll_ms: int,
    ) -> None:
        self._database = database
        self._shelf = shelf
        self._signal = signal
        self._clock = clock
        self._poll_ms = poll_ms

    async def EstimateReduction(
        self, request: pb.EstimateReductionRequest, context: Any
    ) -> pb.EstimateReductionResponse:
        """What such an activity would earn with no cap used; nothing is kept."""
        estimate = messages.read_estimate(request, civil_day(self._clock()))
        shown = estimate_reduction(
            estimate, library=self._shelf.library, programme=self._shelf.programme
        )
        return pb.EstimateReductionResponse(assessment=messages.write_assessment(shown))

    async def BatchEstimateReductions(
        self, request: pb.BatchEstimateReductionsRequest, context: Any
    ) -> pb.BatchEstimateReductionsResponse:
        """What each would earn alone, without working; nothing is kept."""
        today = civil_day(self._clock())
        estimates = [messages.read_estimate(one, today) for one in request.requests]
        results = estimate_many(
            estimates, library=self._shelf.library, programme=self._shelf.programme
        )
        return messages.write_estimates(results)

    async def GetAssessment(
        self, request: pb.GetAssessmentRequest, context: Any
    ) -> pb.GetAssessmentResponse:
        """The newest assessment of one activity, its working computed again from the file."""
        account_id, position = messages.read_assessment_name(request.name)
        shown, assess_time = await self._database.read(
            lambda c: read_assessment(
                request.name,
                account_id,
                shard_of(account_id),
                position,
                book=Book(c),
                library=self._shelf.library,
            )
        )
        assessment = messages.write_assessment(shown)
        assessment.name = request.name
        assessment.assess_time.CopyFrom(Timestamp())
        assessment.assess_time.FromDatetime(assess_time)
        return pb.GetAssessmentResponse(assessment=assessment)

    async def WatchAssessments(
        self, request: pb.WatchAssessmentsRequest, context: Any
    ) -> AsyncIterator[pb.WatchAssessmentsResponse]:
        """Packed runs from the cursors on; a class is explained before its first use."""
        sent: set[int] = {0}
        sent_scenes: set[int] = set()
        async for runs in watch(
            self._database,
            read_cursor_messages(request.cursors),
            read=_read_runs,
            signal=self._signal,
            poll_ms=self._poll_ms,
        ):
            yield pb.WatchAssessmentsResponse(
                runs=[messages.write_run(run) for run in runs],
                asset_classes=await self._new_classes(runs, sent),
                scenes=await self._new_scenes(runs, sent_scenes),
            )

    async def _new_classes(self, runs: list[Run], sent: set[int]) -> list[pb.AssetClass]:
        new = _unsent(runs, "asset_class", 4, sent)
        rows = await self._database.read(lambda c: Book(c).read_classes(new)) if new else []
        return [messages.write_class(row) for row in rows]

    async def _new_scenes(
        self, runs: list[Run], sent: set[int]
    ) -> list[pb.WatchAssessmentsResponse.SceneCode]:
        new = _unsent(runs, "scene", 2, sent)
        scenes = await self._database.read(lambda c: Book(c).read_scenes()) if new else {}
        return [
            pb.WatchAssessmentsResponse.SceneCode(code=code, scene=scenes[code].scene)
            for code in new
        ]


def _unsent(runs: list[Run], column: str, width: int, sent: set[int]) -> list[int]:
    """Codes in a column of `runs` that are not in `sent` yet; adds them to it."""
    packed = [run.columns[column] for run in runs]
    used = set(np.unique(unpack(packed, [run.count for run in runs], width)).tolist())
    new = sorted(used - sent)
    sent.update(new)
    return new


def _read_runs(connection: sa.Connection, cursors: Mapping[int, int]) -> list[Run]:
    return Book(connection).read_runs(cursors, RUNS_PER_SHARD)
