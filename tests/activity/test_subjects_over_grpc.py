"""What a partner that names riders by subject sees of activity: everything but the account."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import psycopg
import pytest
from carbonaccount.activity.v1 import activity_service_pb2 as pb
from carbonaccount.activity.v1 import activity_service_pb2_grpc as pb_grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.launch.layout import Layout
from shared.rpc.status import reason_of
from tests.suite import BANK, BENCH, BIKE, METRO, World, refusal, ride, tell

TRAVEL = ("scopes/travel-collect",)


def trip(rider: str, event: str, **more: Any) -> pb.ActivityReport:
    """A bike ride as the operator reports it."""
    return ride("", event, **{"subject": f"{BIKE}/subjects/{rider}", **more})


def fresh(what: str) -> str:
    return f"{what}-{uuid.uuid4().hex}"


def told(status: status_pb2.Status) -> str:
    """All that a refusal says, details unpacked."""
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest)
    return status.message + "".join(
        str(kind.FromString(detail.value))
        for detail in status.details
        for kind in kinds
        if detail.Is(kind.DESCRIPTOR)
    )


async def status_of(call: Any) -> status_pb2.Status:
    """The status of a call that is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(caught.value)
    assert status is not None
    return status


def test_a_partner_records_finds_and_takes_back_an_act_without_learning_whose_it_is(
    suite: Layout,
) -> None:
    async def story(world: World) -> None:
        rider, event = fresh("rider"), fresh("event")
        account = await world.open_account(rider, partners=(BIKE,))
        stub = world.clients.activities(BIKE)
        made = await world.record(trip(rider, event), BIKE)
        assert made.activity.startswith(f"{BIKE}/activities/")
        again = await world.record(trip(rider, event), BIKE)
        assert (again.activity, again.repeated_event) == (made.activity, True)
        found = await stub.FindActivity(pb.FindActivityRequest(source=BIKE, source_event_id=event))
        assert (found.activity.name, found.activity.position) == (made.activity, 0)
        taken = await stub.WithdrawActivity(
            pb.WithdrawActivityRequest(name=made.activity, cause="wrong rider")
        )
        assert taken.activity.name == made.activity
        assert taken.activity.state == pb.Activity.STATE_WITHDRAWN
        for answer in (made, again, found, taken):
            assert "accounts/" not in str(answer)
        theirs = pb_grpc.ActivityServiceStub(
            world.clients.channel("activity", "customer", "c", rider, account)
        )
        name = made.activity.replace(BIKE, account)
        own = await theirs.GetActivity(pb.GetActivityRequest(name=name))
        assert (own.activity.name, own.activity.state) == (name, pb.Activity.STATE_WITHDRAWN)
        operator = pb_grpc.ActivityServiceStub(world.clients.operator("activity"))
        seen = await operator.FindActivity(
            pb.FindActivityRequest(source=BIKE, source_event_id=event)
        )
        assert seen.activity == own.activity

    tell(suite, story)


def test_no_refusal_of_a_report_by_subject_names_account_rider_or_event(suite: Layout) -> None:
    async def story(world: World) -> None:
        rider, no_consent = fresh("rider"), fresh("rider")
        account = await world.open_account(rider, partners=(BIKE,))
        await world.open_account(no_consent, ("scopes/finance-collect",), partners=(BIKE,))
        known = fresh("event")
        await world.record(trip(rider, known), BIKE)
        phone, card = "13812345678", "4111111111111111"
        reports = {
            "SUBJECT_NOT_BOUND": [trip(fresh("stranger"), fresh("event"))],
            "CONSENT_MISSING": [trip(no_consent, fresh("event"))],
            "RESOURCE_EXISTS": [trip(rider, known, metres=4000)],
            "FIELD_INVALID": [
                trip(rider, phone),
                trip(phone, fresh("event")),
                trip(rider, f"card {card}"),
                trip(rider, fresh("event"), claim=fresh("claim")),
                trip(rider, fresh("event"), subject=f"{METRO}/subjects/{rider}"),
                ride(account, fresh("event"), subject=f"{BIKE}/subjects/{rider}"),
                ride(account, fresh("event")),
                ride("", fresh("event")),
            ],
        }
        flat = [(reason, report) for reason, group in reports.items() for report in group]
        response = await world.clients.activities(BIKE).BatchRecordActivities(
            pb.BatchRecordActivitiesRequest(activities=[report for _, report in flat])
        )
        for (reason, report), outcome in zip(flat, response.outcomes, strict=True):
            single = await status_of(world.record(report, BIKE))
            assert reason_of(single) == reason_of(outcome.refusal) == reason
            said = told(single) + told(outcome.refusal)
            hidden = (rider, no_consent, phone, card, report.source_event_id, report.claim)
            for value in filter(None, hidden):
                assert value not in said
            assert account not in said

    tell(suite, story)


def test_a_lane_of_a_partner_is_told_no_account_either(suite: Layout) -> None:
    async def story(world: World) -> None:
        rider = fresh("rider")
        await world.open_account(rider, partners=(BIKE,))
        reports = [trip(rider, fresh("event")), trip("stranger", fresh("event"))]
        open_lane = pb.IngestActivitiesRequest.Open(lane=fresh("lane"))
        append = pb.IngestActivitiesRequest.Append(offset=0, activities=[*reports, reports[0]])
        call: Any = world.clients.activities(BIKE).IngestActivities(
            iter(
                [
                    pb.IngestActivitiesRequest(open=open_lane),
                    pb.IngestActivitiesRequest(append=append),
                ]
            )  # type: ignore[arg-type]  # a plain iterator serves too
        )
        opened, answered = [response async for response in call]
        assert opened.opened.next_offset == 0
        assert answered.ack.outcomes == bytes([1, 3, 2])
        (refused,) = answered.ack.refusals
        assert (refused.index, reason_of(refused.status)) == (1, "SUBJECT_NOT_BOUND")
        assert "accounts/" not in told(refused.status)

    tell(suite, story)


def test_a_source_finds_its_own_events_only_and_the_bank_gets_account_names(
    suite: Layout,
) -> None:
    async def story(world: World) -> None:
        label, event = fresh("customer"), fresh("event")
        account = await world.open_account(label)
        made = await world.record(ride(account, event), BENCH)
        assert made.activity.startswith(f"{account}/activities/")
        asked = pb.FindActivityRequest(source=BENCH, source_event_id=event)
        found = await world.clients.activities(BENCH).FindActivity(asked)
        assert found.activity.name == made.activity.replace(account, BENCH)
        other = world.clients.activities(BIKE).FindActivity(asked)
        assert await refusal(other) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
        asked.source_event_id = fresh("event")
        unknown = world.clients.activities(BENCH).FindActivity(asked)
        assert await refusal(unknown) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
        customer = world.clients.channel("activity", "customer", "c", label, account)
        theirs = pb_grpc.ActivityServiceStub(customer).FindActivity(asked)
        assert await refusal(theirs) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")

    tell(suite, story)


def test_a_partner_cannot_try_out_whose_an_act_is(suite: Layout) -> None:
    async def story(world: World) -> None:
        rider = fresh("rider")
        account = await world.open_account(rider, partners=(BIKE,))
        other = await world.open_account(fresh("rider"), partners=(BIKE,))
        made = await world.record(trip(rider, fresh("event")), BIKE)
        stub = world.clients.activities(BIKE)
        answers = []
        for guess in (account, other):
            request = pb.WithdrawActivityRequest(
                name=made.activity.replace(BIKE, guess), cause="guess"
            )
            answers.append(await status_of(stub.WithdrawActivity(request)))
        right, wrong = map(told, answers)
        assert right == wrong
        assert reason_of(answers[0]) == "CALLER_NOT_ALLOWED"
        theirs = pb.WithdrawActivityRequest(name=made.activity, cause="not mine")
        outcome = await refusal(world.clients.activities(BANK).WithdrawActivity(theirs))
        assert outcome == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
        read = world.clients.operator("activity")
        by_source = pb_grpc.ActivityServiceStub(read).GetActivity(
            pb.GetActivityRequest(name=made.activity)
        )
        assert await refusal(by_source) == ("INVALID_ARGUMENT", "FIELD_INVALID")

    tell(suite, story)


def test_a_customer_is_written_down_as_one_and_not_by_name(suite: Layout) -> None:
    async def story(world: World) -> None:
        label = fresh("customer")
        account = await world.open_account(label)
        made = await world.record(ride(account, fresh("event")), BENCH)
        channel = world.clients.channel("activity", "customer", "customers/zhang", label, account)
        stub = pb_grpc.ActivityServiceStub(channel)
        cause = fresh("not me")
        await stub.WithdrawActivity(pb.WithdrawActivityRequest(name=made.activity, cause=cause))
        url = suite.database_url("activity")
        assert url is not None
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            query = "select actor from withdrawal where cause = %s"
            assert connection.execute(query, (cause,)).fetchall() == [("customer",)]

    tell(suite, story)
