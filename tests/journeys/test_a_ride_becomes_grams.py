"""Black box over gRPC: what a customer, a partner and an auditor see of one ride."""

from __future__ import annotations

import asyncio
import hashlib
import struct

import grpc
from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.calculation.v1 import assessment_service_pb2 as assessment_pb
from carbonaccount.calculation.v1 import assessment_service_pb2_grpc as assessment_grpc
from carbonaccount.settlement.v1 import ledger_service_pb2 as ledger_pb
from carbonaccount.settlement.v1 import ledger_service_pb2_grpc as ledger_grpc
from carbonaccount.type.v1.cursor_pb2 import ShardCursor
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from services.launch.layout import Layout
from shared.ids import account_id_of, shard_of
from tests.suite import BANK, BENCH, METRO, World, refusal, ride, tell

PUBLISHED_3_KM_MG = 101_640  # HELLO-2022: 33.88 g per person-km, 3 km


def test_live_result_estimate_and_published_case_agree_to_the_milligram(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("agree")
        await world.record(ride(account, "agree-1", 3000), BENCH)
        await world.until_posted()
        estimate = await world.clients.assessments().EstimateReduction(
            assessment_pb.EstimateReductionRequest(
                scene="scenes/shared-bike-ride",
                measures={"distance_metre": 3000},
                region_code="440300",
            )
        )
        assert await world.balance_mg(account) == PUBLISHED_3_KM_MG
        assert estimate.assessment.reduction_mg == PUBLISHED_3_KM_MG

    tell(suite, story)


def test_the_working_names_factor_source_and_status(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("working")
        await world.record(ride(account, "working-1", 1234), BENCH)
        await world.until_posted()
        channel = world.clients.channel("activity", "customer", "c", "working", account)
        from carbonaccount.activity.v1 import activity_service_pb2_grpc as activity_grpc

        listed = await activity_grpc.ActivityServiceStub(channel).ListActivities(
            activity_pb.ListActivitiesRequest(parent=account)
        )
        position = listed.activities[0].position
        mine = world.clients.channel("calculation", "customer", "c", "working", account)
        shown = await assessment_grpc.AssessmentServiceStub(mine).GetAssessment(
            assessment_pb.GetAssessmentRequest(name=f"{account}/assessments/{position}")
        )
        assert shown.assessment.reduction_mg == 1234 * 3388 // 100
        factor = next(step for step in shown.assessment.steps if step.status)
        assert (factor.status, factor.result) == ("operator", "33.88")
        assert factor.source.startswith("mm.chinapower.com.cn")
        assert all(step.label_zh and step.label_en for step in shown.assessment.steps)

    tell(suite, story)


def test_a_repeated_report_earns_once_and_names_the_first_activity(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("repeat")
        first = await world.record(ride(account, "repeat-1"), BENCH)
        again = await world.record(ride(account, "repeat-1"), BENCH)
        await world.until_posted()
        assert (first.repeated_event, again.repeated_event) == (False, True)
        assert first.activity == again.activity
        assert await world.balance_mg(account) == PUBLISHED_3_KM_MG

    tell(suite, story)


def test_the_same_act_from_two_sources_streams_at_once_counts_once(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("race")
        answers = await asyncio.gather(
            *(world.record(ride(account, "race-1"), BENCH) for _ in range(40))
        )
        await world.until_posted()
        assert sum(not answer.repeated_event for answer in answers) == 1
        assert await world.balance_mg(account) == PUBLISHED_3_KM_MG

    tell(suite, story)


def test_one_event_reported_for_two_accounts_at_once_counts_for_one(suite: Layout) -> None:
    async def story(world: World) -> None:
        accounts = [await world.open_account(f"two-{n}") for n in range(2)]
        answers = await asyncio.gather(
            *(world.record(ride(accounts[n % 2], "two-1"), BENCH) for n in range(40)),
            return_exceptions=True,
        )
        await world.until_posted()
        refused = [answer for answer in answers if isinstance(answer, grpc.RpcError)]
        assert len(refused) == 20
        balances = [await world.balance_mg(account) for account in accounts]
        assert sorted(balances) == [0, PUBLISHED_3_KM_MG]

    tell(suite, story)


def test_a_withdrawn_ride_is_taken_back_and_the_statement_tells_both(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("withdraw")
        kept = await world.record(ride(account, "withdraw-1", 1000), BENCH)
        gone = await world.record(ride(account, "withdraw-2", 3000), BENCH)
        await world.until_posted()
        request = activity_pb.WithdrawActivityRequest(name=gone.activity, cause="wrong rider")
        answer = await world.clients.activities(BENCH).WithdrawActivity(request)
        assert answer.activity.state == activity_pb.Activity.STATE_WITHDRAWN
        again = await world.clients.activities(BENCH).WithdrawActivity(request)
        assert again.activity.state == activity_pb.Activity.STATE_WITHDRAWN
        await world.until_posted()
        assert await world.balance_mg(account) == 33_880
        entries = await world.clients.ledger().ListEntries(
            ledger_pb.ListEntriesRequest(parent=account)
        )
        assert sum(entry.delta for entry in entries.entries) == 33_880
        assert ledger_pb.KIND_REVERSE in {entry.transfer.kind for entry in entries.entries}
        assert kept.activity != gone.activity

    tell(suite, story)


def test_another_source_may_not_withdraw_what_it_did_not_report(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("not-mine")
        made = await world.record(ride(account, "not-mine-1"), BENCH)
        request = activity_pb.WithdrawActivityRequest(name=made.activity, cause="mistake")
        outcome = await refusal(world.clients.activities(METRO).WithdrawActivity(request))
        assert outcome == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")

    tell(suite, story)


def test_spent_grams_of_a_withdrawn_ride_are_forgiven_and_shown(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("forgiven")
        made = await world.record(ride(account, "forgiven-1", 3000), BENCH)
        await world.until_posted()
        shard = shard_of(account_id_of(account))
        post = ledger_pb.PostTransfersRequest.Post(
            cause=f"spend-{account}", from_pocket=f"{account}/available",
            to_pocket=f"shards/{shard}/pool", asset="reduction", amount=100_000,
        )  # fmt: skip
        stub = ledger_grpc.LedgerServiceStub(world.clients.sibling("settlement"))
        posted = await stub.PostTransfers(ledger_pb.PostTransfersRequest(transfers=[post]))
        assert posted.outcomes[0].transfer
        await world.clients.activities(BENCH).WithdrawActivity(
            activity_pb.WithdrawActivityRequest(name=made.activity, cause="wrong rider")
        )
        await world.until_posted()
        balance = await world.clients.ledger().GetBalance(
            ledger_pb.GetBalanceRequest(name=f"{account}/balance")
        )
        assert balance.balance.available_mg == 0
        assert balance.balance.forgiven_mg == 100_000

    tell(suite, story)


def test_one_bill_is_credited_once_until_its_first_report_is_withdrawn(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("bill", ("scopes/finance-collect",))

        def bill(event: str) -> activity_pb.ActivityReport:
            more = {"scene": "scenes/utility-payment", "measures": {"count": 1}}
            return ride(account, event, claim="bill-7", **more)

        first = await world.record(bill("bill-a"), BANK)
        second = await refusal(world.record(bill("bill-b"), BANK))
        assert second == ("FAILED_PRECONDITION", "ACT_ALREADY_CLAIMED")
        await world.clients.activities(BANK).WithdrawActivity(
            activity_pb.WithdrawActivityRequest(name=first.activity, cause="wrong bill")
        )
        await world.record(bill("bill-b"), BANK)
        await world.until_posted()
        assert await world.balance_mg(account) == 89_000

    tell(suite, story)


def test_a_customer_watches_the_own_transfers_and_can_recompute_the_leaf_digest(
    suite: Layout,
) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("watch")
        shard = shard_of(account_id_of(account))
        await world.record(ride(account, "watch-1"), BENCH)
        await world.until_posted()
        channel = world.clients.channel("settlement", "customer", "c", "watch", account)
        call = ledger_grpc.LedgerServiceStub(channel).WatchTransfers(
            ledger_pb.WatchTransfersRequest(cursors=[ShardCursor(shard=shard)], account=account)
        )
        async for response in call:
            if response.transfers:
                break
        call.cancel()
        transfer = response.transfers[0]
        assert transfer.to_pocket == f"{account}/available"
        _, _, assessment = transfer.cause.removeprefix("runs/").partition("-")
        assert assessment
        leaves = await _leaves(world, shard, account)
        assert transfer.leaf_digest == hashlib.sha256(leaves).digest()

    tell(suite, story)


async def _leaves(world: World, shard: int, account: str) -> bytes:
    """The leaves of an account with one ride, from the feed of assessments."""
    stub = assessment_grpc.AssessmentServiceStub(world.clients.sibling("calculation"))
    call = stub.WatchAssessments(
        assessment_pb.WatchAssessmentsRequest(cursors=[ShardCursor(shard=shard)])
    )
    wanted = account_id_of(account)
    async for response in call:
        for run in response.runs:
            for place in range(run.count):
                at = slice(place * 8, place * 8 + 8)
                if int.from_bytes(run.account_id[at], signed=True) == wanted:
                    call.cancel()
                    position = struct.pack(">q", run.position + place)
                    return position + run.activity_position[at] + run.delta[at]
    raise AssertionError("the ride is not in the feed")


def test_reflection_lists_every_service(suite: Layout) -> None:
    names = set()
    for service in ("identity", "activity", "calculation", "settlement"):
        with grpc.insecure_channel(suite.listen(service)) as channel:
            names |= set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert {
        "carbonaccount.identity.v1.AccountService",
        "carbonaccount.activity.v1.ActivityService",
        "carbonaccount.calculation.v1.AssessmentService",
        "carbonaccount.settlement.v1.LedgerService",
    } <= names
