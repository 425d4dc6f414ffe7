"""What households refuse, each with its reason and, beside it, what is just allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from carbonaccount.identity.v1 import household_service_pb2 as pb
from carbonaccount.identity.v1.consent_pb2 import Confirmation, ConsentGrant
from google.type.date_pb2 import Date

from shared.ids import account_name, new_account_id
from shared.storage.embedded import EmbeddedPostgres
from tests.identity.household_world import (
    CLOSED,
    HOME,
    NEW_YEAR,
    OPEN,
    SUSPENDED,
    Person,
    World,
    living_together,
    members_of,
)
from tests.identity.identity_house import refused, request_id, soon, stamp

METHODS = [name for name in dir(pb) if name.endswith("Request")]


@pytest.fixture(scope="module")
def town(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with living_together(postgres, tmp_path_factory) as running:
        yield running


@pytest.fixture
def world(town: World) -> World:
    town.clock.set(NEW_YEAR)
    return town


def filled(method: str, person: Person) -> Any:
    """A request of the method that names the person and would be read."""
    request = getattr(pb, method)(parent=person.account)
    for field in request.DESCRIPTOR.fields:
        if field.name == "request_id":
            request.request_id = request_id()
        elif field.name == "consent":
            request.consent.CopyFrom(person.grant())
        elif field.name == "code":
            request.code = "0123456789"
        elif field.name == "member":
            request.member = account_name(new_account_id())
        elif field.name == "weights":
            request.weights.add(account=person.account, weight=1)
        elif field.name == "number":
            request.number = 1
    return request


def do(world: World, method: str, request: Any, person: Person) -> Any:
    return getattr(world.house.households, method.removesuffix("Request"))(request, **person.call)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_wants_an_account_and_the_own_one(world: World, method: str) -> None:
    person, other = world.open(), world.open()
    for parent, reason in (
        ("", "FIELD_INVALID"),
        ("accounts/1", "CALLER_NOT_ALLOWED"),
        (other.account, "CALLER_NOT_ALLOWED"),
    ):
        request = filled(method, person)
        request.parent = parent
        with refused(reason):
            do(world, method, request, person)


@pytest.mark.parametrize(
    "method", [m for m in METHODS if "request_id" in getattr(pb, m).DESCRIPTOR.fields_by_name]
)
def test_every_write_wants_a_request_id_and_keeps_it_to_its_content(
    world: World, method: str
) -> None:
    person = world.open()
    request = filled(method, person)
    for bad in ("", "1", "g" * 36):
        request.request_id = bad
        with refused("FIELD_INVALID"):
            do(world, method, request, person)
    key = request_id()
    founded = person.found(request=key)
    request.request_id = key
    with refused("REQUEST_ID_REUSED"):
        do(world, method, request, person)
    assert person.household() == founded


@pytest.mark.parametrize(
    "method", [m for m in METHODS if "consent" in getattr(pb, m).DESCRIPTOR.fields_by_name]
)
@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("FIELD_INVALID", lambda grant, world: grant.ClearField("scope")),
        ("FIELD_INVALID", lambda grant, world: setattr(grant, "scope", HOME)),
        ("FIELD_INVALID", lambda grant, world: setattr(grant, "scope", "scopes/none")),
        ("FIELD_INVALID", lambda grant, world: setattr(grant, "notice_digest", b"\1" * 33)),
        ("NOTICE_STALE", lambda grant, world: setattr(grant, "notice_digest", b"\1" * 32)),
        ("NOTICE_STALE", lambda grant, world: setattr(grant, "mandate_digest", b"\1" * 32)),
        ("FIELD_INVALID", lambda grant, world: grant.expire_time.CopyFrom(soon(10**8))),
        (
            "FIELD_INVALID",
            lambda grant, world: grant.cover_from_time.FromNanoseconds(world.clock() * 1000 - 1000),
        ),
        (
            "FIELD_INVALID",
            lambda grant, world: grant.confirmation.CopyFrom(
                Confirmation(confirm_time=stamp(world.clock.now), screen="A B")
            ),
        ),
    ],
)
def test_a_consent_that_is_not_the_one_to_belong_is_refused(
    world: World, method: str, reason: str, change: Callable[[ConsentGrant, World], None]
) -> None:
    founder, person = world.family(2)
    if method == "CreateHouseholdRequest":
        person = world.open()
    request = filled(method, person)
    if method == "AcceptInvitationRequest":
        person = world.open()
        request.parent, request.code = person.account, founder.invite()
    change(request.consent, world)
    before = len(person.consents())
    with refused(reason):
        do(world, method, request, person)
    assert len(person.consents()) == before


@pytest.mark.parametrize(
    "change",
    [{"display_name": "a\nb"}, {"display_name": "x" * 65}, {"region_code": "44030"},
     {"region_code": "040300"}, {"region_code": "4403000"}],
)  # fmt: skip
def test_a_household_that_cannot_be_shown_is_not_founded(
    world: World, change: dict[str, str]
) -> None:
    person = world.open()
    with refused("FIELD_INVALID"):
        person.found(**change)
    assert person.found(display_name="长" * 64, region_code="110000").display_name == "长" * 64


def test_a_name_of_a_split_follows_the_same_rule(world: World) -> None:
    founder, _ = world.family(2)
    with refused("FIELD_INVALID"):
        founder.split(name="a\0b")


@pytest.mark.parametrize("code", ["", "0123456789", "012345678", "ü" * 10, "-" * 16, "x" * 17])
def test_a_code_that_never_was_is_refused(world: World, code: str) -> None:
    person = world.open()
    with refused("FIELD_INVALID" if not code or len(code) > 16 else "CODE_INVALID"):
        person.accept(code)


def test_nobody_belongs_to_two_households(world: World) -> None:
    founder, second = world.family(2)
    host = world.open()
    host.found()
    for member in (founder, second):
        with refused("STATE_CONFLICT"):
            member.found()
        with refused("STATE_CONFLICT"):
            member.join(host)
    # A refused code is not used up.
    code = host.invite()
    with refused("STATE_CONFLICT"):
        second.accept(code)
    assert world.open().accept(code).state == OPEN


def test_nobody_joins_the_own_household_again(world: World) -> None:
    founder, second = world.family(2)
    for member in (founder, second):
        with refused("STATE_CONFLICT"):
            member.accept(founder.invite())


def test_a_household_never_belongs_to_a_household(world: World) -> None:
    founder, host = world.open(), world.open()
    household = founder.found().account
    host.found()
    home = founder.also_for(household)
    inside = Person(world, household, home.call)
    for attempt in (inside.found, inside.split):
        with refused("FIELD_INVALID"):
            attempt()
    # Neither another one's nor, which would be a circle, its own.
    for inviter in (host, founder):
        with refused("FIELD_INVALID"):
            inside.accept(inviter.invite())
    for attempt in (inside.invite, inside.leave, inside.household):
        with refused("RESOURCE_NOT_FOUND"):
            attempt()
    with refused("RESOURCE_NOT_FOUND"):
        founder.remove(household)
    with refused("FIELD_INVALID"):
        founder.split(household)


def test_a_closed_account_joins_nothing(world: World) -> None:
    founder, person = world.open(), world.open()
    founder.found()
    code = founder.invite()
    person.close()
    with refused("ACCOUNT_NOT_OPEN"):
        person.accept(code)
    with refused("ACCOUNT_NOT_OPEN"):
        person.found()
    assert world.open().accept(code).state == OPEN


def test_a_suspended_account_joins_nothing_and_may_leave(world: World) -> None:
    founder, second = world.family(2)
    world.suspend(second)
    with refused("ACCOUNT_NOT_OPEN"):
        second.split()
    assert second.leave() == "2026-01-02"
    assert members_of(founder.household()) == [founder.account]


def test_who_has_no_household_has_nothing_to_change(world: World) -> None:
    person, other = world.open(), world.open()
    for attempt in (
        person.invite,
        person.leave,
        person.household,
        person.split,
        lambda: person.remove(other),
        lambda: person.propose({person.account: 1}),
        lambda: person.sign(1),
    ):
        with refused("RESOURCE_NOT_FOUND"):
            attempt()
    assert list(person.memberships().memberships) == []


def test_who_leaves_today_changes_nothing_more(world: World) -> None:
    founder, second = world.family(2)
    world.clock.pass_days()
    second.leave()
    for attempt in (
        second.invite,
        second.leave,
        second.split,
        lambda: second.propose({founder.account: 1}),
        lambda: second.sign(1),
    ):
        with refused("RESOURCE_NOT_FOUND"):
            attempt()
    assert second.household().account == founder.household().account


def test_only_the_head_removes_and_only_others(world: World) -> None:
    founder, second, third = world.family(3)
    with refused("CALLER_NOT_ALLOWED"):
        second.remove(third)
    with refused("CALLER_NOT_ALLOWED"):
        second.remove(founder)
    for person in (founder, second):
        with refused("FIELD_INVALID"):
            person.remove(person)
    with refused("FIELD_INVALID"):
        founder.remove("accounts/1")
    for stranger in (world.open().account, account_name(new_account_id())):
        with refused("RESOURCE_NOT_FOUND"):
            founder.remove(stranger)
    founder.remove(third)
    with refused("RESOURCE_NOT_FOUND"):
        founder.remove(third)


def test_a_household_has_twenty_members_and_no_more(world: World) -> None:
    founder, *_, last = world.family(20)
    late = world.open()
    code = founder.invite()
    with refused("LIMIT_REACHED"):
        late.accept(code)
    last.leave()
    assert len(late.accept(code).members) == 20


def test_twenty_invitations_wait_and_no_more(world: World) -> None:
    founder = world.open()
    founder.found()
    codes = [founder.invite() for _ in range(20)]
    with refused("LIMIT_REACHED"):
        founder.invite()
    world.open().accept(codes[0])
    founder.invite()
    world.clock.pass_days(7)
    assert len({founder.invite() for _ in range(20)}) == 20


def test_a_household_ends_for_good(world: World) -> None:
    founder = world.open()
    household = founder.found().account
    founder.leave()
    assert world.state(household) == CLOSED
    again = founder.found()
    assert again.account != household
    assert again.state == SUSPENDED


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (lambda me, other, stranger: [me], "FIELD_INVALID"),
        (lambda me, other, stranger: [other, other], "FIELD_INVALID"),
        (lambda me, other, stranger: [stranger], "FIELD_INVALID"),
        (lambda me, other, stranger: ["accounts/1"], "FIELD_INVALID"),
        (lambda me, other, stranger: [""], "FIELD_INVALID"),
        (lambda me, other, stranger: [other] * 21, "LIMIT_REACHED"),
    ],
)
def test_only_the_other_members_come_along_once_each(
    world: World, members: Callable[[str, str, str], list[str]], reason: str
) -> None:
    founder, second = world.family(2)
    before = founder.household()
    with refused(reason):
        founder.split(*members(founder.account, second.account, world.open().account))
    assert founder.household() == before


@pytest.mark.parametrize(
    "weights",
    [
        lambda me, other: {},
        lambda me, other: {me: 1},
        lambda me, other: {me: 0, other: 0},
        lambda me, other: {me: -1, other: 1},
        lambda me, other: {me: 1_000_001, other: 1},
        lambda me, other: {me: 1, "accounts/1": 1},
        lambda me, other: {me: 1, other: 1, account_name(new_account_id()): 1},
    ],
)
def test_weights_are_one_for_each_member_and_not_all_zero(
    world: World, weights: Callable[[str, str], dict[str, int]]
) -> None:
    founder, second = world.family(2)
    with refused("FIELD_INVALID"):
        founder.propose(weights(founder.account, second.account))
    founder.propose({founder.account: 1_000_000, second.account: 0})


def test_a_member_is_weighed_once(world: World) -> None:
    founder, second = world.family(2)
    request = filled("ProposeSharesRequest", founder)
    request.weights.add(account=second.account, weight=1)
    request.weights.add(account=second.account, weight=1)
    with refused("FIELD_INVALID"):
        do(world, "ProposeSharesRequest", request, founder)


@pytest.mark.parametrize("number", [0, -1, 2, 2**31 - 1])
def test_a_proposal_that_never_was_is_not_signed(world: World, number: int) -> None:
    founder, second = world.family(2)
    founder.propose({founder.account: 1, second.account: 1})
    with refused("RESOURCE_NOT_FOUND" if number else "FIELD_INVALID"):
        second.sign(number)


@pytest.mark.parametrize(
    "asked",
    [Date(year=2026, month=2, day=29), Date(year=2026, month=13, day=1), Date(month=1, day=1),
     Date(year=10_000, month=1, day=1), Date(year=-1, month=1, day=1), Date(year=2026)],
)  # fmt: skip
def test_a_day_that_is_none_has_no_shares(world: World, asked: Date) -> None:
    founder = world.open()
    founder.found()
    request = pb.GetSharesRequest(parent=founder.account, share_date=asked)
    with refused("FIELD_INVALID"):
        do(world, "GetSharesRequest", request, founder)


def test_the_day_after_tomorrow_has_no_shares_yet(world: World) -> None:
    founder = world.open()
    founder.found()
    with refused("FIELD_INVALID"):
        founder.shares("2026-01-03")
    assert len(founder.shares("2026-01-02").shares) == 1


def test_programs_change_no_household(world: World) -> None:
    person = world.open()
    for method in METHODS:
        if method == "GetSharesRequest":
            continue
        with refused("CALLER_NOT_ALLOWED"):
            call = getattr(world.house.households, method.removesuffix("Request"))
            call(filled(method, person), **world.house.service)


@pytest.mark.parametrize("page_size", [-1])
def test_a_page_of_memberships_has_a_size(world: World, page_size: int) -> None:
    with refused("FIELD_INVALID"):
        world.open().memberships(page_size)


def test_a_page_token_is_of_one_account(world: World) -> None:
    founder, second = world.family(2)
    for _ in range(2):
        world.clock.pass_days()
        founder.leave()
        founder.join(second)
    token = founder.memberships(1).next_page_token
    assert token
    with refused("PAGE_TOKEN_INVALID"):
        second.memberships(1, token)
