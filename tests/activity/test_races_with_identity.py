"""Acts stream in while identity changes its mind: what comes after it is known is not taken."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from carbonaccount.activity.v1 import activity_service_pb2 as pb
from carbonaccount.activity.v1 import activity_service_pb2_grpc as pb_grpc
from carbonaccount.feed.v1 import feed_service_pb2 as feed_pb
from carbonaccount.feed.v1 import feed_service_pb2_grpc as feed_grpc
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as account_grpc
from carbonaccount.identity.v1 import binding_service_pb2 as binding_pb
from carbonaccount.identity.v1 import binding_service_pb2_grpc as binding_grpc
from carbonaccount.identity.v1 import consent_service_pb2 as consent_pb

from services.launch.layout import Layout
from shared.rpc.status import reason_of
from tests.suite import BENCH, BIKE, World, ride, tell

Request = pb.IngestActivitiesRequest
BOUND_S = 2.0  # within it a withdrawal bites, wherever acts come in


def fresh(what: str) -> str:
    return f"{what}-{uuid.uuid4().hex}"


def trip(rider: str, event: str, **more: Any) -> pb.ActivityReport:
    """A bike ride as the operator reports it."""
    return ride("", event, **{"subject": f"{BIKE}/subjects/{rider}", **more})


@dataclass
class Stream:
    """Acts that go through a lane one after another, when each was sent, and what became of it."""

    outcomes: list[tuple[float, str]] = field(default_factory=list)

    def after(self, moment: float) -> set[str]:
        """What became of acts that were sent later."""
        return {outcome for sent, outcome in self.outcomes if sent > moment}

    def recorded(self) -> int:
        return sum(outcome == "RECORDED" for _, outcome in self.outcomes)

    async def run(
        self, world: World, source: str, make: Callable[[], pb.ActivityReport], stop: asyncio.Event
    ) -> None:
        """Sends until told to stop; an append that is not taken is sent again."""
        gate: asyncio.Queue[Request | None] = asyncio.Queue()

        async def requests() -> AsyncIterator[Request]:
            while (request := await gate.get()) is not None:
                yield request

        answers = aiter(world.clients.activities(source).IngestActivities(requests()))
        await gate.put(Request(open=Request.Open(lane=fresh("lane"))))
        offset = (await anext(answers)).opened.next_offset
        while not stop.is_set():
            sent = time.monotonic()
            await gate.put(Request(append=Request.Append(offset=offset, activities=[make()])))
            answer = await anext(answers)
            if not answer.HasField("ack"):
                continue
            offset = answer.ack.next_offset
            word = "RECORDED"
            for refused in answer.ack.refusals:
                word = reason_of(refused.status)
            self.outcomes.append((sent, word))
        await gate.put(None)


async def followed(world: World, token: str) -> None:
    """Until activity is as fresh as the token."""
    stub = feed_grpc.FeedServiceStub(world.clients.operator("activity"))
    await stub.AwaitFreshness(feed_pb.AwaitFreshnessRequest(freshness_token=token))


async def in_mid_stream(
    world: World,
    source: str,
    make: Callable[[], pb.ActivityReport],
    change: Callable[[], Awaitable[float]],
) -> tuple[Stream, float, float]:
    """The stream, when activity had followed the change, and when it was made."""
    stream, stop = Stream(), asyncio.Event()
    sending = asyncio.create_task(stream.run(world, source, make, stop))
    await asyncio.sleep(0.5)
    made = await change()
    known = time.monotonic()
    await asyncio.sleep(max(0.5, made + BOUND_S + 0.3 - time.monotonic()))
    stop.set()
    await sending
    return stream, known, made


async def revoke(world: World, label: str, account: str) -> float:
    """Takes back the consent to collect; when, once activity has followed it."""
    stub = world.clients.consents(label, account)
    listed = await stub.ListConsents(consent_pb.ListConsentsRequest(parent=account))
    (consent,) = [c for c in listed.consents if c.scope == "scopes/travel-collect"]
    answer = await stub.RevokeConsent(
        consent_pb.RevokeConsentRequest(name=consent.name, request_id=str(uuid.uuid4()))
    )
    made = time.monotonic()
    await followed(world, answer.freshness_token)
    return made


async def close(world: World, label: str, account: str) -> float:
    """Closes the account; when, once activity has followed it."""
    channel = world.clients.channel("identity", "customer", "customers/demo", label, account)
    await account_grpc.AccountServiceStub(channel).CloseAccount(
        account_pb.CloseAccountRequest(name=account, request_id=str(uuid.uuid4()))
    )
    made = time.monotonic()
    await world.until_followed("activity", "identity")
    return made


async def unbind(world: World, label: str, account: str) -> float:
    """Ends the binding; when, once activity has followed it."""
    channel = world.clients.channel("identity", "customer", "customers/demo", label, account)
    stub = binding_grpc.BindingServiceStub(channel)
    listed = await stub.ListBindings(binding_pb.ListBindingsRequest(parent=account))
    (binding,) = [b for b in listed.bindings if not b.HasField("end_time")]
    answer = await stub.EndBinding(
        binding_pb.EndBindingRequest(name=binding.name, request_id=str(uuid.uuid4()))
    )
    made = time.monotonic()
    await followed(world, answer.freshness_token)
    return made


Change = Callable[[World, str, str], Awaitable[float]]


@pytest.mark.parametrize(
    ("change", "by_subject", "reason"),
    [
        (revoke, False, "CONSENT_MISSING"),
        (revoke, True, "CONSENT_MISSING"),
        (close, False, "ACCOUNT_NOT_OPEN"),
        (unbind, True, "SUBJECT_NOT_BOUND"),
    ],
)
def test_in_mid_stream_nothing_gets_through_once_the_change_is_followed(
    suite: Layout, change: Change, by_subject: bool, reason: str
) -> None:
    async def story(world: World) -> None:
        label = fresh("rider")
        account = await world.open_account(label, partners=(BIKE,) if by_subject else ())
        source = BIKE if by_subject else BENCH

        def make() -> pb.ActivityReport:
            return trip(label, fresh("e")) if by_subject else ride(account, fresh("e"))

        stream, known, made = await in_mid_stream(
            world, source, make, lambda: change(world, label, account)
        )
        assert stream.recorded() > 5, "it was under way"
        assert stream.after(known) == {reason}
        assert stream.after(made + BOUND_S) == {reason}
        kept = await listed(world, label, account)
        assert kept == stream.recorded(), "what was taken stays, and nothing else is there"

    tell(suite, story)


async def listed(world: World, label: str, account: str) -> int:
    """How many activities the account has."""
    channel = world.clients.channel("activity", "customer", "c", label, account)
    stub, token, count = pb_grpc.ActivityServiceStub(channel), "", 0
    while True:
        page = await stub.ListActivities(
            pb.ListActivitiesRequest(parent=account, page_size=500, page_token=token)
        )
        count, token = count + len(page.activities), page.next_page_token
        if not token:
            return count


def test_a_rider_who_moves_to_another_account_takes_no_old_act_along(suite: Layout) -> None:
    async def story(world: World) -> None:
        rider, other = fresh("rider"), fresh("other")
        first = await world.open_account(rider, partners=(BIKE,))
        second = await world.open_account(other)
        old, new = fresh("old"), fresh("new")
        await world.record(trip(rider, old), BIKE)
        await unbind(world, rider, first)
        outcome = world.record(trip(rider, new), BIKE)
        with pytest.raises(Exception, match="bound to no account"):
            await outcome
        await rebind(world, other, second, rider)
        assert (await world.record(trip(rider, old), BIKE)).repeated_event
        assert not (await world.record(trip(rider, new), BIKE)).repeated_event
        assert await listed(world, rider, first) == 1
        assert await listed(world, other, second) == 1

    tell(suite, story)


async def rebind(world: World, label: str, account: str, rider: str) -> None:
    """Binds the operator's user `rider` to the account of the customer `label`."""
    [link] = await world.people.grants(["scopes/bike-demo-link"])
    customer = world.clients.channel("identity", "customer", "customers/demo", label, account)
    started = await binding_grpc.BindingServiceStub(customer).StartBinding(
        binding_pb.StartBindingRequest(
            parent=account, partner=BIKE, consent=link, request_id=str(uuid.uuid4())
        )
    )
    partner = world.clients.channel("identity", "source", BIKE)
    await binding_grpc.BindingServiceStub(partner).ConfirmBinding(
        binding_pb.ConfirmBindingRequest(
            code=started.code,
            subject=f"{BIKE}/subjects/{rider}",
            request_id=str(uuid.uuid4()),
        )
    )
    await world.until_followed("activity", "identity")
