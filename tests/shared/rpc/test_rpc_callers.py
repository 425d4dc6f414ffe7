"""Who may call what, and about whom."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from carbonaccount.calculation.v1 import assessment_service_pb2, assessment_service_pb2_grpc
from carbonaccount.calculation.v1 import methodology_service_pb2 as methodology_pb
from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.identity.v1 import session_service_pb2 as session_pb
from google.rpc import error_details_pb2
from rpc_house import LONGER, OWN, contract_methods, details_of, house, refused

from shared.refusal import CallerNotAllowed, LimitReached
from shared.rpc.admission import Admission, check_owner, owned_fields
from shared.rpc.caller import Caller
from shared.rpc.contract import Policy, policy_of
from shared.rpc.limits import CallLimits
from shared.rpc.tokens import VERIFYING_FILE, TokenVerifier, load_or_make_key, make_token

C = grpc.StatusCode
LOOK_UP = pb.LookUpAccountRequest(customer_ref="ref-1", purpose="a test")
SESSION = "sessions/0000000000abc"


def test_a_listed_caller_is_served_and_known_to_the_servicer(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            await h.account_stub.LookUpAccount(LOOK_UP, **h.service)
            who = h.accounts.seen[0][0]
            assert (who.kind, who.name) == ("service", "services/activity")
            await h.account_stub.GetAccount(pb.GetAccountRequest(name=OWN), **h.customer())
            assert h.accounts.seen[1][0].account == OWN

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["customer", "source", "venue", "verifier", "auditor", "partner"])
def test_a_caller_that_is_not_listed_is_refused(tmp_path: Path, kind: str) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            call = h.account_stub.LookUpAccount(LOOK_UP, **h.call(kind, f"{kind}s/x"))
            code, reason, status = await refused(call)
            assert (code, reason) == (C.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")
            info = details_of(status, error_details_pb2.ErrorInfo)
            # A customer's name in a token may be the bank's number of a person.
            assert info.metadata["caller"] == ("customer" if kind == "customer" else f"{kind}s/x")
            assert info.metadata["method"].endswith("/LookUpAccount")
            assert h.accounts.seen == []

    asyncio.run(run())


def test_a_call_without_a_token_is_refused_and_a_public_one_is_not(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            code, reason, _ = await refused(h.account_stub.LookUpAccount(LOOK_UP, timeout=10))
            assert (code, reason) == (C.UNAUTHENTICATED, "TOKEN_INVALID")
            listing = h.methodology_stub.ListMethodologies(
                methodology_pb.ListMethodologiesRequest(), timeout=10
            )
            assert (await refused(listing))[0] == C.UNIMPLEMENTED  # it got as far as the servicer
            bad = [("authorization", "Bearer no.such.token")]
            listing = h.methodology_stub.ListMethodologies(
                methodology_pb.ListMethodologiesRequest(), timeout=10, metadata=bad
            )
            assert (await refused(listing))[1] == "TOKEN_INVALID"

    asyncio.run(run())


def test_a_method_that_lists_nobody_is_refused_to_everybody(tmp_path: Path) -> None:
    policy = Policy("/x/Y", frozenset(), 0, reads_only=True)
    token = make_token(load_or_make_key(tmp_path), "operator", "operators/me")
    admission = Admission(TokenVerifier(tmp_path / VERIFYING_FILE))
    for authorization in ("", f"Bearer {token}"):
        with pytest.raises(CallerNotAllowed, match="nobody"):
            admission.identify(policy, authorization)


def test_every_method_of_the_contract_lists_its_callers() -> None:
    assert [
        method.full_name for method in contract_methods() if not policy_of(method).callers
    ] == []


def test_every_method_that_a_customer_may_call_names_the_account() -> None:
    without = [
        method.full_name
        for method in contract_methods()
        if "customer" in policy_of(method).callers and not owned_fields(method.input_type)
    ]
    # A group is nobody's, and how fresh a copy is says nothing of anybody.
    assert set(without) == {
        "carbonaccount.identity.v1.CommunityService.GetCommunity",
        "carbonaccount.feed.v1.FeedService.AwaitFreshness",
    }


@pytest.mark.parametrize("name", [OWN, f"{OWN}/consents/1"])
def test_a_customer_reaches_the_own_account_and_what_lies_below(tmp_path: Path, name: str) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            await h.account_stub.GetAccount(pb.GetAccountRequest(name=name), **h.customer())
            assert len(h.accounts.seen) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    "name", [LONGER, OWN[:-1], "accounts/", "x/" + OWN, OWN.upper(), f"{LONGER}/consents/1", " "]
)
def test_a_customer_reaches_no_other_account(tmp_path: Path, name: str) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            request = pb.GetAccountRequest(name=name)
            code, reason, _ = await refused(h.account_stub.GetAccount(request, **h.customer()))
            assert (code, reason) == (C.PERMISSION_DENIED, "CALLER_NOT_ALLOWED")
            call = h.account_stub.GetAccount(request, **h.customer(""))
            assert (await refused(call))[1] == "CALLER_NOT_ALLOWED"
            await h.account_stub.GetAccount(request, **h.service)  # which may look at all of them
            assert len(h.accounts.seen) == 1

    asyncio.run(run())


def test_a_customer_with_a_token_may_call_what_is_public(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            request = methodology_pb.GetMethodologyRequest(name="methodologies/hello-2022")
            call = h.methodology_stub.GetMethodology(request, **h.customer())
            assert (await refused(call))[0] == C.UNIMPLEMENTED

    asyncio.run(run())


def test_an_account_may_be_opened_without_a_name_but_not_under_another_one() -> None:
    who, policy = Caller("customer", "bank-app", account=OWN), Policy("/x/Y", frozenset(), 0, False)
    fields = owned_fields(pb.OpenAccountRequest.DESCRIPTOR)
    assert fields == ("account.name",)
    request = pb.OpenAccountRequest()
    check_owner(who, policy, fields, request)
    request.account.name = LONGER
    with pytest.raises(CallerNotAllowed):
        check_owner(who, policy, fields, request)


def check_named(who: Caller, name: str) -> None:
    request = session_pb.DeleteSessionRequest(name=name)
    check_owner(who, Policy("/x/Y", frozenset(), 0, False), ("name",), request)


def test_a_customer_reaches_wards_and_household_and_the_own_session() -> None:
    ward = "accounts/0000000000xyz"
    who = Caller("customer", "x", account=OWN, session=SESSION, acts_for=(ward,))
    for name in (OWN, f"{OWN}/consents/1", ward, f"{ward}/consents/1", SESSION):
        check_named(who, name)


@pytest.mark.parametrize(
    "who",
    [
        Caller("customer", "x", account=OWN, session=SESSION, acts_for=("accounts/0000000000xyz",)),
        Caller("customer", "x"),
    ],
)
@pytest.mark.parametrize(
    "name",
    [LONGER, "accounts/0000000000xy", "accounts/0000000000xyzz", f"{SESSION}d", f"{SESSION}/x",
     "sessions/0000000000abd", "sessions/", "", f"{LONGER}/{OWN}"],
)  # fmt: skip
def test_a_customer_reaches_nothing_beside_them(who: Caller, name: str) -> None:
    with pytest.raises(CallerNotAllowed):
        check_named(who, name)


def test_a_token_of_one_account_and_its_ward_reaches_no_third(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            ward, past = "accounts/0000000000xyz", "accounts/0000000000xyy"
            now_s = int(time.time())
            token = make_token(
                h.key, "customer", "x", account=OWN, acts_for={ward: now_s + 60, past: now_s}
            )
            call = {"metadata": [("authorization", f"Bearer {token}")], "timeout": 10}
            for name in (OWN, ward):
                await h.account_stub.GetAccount(pb.GetAccountRequest(name=name), **call)
            assert h.accounts.seen[1][0].acts_for == (ward,)
            for name in (LONGER, past):
                ended = h.account_stub.GetAccount(pb.GetAccountRequest(name=name), **call)
                assert (await refused(ended))[1] == "CALLER_NOT_ALLOWED"
            assert len(h.accounts.seen) == 2

    asyncio.run(run())


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_peer_has_its_rate_and_not_one_call_more() -> None:
    clock = _Clock()
    limits = CallLimits(clock_s=clock)
    for _ in range(5):
        limits.spend("ipv4:1.1.1.1", "/x/Y", 5)
    with pytest.raises(LimitReached) as refusal:
        limits.spend("ipv4:1.1.1.1", "/x/Y", 5)
    assert refusal.value.metadata == {"limit": "calls_per_second", "value": "5"}
    assert 0 < refusal.value.retry_after_ms <= 201
    limits.spend("ipv4:2.2.2.2", "/x/Y", 5)  # another peer
    limits.spend("ipv4:1.1.1.1", "/x/Z", 5)  # another method
    clock.now += 0.2
    limits.spend("ipv4:1.1.1.1", "/x/Y", 5)


def test_a_peer_that_hammers_still_gets_its_rate() -> None:
    clock, served = _Clock(), 0
    limits = CallLimits(clock_s=clock)
    for _ in range(1000):  # ten seconds of a call every 10 ms, where 5 a second are allowed
        clock.now += 0.01
        try:
            limits.spend("p", "m", 5)
            served += 1
        except LimitReached:
            continue
    assert 52 <= served <= 56


def test_buckets_of_many_peers_take_bounded_memory() -> None:
    limits = CallLimits(peers_max=10)
    for peer in range(100):
        limits.spend(str(peer), "m", 5)
    assert len(limits) == 10


def test_the_public_estimate_is_limited_by_peer(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            stub: Any = assessment_service_pb2_grpc.AssessmentServiceStub(h.channel)
            request = assessment_service_pb2.EstimateReductionRequest()
            calls = [stub.EstimateReduction(request, timeout=30) for _ in range(600)]
            ends = await asyncio.gather(*(refused(call) for call in calls))
            reasons = {reason: status for _, reason, status in ends}
            assert set(reasons) == {"FIELD_INVALID", "LIMIT_REACHED"}
            wait = details_of(reasons["LIMIT_REACHED"], error_details_pb2.RetryInfo)
            assert 0 < wait.retry_delay.ToMilliseconds() <= 10

    asyncio.run(run())
