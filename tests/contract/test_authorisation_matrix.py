"""Who may call what about whom: every RPC by every caller, asked of the running suite.

The rows are the methods of the contract where they are served, the columns the callers; the
requests are made from the descriptors. Asked is about admission alone: a caller who may call is
refused for any reason but CALLER_NOT_ALLOWED, TOKEN_INVALID and INTERNAL, or served.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from carbonaccount.identity.v1.consent_pb2 import Confirmation
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from matrix_calls import Cell, Matrix
from matrix_cells import (
    ADMITTED,
    ANYBODY,
    CALLERS,
    NOT_ALLOWED,
    TOKEN_INVALID,
    Endpoint,
    Who,
    callers_of,
    endpoints,
    fits,
    wanted,
)
from matrix_requests import names_person, settable_fields
from test_contract import methods

from shared.rpc.admission import owned_fields
from shared.rpc.caller import KINDS
from shared.rpc.contract import policy_of
from shared.storage.embedded import EmbeddedPostgres
from tests.suite import running_suite, tell

HOUSEHOLD = "scopes/household-collect"
STRANGE_SOURCE, STRANGE_SERVICE = Who("source", stranger=True), Who("service", stranger=True)
WITH_GOOD_TOKENS = tuple(who for who in CALLERS if not who.flaw)


@dataclass(frozen=True)
class Inside:
    """Callers whom the contract admits and whom the method itself refuses, with a reason why."""

    method: str
    callers: tuple[Who, ...]
    why: str
    outcome: str = NOT_ALLOWED


REFUSED_INSIDE = (
    *(
        Inside(f"ActivityService/{method}", (STRANGE_SOURCE,), "no catalogue lists the source")
        for method in (
            "RecordActivity",
            "BatchRecordActivities",
            "IngestActivities",
            "WithdrawActivity",
        )
    ),
    Inside(
        "ActivityService/FindActivity",
        (Who("source", "other"), STRANGE_SOURCE),
        "a source of the catalogue finds its own activities only",
    ),
    *(
        Inside(f"PrivacyService/{method}", (STRANGE_SERVICE,), "it has no part in privacy tasks")
        for method in ("WatchPrivacyTasks", "SendPrivacyFile", "FinishPrivacyTask")
    ),
    Inside(
        "SessionService/DeleteSession",
        (Who("customer", "ward"),),
        "who acts for a ward signs out of the own session, never of the ward's",
    ),
    Inside(
        "SessionService/RefreshSession",
        WITH_GOOD_TOKENS,
        "the refresh token in the request is the proof, and the matrix has none that is good",
        TOKEN_INVALID,
    ),
)

PUBLIC = {
    "the library is published": {
        "SceneService/ListScenes",
        "FactorService/ListFactorSeries",
        "FactorService/GetFactorSeries",
        "FactorService/LookUpFactor",
        "MethodologyService/ListMethodologies",
        "MethodologyService/GetMethodology",
        "MethodologyService/CompareVersions",
    },
    "an estimate is about nobody and is not kept": {
        "AssessmentService/EstimateReduction",
        "AssessmentService/BatchEstimateReductions",
        "FootprintService/GetQuestionnaire",
        "FootprintService/EstimateFootprint",
        "FootprintService/CompareFootprints",
        "FootprintService/ListSpendingCategories",
        "FootprintService/EstimateSpending",
        "FootprintService/CompareTrips",
    },
    "a notice is read before anybody signs in": {"ConsentService/ListScopes"},
    "anybody may verify a token or a receipt": {"SessionService/ListSigningKeys"},
    "who signs in has no token yet": {
        "SessionService/CreateSession",
        "SessionService/RefreshSession",
    },
}
SIGNING_IN = PUBLIC["who signs in has no token yet"]
NOT_OWNED = {
    "CommunityService/GetCommunity": "a group is nobody's, and small ones hide their number",
    "FeedService/AwaitFreshness": "how fresh a copy is says nothing of anybody",
}
"""Methods that customers may call about no account."""
NAMED_BESIDES = {
    "HouseholdService/RemoveMember": "the member to go is looked for in the head's own household",
    "HouseholdService/ProposeShares": "weights are those of the members of the own household",
}
"""Methods whose request names accounts of others besides the own one."""


@dataclass(frozen=True)
class Asked:
    """What the running suite answered."""

    outcomes: dict[Cell, str]
    served: set[tuple[str, str]]


@pytest.fixture(scope="module")
def asked(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Every cell, asked once."""
    with running_suite(postgres, tmp_path_factory.mktemp("var"), prefix="matrix") as supervisor:
        layout = supervisor.layout
        [grant] = tell(layout, lambda world: world.people.grants([HOUSEHOLD]))
        confirmed = Confirmation(confirm_time=Timestamp(seconds=int(time.time())), screen="matrix")
        grant.confirmation.CopyFrom(confirmed)
        with Matrix(layout, grant) as matrix:
            return Asked(matrix.ask(endpoints()), matrix.served())


def promised(row: Endpoint, who: Who) -> str:
    """What the cell must answer: what the method says inside, else what the contract says."""
    for inside in REFUSED_INSIDE:
        if row.name == inside.method and who in inside.callers:
            return inside.outcome
    return wanted(row.method, who)


def is_public(method: MethodDescriptor) -> bool:
    return "public" in callers_of(method)


def name_of(method: MethodDescriptor) -> str:
    return f"{method.containing_service.name}/{method.name}"


def test_every_caller_is_admitted_or_refused_as_the_contract_says(asked: Asked) -> None:
    wrong = [
        f"{row}, {who}: {outcome}, promised is {promised(row, who)}"
        for (row, who), outcome in asked.outcomes.items()
        if not fits(outcome, promised(row, who), streamed=row.method.server_streaming)
    ]
    assert not wrong, f"{len(wrong)} cells are wrong:\n" + "\n".join(wrong)


def test_every_cell_is_asked(asked: Asked) -> None:
    rows = endpoints()
    feeds = [row for row in rows if row.name.startswith("FeedService/")]
    assert len(feeds) == 4 * 2
    assert len(rows) == len(methods()) + len(feeds) * 3 // 4
    assert {who.kind for who in CALLERS if not who.flaw} == set(KINDS)
    assert len(asked.outcomes) == len(rows) * len(set(CALLERS))


def test_what_the_services_serve_is_what_is_asked(asked: Asked) -> None:
    ours = {(place, name) for place, name in asked.served if name.startswith("carbonaccount.")}
    rows = {(row.service, row.method.containing_service.full_name) for row in endpoints()}
    assert ours == rows
    plain = {name for _, name in asked.served - ours}
    assert plain == {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


def test_nobody_is_listed_as_refused_inside_without_need(asked: Asked) -> None:
    rows = {row.name: row for row in endpoints()}
    needless = [
        f"{inside.method}, {who}"
        for inside in REFUSED_INSIDE
        for who in inside.callers
        if wanted(rows[inside.method].method, who) != ADMITTED
        or asked.outcomes[rows[inside.method], who] != inside.outcome
    ]
    assert not needless, "the contract or a change made these needless"


@pytest.mark.parametrize(
    ("outcome", "promise", "streamed"),
    [
        ("OK", ADMITTED, False),
        ("NOT_FOUND RESOURCE_NOT_FOUND", ADMITTED, False),
        ("UNAVAILABLE RETRY_LATER", ADMITTED, False),
        ("DEADLINE_EXCEEDED", ADMITTED, True),
        (NOT_ALLOWED, NOT_ALLOWED, False),
        (TOKEN_INVALID, TOKEN_INVALID, True),
    ],
)
def test_a_cell_that_keeps_its_promise_fits(outcome: str, promise: str, streamed: bool) -> None:
    assert fits(outcome, promise, streamed=streamed)


@pytest.mark.parametrize(
    ("outcome", "promise", "streamed"),
    [
        (NOT_ALLOWED, ADMITTED, False),
        (TOKEN_INVALID, ADMITTED, False),
        ("INTERNAL INTERNAL", ADMITTED, False),
        ("INTERNAL", ADMITTED, True),
        ("UNIMPLEMENTED", ADMITTED, False),
        ("DEADLINE_EXCEEDED", ADMITTED, False),
        ("DEADLINE_EXCEEDED", NOT_ALLOWED, True),
        ("not made: a field", ADMITTED, False),
        ("OK", NOT_ALLOWED, False),
        ("PERMISSION_DENIED", NOT_ALLOWED, False),
        ("NOT_FOUND RESOURCE_NOT_FOUND", NOT_ALLOWED, False),
        (NOT_ALLOWED, TOKEN_INVALID, False),
    ],
)
def test_a_cell_that_breaks_its_promise_does_not(
    outcome: str, promise: str, streamed: bool
) -> None:
    assert not fits(outcome, promise, streamed=streamed)


def test_without_a_token_one_may_call_what_has_a_reason_to_be_public_and_nothing_else() -> None:
    listed = [name for names in PUBLIC.values() for name in names]
    assert sorted(listed) == sorted(name_of(m) for m in methods() if is_public(m))
    assert all(wanted(m, ANYBODY) == ADMITTED for m in methods() if is_public(m))


def test_what_is_public_changes_nothing_and_names_no_account() -> None:
    for method in methods():
        if is_public(method):
            assert policy_of(method).reads_only or name_of(method) in SIGNING_IN, method.full_name
            assert not list(persons_named(method)), method.full_name


def test_a_customer_names_the_own_account_wherever_no_reason_is_given_not_to() -> None:
    without = {
        name_of(method)
        for method in methods()
        if "customer" in callers_of(method)
        and (is_public(method) or not owned_fields(method.input_type))
    }
    assert without == set(NOT_OWNED)


def test_a_customer_names_an_account_of_others_only_where_a_reason_is_given() -> None:
    besides = {
        name_of(method)
        for method in methods()
        if "customer" in callers_of(method)
        and set(persons_named(method)) - set(owned_fields(method.input_type))
    }
    assert besides == set(NAMED_BESIDES)


def test_an_auditor_changes_nothing() -> None:
    for method in methods():
        if "auditor" in callers_of(method):
            assert policy_of(method).reads_only, method.full_name


def persons_named(method: MethodDescriptor) -> list[str]:
    """Paths of the fields of a request that may name an account, or something below one."""
    return [path for path, field in settable_fields(method.input_type) if names_person(field)]
