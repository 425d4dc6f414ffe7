"""From one tap to a withdrawal in mid-stream: what a customer and a partner live through."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.feed.v1 import feed_service_pb2 as feed_pb
from carbonaccount.feed.v1 import feed_service_pb2_grpc as feed_grpc
from carbonaccount.identity.v1 import account_pb2, binding_service_pb2, session_service_pb2
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as account_grpc
from carbonaccount.identity.v1 import binding_service_pb2_grpc as binding_grpc
from carbonaccount.identity.v1 import consent_service_pb2 as consent_pb
from carbonaccount.identity.v1 import consent_service_pb2_grpc as consent_grpc
from carbonaccount.identity.v1 import session_service_pb2_grpc as session_grpc

from services.identity.upstream.bank_tickets import make_double_ticket
from services.launch.layout import Layout
from shared.clock import now_us
from shared.feed.freshness import freshness_token
from shared.rpc.channel import open_channel
from shared.rpc.status import reason_of
from tests.suite import BENCH, BIKE, World, refusal, ride, tell

TRAVEL, LINK = "scopes/travel-collect", "scopes/bike-demo-link"
Request = activity_pb.IngestActivitiesRequest


def request_id() -> str:
    return str(uuid.uuid4())


class Phone:
    """A customer with the bank's app: signs in with a ticket, calls with its tokens."""

    def __init__(self, world: World, customer_ref: str) -> None:
        self._world = world
        self._customer_ref = customer_ref
        self._token = ""
        self._refresh = ""
        self.account = ""
        listen = world.layout.listen("identity")
        self.channel = open_channel(listen, token=lambda: self._token)
        self.public = open_channel(listen)

    async def sign_in(self) -> None:
        ticket = make_double_ticket(
            self._world.layout.keys, self._customer_ref, now_us() // 10**6, customer_kind="debit"
        )
        request = session_service_pb2.CreateSessionRequest(
            bank_ticket=ticket, request_id=request_id()
        )
        stub = session_grpc.SessionServiceStub(self.public)
        self._take((await stub.CreateSession(request)).session)

    async def refresh(self) -> None:
        request = session_service_pb2.RefreshSessionRequest(
            refresh_token=self._refresh, request_id=request_id()
        )
        stub = session_grpc.SessionServiceStub(self.public)
        self._take((await stub.RefreshSession(request)).session)

    def _take(self, session: Any) -> None:
        self._token, self._refresh = session.access_token, session.refresh_token
        self.account = session.account

    async def open(self, *scopes: str) -> account_pb.OpenAccountResponse:
        request = account_pb.OpenAccountRequest(
            account=account_pb2.Account(display_name="小红"),
            consents=await self._world.people.grants(scopes),
            request_id=request_id(),
        )
        opened = await account_grpc.AccountServiceStub(self.channel).OpenAccount(request)
        await self.refresh()
        return opened

    async def revoke(self, number: int) -> consent_pb.RevokeConsentResponse:
        request = consent_pb.RevokeConsentRequest(
            name=f"{self.account}/consents/{number}", request_id=request_id()
        )
        return await consent_grpc.ConsentServiceStub(self.channel).RevokeConsent(request)

    async def bind(self, subject: str) -> None:
        [link] = await self._world.people.grants([LINK])
        started = await binding_grpc.BindingServiceStub(self.channel).StartBinding(
            binding_service_pb2.StartBindingRequest(
                parent=self.account, partner=BIKE, consent=link, request_id=request_id()
            )
        )
        partner = self._world.clients.bindings("source", BIKE)
        await partner.ConfirmBinding(
            binding_service_pb2.ConfirmBindingRequest(
                code=started.code, subject=f"{BIKE}/subjects/{subject}", request_id=request_id()
            )
        )

    async def close(self) -> None:
        await self.channel.close()
        await self.public.close()


async def until_fresh(world: World, token: str) -> None:
    """Until activity has followed the change of the token."""
    stub = feed_grpc.FeedServiceStub(world.clients.operator("activity"))
    await stub.AwaitFreshness(feed_pb.AwaitFreshnessRequest(freshness_token=token))


def test_a_customer_signs_in_opens_says_yes_and_no_and_takes_it_back(suite: Layout) -> None:
    async def story(world: World) -> None:
        phone = Phone(world, "bank-7001")
        await phone.sign_in()
        assert phone.account == ""
        opened = await phone.open(TRAVEL)
        assert phone.account == opened.account.name
        assert opened.account.customer_kind == account_pb2.CUSTOMER_KIND_DEBIT
        await world.people.until_known()
        await world.record(ride(phone.account, "bites-1"), BENCH)
        [finance] = await world.people.grants(["scopes/finance-collect"])
        consents = consent_grpc.ConsentServiceStub(phone.channel)
        said_no = await consents.RefuseConsent(
            consent_pb.RefuseConsentRequest(
                parent=phone.account, scope=finance.scope, notice_digest=finance.notice_digest,
                request_id=request_id(),
            )
        )  # fmt: skip
        await until_fresh(world, said_no.freshness_token)
        taken_back = await phone.revoke(1)
        await until_fresh(world, taken_back.freshness_token)
        # What was collected stays and counts; nothing more is taken, however old.
        assert await refusal(world.record(ride(phone.account, "bites-2"), BENCH)) == (
            "FAILED_PRECONDITION",
            "CONSENT_MISSING",
        )
        await world.until_posted()
        assert await world.balance_mg(phone.account) == 101_640
        await phone.close()

    tell(suite, story)


def test_a_partner_names_its_rider_and_never_learns_the_account(suite: Layout) -> None:
    async def story(world: World) -> None:
        phone = Phone(world, "bank-7002")
        await phone.sign_in()
        await phone.open(TRAVEL)
        await phone.bind("rider-7002")
        await world.people.until_known()
        report = ride("", "bites-3", subject=f"{BIKE}/subjects/rider-7002")
        made = await world.record(report, BIKE)
        assert made.activity.startswith(f"{BIKE}/activities/")
        assert (await world.record(report, BIKE)).repeated_event
        await world.until_posted()
        assert await world.balance_mg(phone.account) == 101_640
        found = await world.clients.activities(BIKE).FindActivity(
            activity_pb.FindActivityRequest(source=BIKE, source_event_id="bites-3")
        )
        assert phone.account not in str(found)
        # The link withdrawn, the exchange ends; what the subject did before stays.
        listed = await consent_grpc.ConsentServiceStub(phone.channel).ListConsents(
            consent_pb.ListConsentsRequest(parent=phone.account)
        )
        link = next(c for c in listed.consents if c.scope == LINK)
        revoked = await phone.revoke(int(link.name.rpartition("/")[2]))
        await until_fresh(world, revoked.freshness_token)
        later = ride("", "bites-4", subject=f"{BIKE}/subjects/rider-7002")
        assert (await refusal(world.record(later, BIKE)))[1] == "SUBJECT_NOT_BOUND"
        assert await world.balance_mg(phone.account) == 101_640
        await phone.close()

    tell(suite, story)


def test_a_withdrawal_in_mid_stream_lets_nothing_through_after_the_bound(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("mid-stream")
        phone = Phone(world, "mid-stream")
        await phone.sign_in()
        loop, sent = asyncio.get_running_loop(), []
        asked_s = revoked_s = None

        async def requests() -> AsyncIterator[Request]:
            yield Request(open=Request.Open(lane="mid-stream"))
            started = loop.time()
            while loop.time() - started < 4:
                report = ride(account, f"mid-{len(sent)}")
                append = Request.Append(offset=len(sent), activities=[report])
                sent.append(loop.time())
                yield Request(append=append)
                await asyncio.sleep(0.01)

        async def withdraw() -> None:
            nonlocal asked_s, revoked_s
            await asyncio.sleep(1)
            asked_s = loop.time()
            await phone.revoke(1)
            revoked_s = loop.time()

        ending = asyncio.create_task(withdraw())
        outcomes: list[int] = []
        async for answer in world.clients.activities(BENCH).IngestActivities(requests()):
            if answer.HasField("ack"):
                outcomes += answer.ack.outcomes
                refusals = {reason_of(item.status) for item in answer.ack.refusals}
                assert refusals <= {"CONSENT_MISSING"}
        await ending
        assert asked_s is not None
        assert revoked_s is not None
        # What was sent just before may be judged just after.
        before = [o for o, at in zip(outcomes, sent, strict=True) if at < asked_s - 0.5]
        after = [o for o, at in zip(outcomes, sent, strict=True) if at > revoked_s + 2]
        assert set(before) == {1}
        assert after
        assert set(after) == {3}
        await phone.close()

    tell(suite, story)


def test_who_waits_for_what_has_not_come_is_told_to_ask_again(suite: Layout) -> None:
    async def story(world: World) -> None:
        token = world.clients.token("operator", "operators/demo")
        # A channel that does not call again by itself.
        channel = open_channel(world.layout.listen("activity"), token=lambda: token)
        stub = feed_grpc.FeedServiceStub(channel)
        never = freshness_token("identity", 0, 10**9)
        request = feed_pb.AwaitFreshnessRequest(freshness_token=never)
        assert await refusal(stub.AwaitFreshness(request, timeout=2)) == (
            "UNAVAILABLE",
            "RETRY_LATER",
        )
        other = feed_pb.AwaitFreshnessRequest(freshness_token=freshness_token("settlement", 0, 1))
        assert (await refusal(stub.AwaitFreshness(other)))[1] == "FIELD_INVALID"
        await channel.close()

    tell(suite, story)


def test_a_closed_account_takes_nothing_that_is_on_its_way(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("closing")
        stub = account_grpc.AccountServiceStub(
            world.clients.channel("identity", "customer", "customers/demo", "closing", account)
        )
        recorded = 0

        async def send(number: int) -> str:
            try:
                await world.record(ride(account, f"closing-{number}"), BENCH)
            except grpc.aio.AioRpcError as error:
                return reason_of(error)
            return "recorded"

        for number in range(20):
            recorded += await send(number) == "recorded"
        await stub.CloseAccount(
            account_pb.CloseAccountRequest(name=account, request_id=request_id())
        )
        await world.people.until_known()
        assert {await send(number) for number in range(20, 30)} == {"ACCOUNT_NOT_OPEN"}
        # A retry of what was recorded is answered, so that no partner reports it as lost.
        assert await send(0) == "recorded"
        await world.until_posted()
        assert await world.balance_mg(account) == recorded * 101_640

    tell(suite, story)
