"""Acts that sources report, what staff does and reads, and the feeds that siblings follow."""

from __future__ import annotations

import asyncio
import io
import time
import zipfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.activity.v1 import activity_service_pb2_grpc as activity_grpc
from carbonaccount.calculation.v1 import assessment_service_pb2 as assessment_pb
from carbonaccount.calculation.v1 import assessment_service_pb2_grpc as assessment_grpc
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as account_grpc
from carbonaccount.identity.v1 import privacy_service_pb2 as privacy_pb
from carbonaccount.settlement.v1 import ledger_service_pb2 as ledger_pb
from carbonaccount.settlement.v1 import ledger_service_pb2_grpc as ledger_grpc
from carbonaccount.type.v1.cursor_pb2 import ShardCursor

from tests.journeys.planted_calls import Caller, Cast
from tests.journeys.planted_fields import READER
from tests.journeys.planted_people import Person, request_id
from tests.journeys.planted_values import order_number, word
from tests.suite import BANK, BENCH, BIKE, METRO, refusal, ride

Request = activity_pb.IngestActivitiesRequest
_FEED_S = 1.5


def source_of(cast: Cast, name: str) -> Any:
    """Activities, as a source."""
    return activity_grpc.ActivityServiceStub(cast.staff("activity", "source", name))


async def record(cast: Cast, source: str, report: Any) -> Any:
    asked = activity_pb.RecordActivityRequest(activity=report)
    return await source_of(cast, source).RecordActivity(asked)


async def act(cast: Cast, person: Person) -> None:
    """Acts by subject, by account and with claims, one at a time, many, and through a lane."""
    metro = {"scene": "scenes/metro-ride"}
    paid = {"scene": "scenes/utility-payment", "measures": {"count": 1}}
    order = order_number()
    made = await record(cast, BIKE, ride("", order, subject=person.subjects[BIKE]))
    found = await source_of(cast, BIKE).FindActivity(
        activity_pb.FindActivityRequest(source=BIKE, source_event_id=order)
    )
    assert found.activity.name == made.activity  # by the digest of what the source calls it
    bill = order_number()
    await record(cast, BANK, ride(person.account, "", claim=bill, **paid))
    again = ride(person.account, "", claim=bill, **paid)
    assert (await refusal(record(cast, BANK, again)))[1] == "ACT_ALREADY_CLAIMED"
    await source_of(cast, METRO).BatchRecordActivities(
        activity_pb.BatchRecordActivitiesRequest(
            activities=[
                ride("", order_number(), subject=person.subjects[METRO], **metro),
                ride("", word(), subject=f"{METRO}/subjects/{word()}", **metro),
            ]
        )
    )
    await through_a_lane(cast, person)
    await withdraw(cast, person)


async def through_a_lane(cast: Cast, person: Person) -> None:
    async def requests() -> AsyncIterator[Any]:
        yield Request(open=Request.Open(lane=f"lane {word()}"))
        acts = [ride(person.account, order_number(), 1000 + n) for n in range(3)]
        nobody = ride("accounts/0000000000001", word())
        yield Request(append=Request.Append(offset=0, activities=[*acts, nobody]))

    outcomes = b""
    async for answer in source_of(cast, BENCH).IngestActivities(requests()):
        outcomes += answer.ack.outcomes
    assert outcomes == bytes([1, 1, 1, 3])


async def withdraw(cast: Cast, person: Person) -> None:
    """One act is taken back by its source, and another by the holder."""
    for caller in (source_of(cast, BENCH), holder_of(cast, person)):
        report = ride(person.account, "", 2500)
        made = await record(cast, BENCH, report)
        await caller.WithdrawActivity(
            activity_pb.WithdrawActivityRequest(name=made.activity, cause=f"told by {word()}")
        )


def holder_of(cast: Cast, person: Person) -> Any:
    """Activities, as their holder."""
    own = cast.channel("activity", Caller("customer", person.who), person.token)
    return activity_grpc.ActivityServiceStub(own)


async def look_up(cast: Cast, person: Person) -> None:
    """Staff and programs read the account, each with a purpose."""
    for kind in ("operator", "service", "auditor"):
        name = f"{kind}s/{cast.evidence.planted.note(word(), READER, kind, taken=True)}"
        accounts = account_grpc.AccountServiceStub(cast.staff("identity", kind, name))
        shown = await accounts.GetAccount(
            account_pb.GetAccountRequest(name=person.account, purpose=f"reads {word()}")
        )
        assert shown.account.display_name
        if kind != "auditor":
            asked = account_pb.LookUpAccountRequest(
                customer_ref=person.customer_ref, purpose=f"looks up {word()}"
            )
            assert (await accounts.LookUpAccount(asked)).account.name == person.account
            asked = account_pb.LookUpAccountRequest(purpose=f"looks in vain {word()}")
            assert (await refusal(accounts.LookUpAccount(asked)))[1] == "RESOURCE_NOT_FOUND"
    await person.privacy.ListAccessLog(privacy_pb.ListAccessLogRequest(parent=person.account))


async def suspend(cast: Cast, person: Person) -> None:
    """Staff suspends and reinstates, and everybody reads why."""
    operator = cast.staff("identity", "operator", "operators/planted")
    accounts = account_grpc.AccountServiceStub(operator)
    named = {"name": person.account, "request_id": request_id()}
    await accounts.SuspendAccount(
        account_pb.SuspendAccountRequest(**named, cause=f"lost phone {word()}")
    )
    named["request_id"] = request_id()
    await accounts.ReinstateAccount(
        account_pb.ReinstateAccountRequest(**named, cause=f"found phone {word()}")
    )
    for stub in (accounts, person.accounts):
        await stub.ListAccountEvents(account_pb.ListAccountEventsRequest(parent=person.account))


async def until_done(person: Person, name: str) -> None:
    """Until an operation of the person's account is done."""
    for _ in range(600):
        found = await person.privacy.GetOperation(privacy_pb.GetOperationRequest(name=name))
        if found.operation.state == privacy_pb.Operation.STATE_DONE:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{name} is not done after 30 s")


async def copy(person: Person) -> bytes:
    """The files of the archive of everything that is held about the person."""
    asked = privacy_pb.ExportAccountDataRequest(name=person.account, request_id=request_id())
    name = (await person.privacy.ExportAccountData(asked)).operation.name
    await until_done(person, name)
    pieces = person.privacy.DownloadArchive(privacy_pb.DownloadArchiveRequest(name=name))
    archive = b"".join([piece.content async for piece in pieces])
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        return b"\n".join(packed.read(member) for member in packed.namelist())


async def end(person: Person, account: str = "") -> None:
    """Closes and erases the own account, or a child's, in words of the person's own."""
    name = account or person.account
    asked = account_pb.CloseAccountRequest(
        name=name, request_id=request_id(), cause=f"leaves {word()}"
    )
    await person.accounts.CloseAccount(asked)
    erased = await person.privacy.EraseAccountData(
        privacy_pb.EraseAccountDataRequest(
            name=name, request_id=request_id(), cause=f"forget {word()}"
        )
    )
    await until_done(person, erased.operation.name)


async def follow(cast: Cast) -> None:
    """Every feed from its beginning, as a sibling gets it."""
    cursors = [ShardCursor(shard=shard) for shard in range(64)]

    def sibling(service: str) -> Any:
        return cast.staff(service, "service", "services/planted")

    accounts = account_grpc.AccountServiceStub(sibling("identity"))
    activities = activity_grpc.ActivityServiceStub(sibling("activity"))
    assessments = assessment_grpc.AssessmentServiceStub(sibling("calculation"))
    ledger = ledger_grpc.LedgerServiceStub(sibling("settlement"))
    feeds = (
        (accounts.WatchAccounts, account_pb.WatchAccountsRequest),
        (activities.WatchActivities, activity_pb.WatchActivitiesRequest),
        (assessments.WatchAssessments, assessment_pb.WatchAssessmentsRequest),
        (ledger.WatchTransfers, ledger_pb.WatchTransfersRequest),
    )
    # A channel that met a killed service comes back to it after a pause of its own.
    counts = await asyncio.gather(
        *(_heard(watch(asked(cursors=cursors), wait_for_ready=True)) for watch, asked in feeds)
    )
    assert all(counts), counts


async def _heard(stream: AsyncIterator[Any]) -> int:
    """How many messages came within the time."""
    count, until = 0, time.monotonic() + _FEED_S
    try:
        async with asyncio.timeout(_FEED_S), aclosing(stream):  # type: ignore[type-var]
            async for _ in stream:
                count += 1
                if time.monotonic() > until:
                    break
    except TimeoutError:
        pass
    return count
