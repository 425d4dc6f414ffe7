"""ActivityService: reads, calls, writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import sqlalchemy as sa
from carbonaccount.activity.v1 import activity_service_pb2 as pb
from carbonaccount.activity.v1 import activity_service_pb2_grpc as pb_grpc

from services.activity.domain.batch import Batch, Outcome
from services.activity.domain.catalogue import Catalogue, Source
from services.activity.domain.keys import Keyring
from services.activity.rpc import messages
from services.activity.rpc.lane import LaneStream
from services.activity.rpc.reports import ReportReader
from services.activity.storage.archive import Archive, Run
from services.activity.storage.journal import Journal
from services.activity.usecases.commit_submissions import Receipt, Submission
from services.activity.usecases.find_activity import find_activity
from services.activity.usecases.withdraw_activity import Withdrawal, withdraw_activity
from shared.clock import ClockUs
from shared.feed.watch import Signal, read_cursor_messages, watch
from shared.gather import Gatherer
from shared.ids import account_id_of
from shared.refusal import CallerNotAllowed, ResourceNotFound
from shared.rpc.caller import caller
from shared.rpc.paging import PageTokens, page_size_of
from shared.storage.engine import Database, driver_of

RUNS_PER_SHARD = 8  # read at once for a watcher: about a megabyte when runs are full


class ActivityServicer(pb_grpc.ActivityServiceServicer):
    """Records, shows, withdraws and streams activities."""

    def __init__(
        self,
        *,
        database: Database,
        gatherer: Gatherer[Submission, Receipt],
        catalogue: Catalogue,
        keyring: Keyring,
        subject_secret: bytes,
        page_tokens: PageTokens,
        signal: Signal,
        clock: ClockUs,
        poll_ms: int,
        window: int,
    ) -> None:
        self._database = database
        self._gatherer = gatherer
        self._catalogue = catalogue
        self._keyring = keyring
        self._page_tokens = page_tokens
        self._signal = signal
        self._clock = clock
        self._poll_ms = poll_ms
        self._window = window
        self._readers = {
            name: ReportReader(catalogue, source, keyring, subject_secret)
            for name, source in catalogue.sources.items()
        }

    async def RecordActivity(
        self, request: pb.RecordActivityRequest, context: Any
    ) -> pb.RecordActivityResponse:
        """One activity, durable when this returns."""
        judged = (await self._record(self._read([request.activity]))).judged
        if judged.refusals:
            raise judged.refusals[0]
        parent = self._parent(request.activity)
        name = messages.write_activity_name(parent, judged.keys[0].tobytes())
        repeated = judged.outcomes.tolist() == [Outcome.REPEATED]
        return pb.RecordActivityResponse(activity=name, repeated_event=repeated)

    async def BatchRecordActivities(
        self, request: pb.BatchRecordActivitiesRequest, context: Any
    ) -> pb.BatchRecordActivitiesResponse:
        """Many activities, each judged alone, in one transaction."""
        judged = (await self._record(self._read(request.activities))).judged
        parents = [self._parent(report) for report in request.activities]
        return pb.BatchRecordActivitiesResponse(outcomes=messages.write_outcomes(judged, parents))

    async def IngestActivities(
        self, request_iterator: AsyncIterator[pb.IngestActivitiesRequest], context: Any
    ) -> AsyncIterator[pb.IngestActivitiesResponse]:
        """The fast lane; see rpc.lane."""
        stream = LaneStream(
            source=self._source(),
            read=self._read,
            database=self._database,
            gatherer=self._gatherer,
            window=self._window,
        )
        async for response in stream.serve(request_iterator):
            yield response

    async def GetActivity(
        self, request: pb.GetActivityRequest, context: Any
    ) -> pb.GetActivityResponse:
        """One activity of one account."""
        named = messages.read_activity_name(request.name)
        activity = await self._database.read(lambda c: self._archive(c).read_one(named.key))
        if activity is None or activity.account_id != named.account_id:
            raise ResourceNotFound(request.name)
        return pb.GetActivityResponse(activity=messages.write_activity(activity))

    async def FindActivity(
        self, request: pb.FindActivityRequest, context: Any
    ) -> pb.FindActivityResponse:
        """The activity that a source calls so."""
        source = self._calling_source()
        activity = await self._database.read(
            lambda c: find_activity(
                request.source,
                request.source_event_id,
                caller=source,
                catalogue=self._catalogue,
                keyring=self._keyring,
                archive=self._archive(c),
            )
        )
        shown = messages.write_activity(activity, below_source=source is not None)
        return pb.FindActivityResponse(activity=shown)

    async def ListActivities(
        self, request: pb.ListActivitiesRequest, context: Any
    ) -> pb.ListActivitiesResponse:
        """A page of one account, latest civil day first."""
        account_id = account_id_of(request.parent, "parent")
        size = page_size_of(request.page_size)
        after = self._page_tokens.open(request.page_token, "ListActivities", request.parent)
        page = await self._database.read(
            lambda c: self._archive(c).read_page(account_id, size + 1, after)
        )
        token = ""
        if len(page) > size:
            page = page[:size]
            token = self._page_tokens.seal(page[-1].place, "ListActivities", request.parent)
        return pb.ListActivitiesResponse(
            activities=[messages.write_activity(activity) for activity in page],
            next_page_token=token,
        )

    async def WithdrawActivity(
        self, request: pb.WithdrawActivityRequest, context: Any
    ) -> pb.WithdrawActivityResponse:
        """Takes one activity back."""
        named, source = messages.read_name(request.name), self._calling_source()
        actor = messages.read_actor(caller())
        withdrawal = Withdrawal(named, actor, request.cause, source)
        activity = await self._database.call(
            lambda c: withdraw_activity(
                withdrawal,
                archive=self._archive(c),
                journal=Journal(driver_of(c)),
                catalogue=self._catalogue,
            )
        )
        self._signal.set()
        shown = messages.write_activity(activity, below_source=bool(named.source))
        return pb.WithdrawActivityResponse(activity=shown)

    async def WatchActivities(
        self, request: pb.WatchActivitiesRequest, context: Any
    ) -> AsyncIterator[pb.WatchActivitiesResponse]:
        """Packed runs from the cursors on, for as long as the caller listens."""
        yield pb.WatchActivitiesResponse(scenes=messages.write_scene_codes(self._catalogue))
        async for runs in watch(
            self._database,
            read_cursor_messages(request.cursors),
            read=self._read_runs,
            signal=self._signal,
            poll_ms=self._poll_ms,
        ):
            yield pb.WatchActivitiesResponse(runs=[messages.write_run(run) for run in runs])

    async def _record(self, batch: Batch) -> Receipt:
        return await self._gatherer.submit(Submission(batch), weight=batch.items)

    def _read(self, reports: Any) -> Batch:
        return self._readers[self._source().name].read(reports, self._clock())

    def _read_runs(self, connection: sa.Connection, cursors: Mapping[int, int]) -> list[Run]:
        return self._archive(connection).read_runs(cursors, RUNS_PER_SHARD)

    def _archive(self, connection: sa.Connection) -> Archive:
        return Archive(connection, self._catalogue)

    def _parent(self, report: pb.ActivityReport) -> str:
        """What a recorded activity is named below: what the source may know."""
        return report.account or self._source().name

    def _calling_source(self) -> Source | None:
        """The source that calls; None when somebody else does."""
        return self._source() if caller().kind == "source" else None

    def _source(self) -> Source:
        name = caller().name
        source = self._catalogue.sources.get(name)
        if source is None:
            raise CallerNotAllowed(
                f"{name} is not in the catalogue of sources; ask the operator to admit it",
                metadata={"caller": name, "method": "ActivityService"},
            )
        return source
