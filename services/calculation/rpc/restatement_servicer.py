"""RestatementService: begins restatements, says how far they are, and tells accounts why."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from carbonaccount.calculation.v1 import restatement_service_pb2 as pb
from carbonaccount.calculation.v1 import restatement_service_pb2_grpc as pb_grpc

from services.calculation.domain.notices import notice_of
from services.calculation.rpc.library_messages import read_number, read_reason
from services.calculation.rpc.messages import read_day, write_day
from services.calculation.storage.restatements import AccountChange, Progress, Restatements
from services.calculation.usecases.assess_events import days_of_month, month_of
from services.calculation.usecases.publish_library import RestatementOrder
from shared.clock import ClockUs
from shared.ids import account_id_of, civil_day, shard_of
from shared.refusal import FieldInvalid, ResourceNotFound
from shared.rpc.caller import caller
from shared.rpc.paging import PageTokens, page_size_of
from shared.rpc.request_id import read_request_id
from shared.storage.engine import Database

MONTHS_MAX = 500


class RestatementServicer(pb_grpc.RestatementServiceServicer):
    """Restatements of the recorded months."""

    def __init__(self, *, database: Database, clock: ClockUs, page_tokens: PageTokens) -> None:
        self._database = database
        self._clock = clock
        self._page_tokens = page_tokens

    async def RestateActivities(
        self, request: pb.RestateActivitiesRequest, context: Any
    ) -> pb.RestateActivitiesResponse:
        """Begins one; the workers that hold the shards do it."""
        last = month_of(civil_day(self._clock()))
        first = None
        if request.HasField("first_date"):
            first = month_of(read_day(request.first_date, "first_date"))
            if first > last:
                raise FieldInvalid("first_date", "first_date lies ahead; give a day up to today")
        reason = read_reason(request.reason_zh, request.reason_en)
        if not reason:
            raise FieldInvalid(reason.missing, f"{reason.missing} is blank; customers will read it")
        order = RestatementOrder(
            first, last, caller().name, reason, read_request_id(request.request_id)
        )

        def begin(connection: sa.Connection) -> Progress:
            restatements = Restatements(connection)
            return restatements.page(1, only=restatements.begin(order))[0]

        progress = await self._database.call(begin)
        return pb.RestateActivitiesResponse(restatement=_restatement(progress))

    async def GetRestatement(
        self, request: pb.GetRestatementRequest, context: Any
    ) -> pb.GetRestatementResponse:
        """How far one is."""
        number = read_number(request.name, "restatements")
        found = await self._database.read(lambda c: Restatements(c).page(1, only=number))
        if not found:
            raise ResourceNotFound(request.name, "ListRestatements lists what there is")
        return pb.GetRestatementResponse(restatement=_restatement(found[0]))

    async def ListRestatements(
        self, request: pb.ListRestatementsRequest, context: Any
    ) -> pb.ListRestatementsResponse:
        """Restatements, the newest first."""
        size = page_size_of(request.page_size)
        last = self._page_tokens.open(request.page_token, "ListRestatements")
        before = last[0] if last else None
        rows = await self._database.read(lambda c: Restatements(c).page(size + 1, before))
        token = ""
        if len(rows) > size:
            token = self._page_tokens.seal((rows[size - 1].restatement,), "ListRestatements")
        return pb.ListRestatementsResponse(
            restatements=[_restatement(row) for row in rows[:size]], next_page_token=token
        )

    async def ListRestatedMonths(
        self, request: pb.ListRestatedMonthsRequest, context: Any
    ) -> pb.ListRestatedMonthsResponse:
        """What restatements changed for one account, and why."""
        account_id = account_id_of(request.parent, "parent")
        rows = await self._database.read(
            lambda c: Restatements(c).of_account(shard_of(account_id), account_id)
        )
        return pb.ListRestatedMonthsResponse(months=[_month(row) for row in rows[:MONTHS_MAX]])


def _restatement(progress: Progress) -> pb.Restatement:
    message = pb.Restatement(
        name=f"restatements/{progress.restatement}",
        done=progress.done,
        first_date=write_day(days_of_month(progress.first_month)[0]),
        last_date=write_day(days_of_month(progress.last_month)[1]),
        requester=progress.requester,
        reason_zh=progress.reason_zh,
        reason_en=progress.reason_en,
        shards_done=progress.shards_done,
        acts=progress.acts,
        changed=progress.changed,
        gained=progress.gained,
        lost=progress.lost,
    )
    message.create_time.FromDatetime(progress.create_time)
    message.update_time.FromDatetime(progress.update_time)
    return message


def _month(row: AccountChange) -> pb.RestatedMonth:
    zh, en = notice_of(row.month, row.asset, row.delta, row.acts, row.reason_zh, row.reason_en)
    message = pb.RestatedMonth(
        restatement=f"restatements/{row.restatement}",
        month=write_day(days_of_month(row.month)[0]),
        asset=row.asset,
        acts=row.acts,
        delta=row.delta,
        sentence_zh=zh,
        sentence_en=en,
    )
    message.create_time.FromDatetime(row.create_time)
    return message
