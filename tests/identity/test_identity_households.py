"""Founding a household, inviting to it, joining and leaving it, over gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from carbonaccount.identity.v1.consent_pb2 import Consent

from shared.ids import account_id_of
from shared.storage.embedded import EmbeddedPostgres
from tests.identity.household_world import (
    BELONG,
    CLOSED,
    HOME,
    NEW_YEAR,
    OPEN,
    SUSPENDED,
    WHOLE,
    World,
    iso,
    living_together,
    members_of,
    periods_of,
)
from tests.identity.identity_house import refused, request_id

GRANTED, REVOKED = Consent.STATE_GRANTED, Consent.STATE_REVOKED


@pytest.fixture(scope="module")
def town(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with living_together(postgres, tmp_path_factory) as running:
        yield running


@pytest.fixture
def world(town: World) -> World:
    town.clock.set(NEW_YEAR)
    return town


def test_a_founder_is_head_and_only_member_from_today_on(world: World) -> None:
    founder = world.open()
    household = founder.found("阳光里", region_code="440300")
    assert household.display_name == "阳光里"
    (member,) = household.members
    assert (member.account, iso(member.start_date)) == (founder.account, "2026-01-01")
    assert (member.household_head, iso(member.end_date)) == (True, "")
    assert periods_of(household) == [("2026-01-01", {founder.account: WHOLE})]
    assert founder.household() == household


def test_a_household_is_suspended_until_a_second_member_accepts(world: World) -> None:
    founder, second = world.open(), world.open()
    household = founder.found()
    assert household.state == SUSPENDED
    assert world.events(household.account) == [
        ("OPENED", "member", ""),
        ("SUSPENDED", "member", "one member"),
        ("CONSENT_GRANTED", "member", ""),
        ("HOUSEHOLD_JOINED", "member", ""),
    ]
    assert second.join(founder).state == OPEN
    assert world.events(household.account)[4:] == [
        ("HOUSEHOLD_JOINED", "member", ""),
        ("REINSTATED", "member", "two members"),
    ]


def test_the_household_consents_to_its_own_meter_with_the_confirmation_of_the_founder(
    world: World,
) -> None:
    founder = world.open()
    grant = founder.grant()
    household = founder.found(consent=grant).account
    (home,) = world.snapshots()[household].consents
    assert (home.scope, home.state) == (HOME, GRANTED)
    assert home.cover_from_time.ToNanoseconds() == int(world.clock() * 1000)
    assert home.confirmation == grant.confirmation
    (own,) = founder.consents()
    assert (own.scope, own.state) == (BELONG, GRANTED)


def test_a_founder_who_confirms_nothing_founds_nothing(world: World) -> None:
    founder = world.open()
    grant = founder.grant()
    grant.ClearField("confirmation")
    with refused("CONFIRMATION_MISSING"):
        founder.found(consent=grant)
    assert founder.consents() == []
    with refused("RESOURCE_NOT_FOUND"):
        founder.household()


def test_whoever_joins_is_a_member_from_the_next_civil_day_on(world: World) -> None:
    founder, second = world.open(), world.open()
    founder.found()
    household = second.join(founder)
    assert [iso(member.start_date) for member in household.members] == ["2026-01-01", "2026-01-02"]
    both = {founder.account: WHOLE // 2, second.account: WHOLE // 2}
    assert periods_of(household) == [
        ("2026-01-01", {founder.account: WHOLE}), ("2026-01-02", both),
    ]  # fmt: skip


def test_a_civil_day_ends_at_midnight_in_utc_plus_8(world: World) -> None:
    one, other = world.family(2), world.family(2)
    world.clock.set(world.clock.now.replace(hour=15, minute=59, second=59, microsecond=999_999))
    assert one[1].leave() == "2026-01-02"
    world.clock.set(world.clock.now.replace(hour=16, minute=0, second=0, microsecond=0))
    assert other[1].leave() == "2026-01-03"


def test_joining_is_told_on_both_accounts(world: World) -> None:
    founder, second = world.family(2)
    assert ("HOUSEHOLD_JOINED", "customer", "") in founder.events()
    assert second.events() == [
        ("OPENED", "customer", ""),
        ("CONSENT_GRANTED", "customer", ""),
        ("HOUSEHOLD_JOINED", "customer", ""),
    ]


def test_leaving_keeps_today_and_ends_the_consent(world: World) -> None:
    founder, second, third = world.family(3)
    world.clock.pass_days(9)
    assert second.leave() == "2026-01-11"
    assert [consent.state for consent in second.consents()] == [REVOKED]
    assert iso(second.household().members[1].end_date) == "2026-01-11"
    world.clock.pass_days()
    household = founder.household()
    assert members_of(household) == [founder.account, third.account]
    assert [start for start, _ in periods_of(household)] == [
        "2026-01-01", "2026-01-02", "2026-01-11",
    ]  # fmt: skip
    with refused("RESOURCE_NOT_FOUND"):
        second.household()


def test_leaving_is_told_on_both_accounts(world: World) -> None:
    founder, second = world.family(2)
    household = founder.household().account
    second.leave()
    assert second.events()[-2:] == [
        ("CONSENT_REVOKED", "customer", ""), ("HOUSEHOLD_LEFT", "customer", ""),
    ]  # fmt: skip
    assert world.events(household)[-2:] == [
        ("HOUSEHOLD_LEFT", "member", ""), ("SUSPENDED", "member", "one member"),
    ]  # fmt: skip


def test_the_last_one_who_leaves_closes_the_household_and_its_consent(world: World) -> None:
    founder, second = world.family(2)
    household = founder.household().account
    assert world.state(household) == OPEN
    founder.leave()
    assert world.state(household) == SUSPENDED
    code = second.invite()
    second.leave()
    assert world.state(household) == CLOSED
    assert [c.state for c in world.snapshots()[household].consents] == [REVOKED]
    assert world.events(household)[-3:] == [
        ("HOUSEHOLD_LEFT", "member", ""),
        ("CLOSED", "member", "nobody left"),
        ("CONSENT_REVOKED", "member", ""),
    ]
    with refused("CODE_INVALID"):
        world.open().accept(code)


def test_whoever_leaves_on_the_day_of_joining_was_never_a_member(world: World) -> None:
    founder, second = world.family(2)
    assert second.leave() == "2026-01-02"
    assert periods_of(founder.household()) == [("2026-01-01", {founder.account: WHOLE})]
    assert list(second.memberships().memberships) == []
    with refused("RESOURCE_NOT_FOUND"):
        second.household()


def test_a_founder_who_leaves_at_once_was_a_member_of_one_day(world: World) -> None:
    founder = world.open()
    household = founder.found().account
    founder.leave()
    snapshot = world.snapshots()[household]
    assert [(iso(p.start_date), len(p.shares)) for p in snapshot.share_periods] == [
        ("2026-01-01", 1), ("2026-01-02", 0),
    ]  # fmt: skip


def test_the_head_passes_to_the_longest_standing_member(world: World) -> None:
    founder, second, third = world.family(3)
    founder.leave()
    heads = [m.account for m in third.household().members if m.household_head]
    assert heads == [second.account]
    with refused("CALLER_NOT_ALLOWED"):
        third.remove(second)
    assert members_of(second.remove(third))
    assert third.consents()[0].state == REVOKED


def test_the_head_removes_a_member_and_ends_the_consent(world: World) -> None:
    founder, second, _ = world.family(3)
    world.clock.pass_days()
    household = founder.remove(second)
    ends = {m.account: iso(m.end_date) for m in household.members}
    assert ends[second.account] == "2026-01-03"
    assert second.consents()[0].state == REVOKED
    assert second.events()[-2:] == [
        ("CONSENT_REVOKED", "member", ""), ("HOUSEHOLD_LEFT", "member", "removed"),
    ]  # fmt: skip
    assert world.events(household.account)[-1] == ("HOUSEHOLD_LEFT", "member", "removed")


def test_revoking_the_consent_leaves_the_household(world: World) -> None:
    founder, second, _ = world.family(3)
    second.revoke()
    assert second.account not in {
        m.account for m in founder.household().members if not iso(m.end_date)
    }
    assert second.events()[-2:] == [
        ("CONSENT_REVOKED", "customer", ""), ("HOUSEHOLD_LEFT", "customer", "consent over"),
    ]  # fmt: skip
    assert world.events(founder.household().account)[-1] == (
        "HOUSEHOLD_LEFT", "member", "consent over",
    )  # fmt: skip


def test_refusing_the_scope_leaves_the_household(world: World) -> None:
    founder, second = world.family(2)
    household = founder.household().account
    second.refuse()
    assert world.state(household) == SUSPENDED
    with refused("RESOURCE_NOT_FOUND"):
        second.household()


def test_revoking_the_consent_of_an_earlier_membership_leaves_nothing(world: World) -> None:
    founder, second = world.family(2)
    second.leave()
    world.clock.pass_days()
    second.join(founder)
    old = second.consents()[1]
    second.revoke(old)
    assert second.household().state == OPEN


def test_closing_an_account_leaves_the_household(world: World) -> None:
    founder, second, _ = world.family(3)
    household = founder.household().account
    second.close()
    assert world.events(household)[-1] == (
        "HOUSEHOLD_LEFT", "services/identity", "account closed",
    )  # fmt: skip
    assert ("HOUSEHOLD_LEFT", "customer", "account closed") in second.events()
    assert second.consents()[0].state == REVOKED
    # The others keep what they had, and so does the one who is gone.
    assert {m.account: iso(m.end_date) for m in founder.household().members}


def test_a_household_with_members_is_not_closed_by_its_account(world: World) -> None:
    founder, _ = world.family(2)
    household = founder.household().account
    with refused("STATE_CONFLICT"):
        founder.also_for(household).close(household)
    assert world.state(household) == OPEN


def test_a_code_works_for_seven_days_and_not_a_microsecond_longer(world: World) -> None:
    founder = world.open()
    founder.found()
    first, second = founder.invitation(), founder.invitation()
    end = first.expire_time.ToDatetime(world.clock.now.tzinfo)
    assert (end - world.clock.now).days == 7
    world.clock.set(end.replace(microsecond=0))
    with refused("CODE_INVALID"):
        world.open().accept(first.code)
    world.clock.pass_days(-1)
    world.open().accept(second.code)


def test_a_code_may_be_typed_in_capitals_and_groups(world: World) -> None:
    founder = world.open()
    founder.found()
    code = founder.invite()
    assert len(code) == 10
    assert world.open().accept(f"{code[:5]}-{code[5:]}".upper()).state == OPEN


def test_a_code_works_once(world: World) -> None:
    founder = world.open()
    founder.found()
    code = founder.invite()
    world.open().accept(code)
    with refused("CODE_INVALID"):
        world.open().accept(code)


def test_a_code_dies_when_its_inviter_leaves(world: World) -> None:
    founder, second, _ = world.family(3)
    code = second.invite()
    second.leave()
    with refused("CODE_INVALID"):
        world.open().accept(code)
    assert world.open().accept(founder.invite()).state == OPEN


def test_a_retry_of_an_invitation_gives_the_same_code_until_it_is_used(world: World) -> None:
    founder, key = world.open(), request_id()
    founder.found()
    invitation = founder.invitation(key)
    assert founder.invitation(key) == invitation
    assert founder.invite() != invitation.code
    world.open().accept(invitation.code)
    with refused("CODE_INVALID"):
        founder.invitation(key)


def test_no_code_is_stored(world: World) -> None:
    founder = world.open()
    founder.found("secret-name-of-home")
    code = founder.invite()
    for (table,) in world.house.sql("select tablename from pg_tables where schemaname = 'public'"):
        for (row,) in world.house.sql(f"select row_to_json(t)::text from {table} t"):
            assert code not in row
            assert "secret-name-of-home" not in row


def test_retries_change_nothing_and_show_what_is_now(world: World) -> None:
    founder, second = world.open(), world.open()
    keys = [request_id() for _ in range(3)]
    grants = [person.grant() for person in (founder, second)]
    household = founder.found(request=keys[0], consent=grants[0])
    code = founder.invite()
    joined = second.accept(code, request=keys[1], consent=grants[1])
    assert second.accept(code, request=keys[1], consent=grants[1]) == joined
    assert founder.found(request=keys[0], consent=grants[0]) == joined
    end = second.leave(keys[2])
    world.clock.pass_days(3)
    assert second.leave(keys[2]) == end
    # Who has left is shown that the household is there, and nothing of those who live in it.
    after = second.accept(code, request=keys[1], consent=grants[1])
    assert (after.account, after.state) == (household.account, SUSPENDED)
    assert not after.members
    assert not after.display_name
    assert not after.share_periods
    events = [kind for kind, _, _ in world.events(household.account)]
    assert events.count("HOUSEHOLD_JOINED") == 2
    assert events.count("HOUSEHOLD_LEFT") == 1


def test_a_retry_of_a_removal_changes_nothing(world: World) -> None:
    founder, second, key = *world.family(2), request_id()
    first = founder.remove(second, key)
    second.join(founder)
    again = founder.remove(second, key)
    assert again.account == first.account
    assert not iso(again.members[-1].end_date)


def test_who_left_may_join_another_household_from_tomorrow_on(world: World) -> None:
    _, second = world.family(2)
    host = world.open()
    host.found()
    world.clock.pass_days()
    second.leave()
    household = second.join(host)
    assert iso(household.members[-1].start_date) == "2026-01-03"
    assert second.household() == household
    listed = second.memberships().memberships
    assert [(iso(m.start_date), iso(m.end_date)) for m in listed] == [
        ("2026-01-03", ""), ("2026-01-02", "2026-01-03"),
    ]  # fmt: skip


def test_who_left_today_founds_a_household_that_begins_tomorrow(world: World) -> None:
    founder, _ = world.family(2)
    founder.leave()
    household = founder.found()
    assert periods_of(household) == [("2026-01-02", {founder.account: WHOLE})]


def test_an_account_of_a_household_is_of_its_kind_and_has_its_shard(world: World) -> None:
    household = world.open().found().account
    snapshot = world.snapshots()[household]
    assert snapshot.kind == 2
    assert snapshot.shard == account_id_of(household) & 63
