"""Bad input over gRPC: each refused by its documented code and Reason, never INTERNAL."""

from __future__ import annotations

import time
import uuid
from typing import Any

import grpc
import grpc.aio
import pytest
from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.activity.v1 import activity_service_pb2_grpc as activity_grpc
from carbonaccount.calculation.v1 import assessment_service_pb2 as assessment_pb
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as account_grpc
from carbonaccount.identity.v1 import consent_service_pb2 as consent_pb
from carbonaccount.settlement.v1 import ledger_service_pb2 as ledger_pb
from carbonaccount.settlement.v1 import ledger_service_pb2_grpc as ledger_grpc
from google.protobuf.timestamp_pb2 import Timestamp

from services.launch.layout import Layout
from shared.rpc.channel import open_channel
from shared.rpc.status import reason_of
from shared.rpc.tokens import load_or_make_key, make_token
from tests.suite import BANK, BENCH, MAY_S, METRO, World, refusal, ride, tell

INVALID = ("INVALID_ARGUMENT", "FIELD_INVALID")
BAD_REPORTS: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "an unknown scene": ({"scene": "scenes/teleport"}, INVALID),
    "a scene of another source": (
        {"scene": "scenes/e-statement"},
        ("FAILED_PRECONDITION", "SCENE_NOT_GRANTED"),
    ),
    "a negative distance": ({"measures": {"distance_metre": -1}}, INVALID),
    "one metre above the range": ({"measures": {"distance_metre": 100_001}}, INVALID),
    "the largest number there is": ({"measures": {"distance_metre": 2**63 - 1}}, INVALID),
    "no measure at all": ({"measures": {}}, INVALID),
    "a measure nobody knows": ({"measures": {"distance_metre": 1, "joy": 1}}, INVALID),
    "a time in the future": ({"occur_time": Timestamp(seconds=int(time.time()) + 3600)}, INVALID),
    "a time before sources existed": ({"occur_time": Timestamp(seconds=-5_000_000_000)}, INVALID),
    "a time beyond the calendar": ({"occur_time": Timestamp(seconds=2**60)}, INVALID),
    "no event id": ({"source_event_id": ""}, INVALID),
    "65 characters of event id": ({"source_event_id": "e" * 65}, INVALID),
    "an event id with a NUL": ({"source_event_id": "a\0b"}, INVALID),
    "five megabytes of event id": ({"source_event_id": "e" * 5_000_000}, INVALID),
    "a region of five digits": ({"region_code": "44030"}, INVALID),
    "a region of letters": ({"region_code": "４４０３００"}, INVALID),
    "no evidence grade": ({"evidence_grade": 0}, INVALID),
    "an evidence grade nobody knows": ({"evidence_grade": 9}, INVALID),
    "a claim where none is taken": ({"claim": "bill"}, INVALID),
    "an account that is no name": ({"account": "accounts/me"}, INVALID),
    "an account that nobody opened": (
        {"account": "accounts/0000000000001"},
        ("NOT_FOUND", "RESOURCE_NOT_FOUND"),
    ),
    "a day before the consent covers": (
        {"occur_time": Timestamp(seconds=1_774_972_799)},
        ("FAILED_PRECONDITION", "CONSENT_MISSING"),
    ),
}


@pytest.mark.parametrize("what", BAD_REPORTS)
def test_a_report_is_refused_for_its_own_reason(suite: Layout, what: str) -> None:
    more, expected = BAD_REPORTS[what]

    async def story(world: World) -> None:
        account = await world.open_account("bad-reports")
        event = str(more.get("source_event_id", f"bad-{uuid.uuid4().hex}"))
        rest = {n: v for n, v in more.items() if n not in ("account", "source_event_id")}
        report = ride(str(more.get("account", account)), event, **rest)
        assert await refusal(world.record(report, BENCH)) == expected

    tell(suite, story)


def test_the_first_covered_moment_is_taken(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("border")
        first = Timestamp(seconds=1_774_972_800)  # 2026-04-01 00:00 in UTC+8
        answer = await world.record(ride(account, "border-1", occur_time=first), BENCH)
        assert answer.activity

    tell(suite, story)


def test_bad_items_of_a_batch_spoil_nothing_else(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("batch")
        reports = [ride(account, f"batch-{n}") for n in range(4)]
        reports[1].measures["distance_metre"] = -5
        reports[2].source_event_id = "batch-0"
        reports[3].source_event_id, reports[3].region_code = "batch-0", "310000"
        response = await world.clients.activities(BENCH).BatchRecordActivities(
            activity_pb.BatchRecordActivitiesRequest(activities=reports)
        )
        first, bad, repeated, conflict = response.outcomes
        assert first.activity == repeated.activity != ""
        assert (first.repeated_event, repeated.repeated_event) == (False, True)
        assert reason_of(bad.refusal) == "FIELD_INVALID"
        assert reason_of(conflict.refusal) == "RESOURCE_EXISTS"
        await world.until_posted()
        assert await world.balance_mg(account) == 101_640

    tell(suite, story)


def test_consent_bites_in_both_directions(suite: Layout) -> None:
    async def story(world: World) -> None:
        none = await world.open_account("no-consent", ())
        missing = await refusal(world.record(ride(none, "consent-0"), BENCH))
        assert missing == ("FAILED_PRECONDITION", "CONSENT_MISSING")

        account = await world.open_account("revoker")
        await world.record(ride(account, "consent-1"), BENCH)
        stub = world.clients.consents("revoker", account)
        listed = await stub.ListConsents(consent_pb.ListConsentsRequest(parent=account))
        await stub.RevokeConsent(
            consent_pb.RevokeConsentRequest(
                name=listed.consents[0].name, request_id=str(uuid.uuid4())
            )
        )
        await world.until_followed("activity", "identity")
        after = await refusal(world.record(ride(account, "consent-2"), BENCH))
        assert after == ("FAILED_PRECONDITION", "CONSENT_MISSING")
        # What was recorded before is a fact: its repeat is answered, and it stays credited.
        assert (await world.record(ride(account, "consent-1"), BENCH)).repeated_event
        await world.until_posted()
        assert await world.balance_mg(account) == 101_640

    tell(suite, story)


def test_a_closed_account_takes_nothing_more(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("closer")
        channel = world.clients.channel("identity", "customer", "c", "closer", account)
        await account_grpc.AccountServiceStub(channel).CloseAccount(
            account_pb.CloseAccountRequest(name=account, request_id=str(uuid.uuid4()))
        )
        await world.until_followed("activity", "identity")
        outcome = await refusal(world.record(ride(account, "closed-1"), BENCH))
        assert outcome == ("FAILED_PRECONDITION", "ACCOUNT_NOT_OPEN")

    tell(suite, story)


def test_callers_reach_only_what_the_contract_and_their_token_say(suite: Layout) -> None:
    async def story(world: World) -> None:
        mine = await world.open_account("caller-a")
        other = await world.open_account("caller-b")
        channel = world.clients.channel("settlement", "customer", "c", "caller-a", mine)
        ledger = ledger_grpc.LedgerServiceStub(channel)
        await ledger.GetBalance(ledger_pb.GetBalanceRequest(name=f"{mine}/balance"))
        denied = ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
        foreign = ledger.GetBalance(ledger_pb.GetBalanceRequest(name=f"{other}/balance"))
        assert await refusal(foreign) == denied
        longer = ledger.GetBalance(ledger_pb.GetBalanceRequest(name=f"{mine}x/balance"))
        assert await refusal(longer) == denied
        posting = ledger.PostTransfers(
            ledger_pb.PostTransfersRequest(transfers=[ledger_pb.PostTransfersRequest.Post()])
        )
        assert await refusal(posting) == denied

    tell(suite, story)


@pytest.mark.parametrize(
    "token",
    ["", "nonsense", "expired", "of another key"],
)
def test_a_token_that_proves_nothing_is_unauthenticated(suite: Layout, token: str) -> None:
    async def story(world: World) -> None:
        from joserfc.jwk import ECKey

        made = token
        if token == "expired":
            key = load_or_make_key(suite.keys)
            made = make_token(key, "source", BENCH, lifetime_s=-10)
        elif token == "of another key":
            made = make_token(ECKey.generate_key("P-256"), "source", BENCH)
        channel = open_channel(suite.listen("activity"), token=lambda: made)
        call = activity_grpc.ActivityServiceStub(channel).RecordActivity(
            activity_pb.RecordActivityRequest(activity=ride("accounts/0000000000001", "x"))
        )
        assert await refusal(call) == ("UNAUTHENTICATED", "TOKEN_INVALID")
        await channel.close()

    tell(suite, story)


@pytest.mark.parametrize(
    ("service", "method"),
    [
        ("activity", "/carbonaccount.activity.v1.ActivityService/RecordActivity"),
        ("activity", "/carbonaccount.activity.v1.ActivityService/GetActivity"),
        ("identity", "/carbonaccount.identity.v1.AccountService/OpenAccount"),
        ("calculation", "/carbonaccount.calculation.v1.AssessmentService/EstimateReduction"),
        ("settlement", "/carbonaccount.settlement.v1.LedgerService/PostTransfers"),
    ],
)
def test_bytes_that_are_no_message_are_invalid(suite: Layout, service: str, method: str) -> None:
    kinds = {"activity": ("source", BENCH), "identity": ("customer", "c")}
    kind, name = kinds.get(service, ("service", "services/x"))
    if method.endswith("GetActivity"):
        kind, name = "operator", "operators/x"
    token = make_token(load_or_make_key(suite.keys), kind, name, customer_ref="z")
    with grpc.insecure_channel(suite.listen(service)) as channel:
        call = channel.unary_unary(method)
        for data in (b"\xff\xff\xff", b"\x0a\x7f", b"\x00" * 9):
            with pytest.raises(grpc.RpcError) as caught:
                call(data, metadata=(("authorization", f"Bearer {token}"),), timeout=5)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert reason_of(caught.value) == "FIELD_INVALID"


def test_above_eight_megabytes_the_library_itself_refuses(suite: Layout) -> None:
    async def story(world: World) -> None:
        report = ride("accounts/0000000000001", "e" * 9_000_000)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.record(report, BENCH)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(caught.value) == ""

    tell(suite, story)


def test_estimates_refuse_what_they_cannot_price_and_are_limited(suite: Layout) -> None:
    async def story(world: World) -> None:
        stub = world.clients.assessments()

        def ask(scene: str, region: str, metres: int) -> Any:
            return stub.EstimateReduction(
                assessment_pb.EstimateReductionRequest(
                    scene=scene, region_code=region, measures={"distance_metre": metres}
                )
            )

        missing = ("NOT_FOUND", "METHODOLOGY_MISSING")
        assert await refusal(ask("scenes/metro-ride", "310000", 5000)) == missing
        assert await refusal(ask("scenes/teleport", "440300", 5000)) == missing
        assert await refusal(ask("scenes/metro-ride", "440300", -1)) == INVALID
        estimate = await ask("scenes/metro-ride", "440300", 5000)
        assert estimate.assessment.reduction_mg == 233_500
        reasons = set()
        for _ in range(400):
            try:
                await ask("scenes/metro-ride", "440300", 5000)
            except grpc.aio.AioRpcError as error:
                reasons.add((error.code().name, reason_of(error)))
        assert reasons <= {("RESOURCE_EXHAUSTED", "LIMIT_REACHED")}

    tell(suite, story)


def test_transfers_keep_floors_causes_and_shards(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("poster")
        await world.record(ride(account, "poster-1", 3000), BENCH)
        await world.until_posted()
        from shared.ids import account_id_of, shard_of

        shard = shard_of(account_id_of(account))
        stub = ledger_grpc.LedgerServiceStub(world.clients.sibling("settlement"))

        async def post(*amounts: int, cause: str, whole: bool = False, to: int = shard) -> Any:
            posts = [
                ledger_pb.PostTransfersRequest.Post(
                    cause=f"{cause}-{n}", from_pocket=f"{account}/available",
                    to_pocket=f"shards/{to}/pool", asset="reduction", amount=amount,
                )
                for n, amount in enumerate(amounts)
            ]  # fmt: skip
            request = ledger_pb.PostTransfersRequest(transfers=posts, all_or_none=whole)
            return (await stub.PostTransfers(request)).outcomes

        def reasons(outcomes: Any) -> list[str]:
            return [reason_of(o.refusal) if o.HasField("refusal") else "" for o in outcomes]

        cause = f"c-{account}"
        whole = await post(101_640, 1, cause=f"{cause}w", whole=True)
        assert reasons(whole) == ["BALANCE_TOO_LOW"] * 2
        assert reasons(await post(100_000, 2_000, 1_640, cause=cause)) == [
            "",
            "BALANCE_TOO_LOW",
            "",
        ]
        again = await post(100_000, cause=cause)
        assert again[0].repeated_cause
        assert reasons(await post(99_999, cause=cause)) == ["RESOURCE_EXISTS"]
        assert reasons(await post(1, cause=f"{cause}s", to=(shard + 1) % 64)) == ["FIELD_INVALID"]
        assert reasons(await post(0, cause=f"{cause}z")) == ["FIELD_INVALID"]
        assert await world.balance_mg(account) == 0

    tell(suite, story)


def test_a_page_token_opens_only_its_own_list(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("pages")
        other = await world.open_account("pages-2")
        recorded: list[str] = []
        for number in range(5):
            moment = Timestamp(seconds=MAY_S + number * 90_000)
            made = await world.record(ride(account, f"page-{number}", occur_time=moment), BENCH)
            recorded.append(made.activity)
        stub = activity_grpc.ActivityServiceStub(world.clients.operator("activity"))
        seen: list[str] = []
        token = ""
        while True:
            page = await stub.ListActivities(
                activity_pb.ListActivitiesRequest(parent=account, page_size=2, page_token=token)
            )
            seen += [activity.name for activity in page.activities]
            token = page.next_page_token or token
            if not page.next_page_token:
                break
        assert seen == recorded[::-1]
        for parent, bad in ((other, token), (account, token[:-2] + "AA"), (account, "x")):
            request = activity_pb.ListActivitiesRequest(parent=parent, page_token=bad)
            outcome = await refusal(stub.ListActivities(request))
            assert outcome == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")

    tell(suite, story)


def test_sources_that_are_not_in_the_catalogue_are_refused(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("unknown-source")
        outcome = await refusal(world.record(ride(account, "u-1"), "sources/nobody"))
        assert outcome == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
        scene = {"scene": "scenes/e-statement", "measures": {"count": 1}}
        outcome = await refusal(world.record(ride(account, "u-2", **scene), BANK))
        assert outcome == INVALID  # a statement needs its period as claim
        outcome = await refusal(world.record(ride(account, "u-3"), METRO))
        assert outcome == ("FAILED_PRECONDITION", "SCENE_NOT_GRANTED")

    tell(suite, story)
