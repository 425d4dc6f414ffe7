"""Splitting a household: every day has one list, and every member is on one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from carbonaccount.identity.v1.consent_pb2 import Consent

from shared.storage.embedded import EmbeddedPostgres
from tests.identity.household_world import (
    CLOSED,
    NEW_YEAR,
    OPEN,
    SUSPENDED,
    WHOLE,
    World,
    iso,
    living_together,
    members_of,
    of,
    periods_of,
)
from tests.identity.identity_house import refused, request_id


@pytest.fixture(scope="module")
def town(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with living_together(postgres, tmp_path_factory) as running:
        yield running


@pytest.fixture
def world(town: World) -> World:
    town.clock.set(NEW_YEAR)
    return town


def test_a_split_begins_tomorrow_with_the_mover_as_head(world: World) -> None:
    founder, second, third = world.family(3)
    old = founder.household().account
    world.clock.pass_days(9)
    answer = third.split(second, name="新居")
    new = answer.household
    assert (new.display_name, new.state) == ("新居", SUSPENDED)
    assert [(m.account, iso(m.start_date), m.household_head) for m in new.members] == [
        (third.account, "2026-01-11", True)
    ]
    assert periods_of(new) == [("2026-01-11", {third.account: WHOLE})]
    assert [invitation.member for invitation in answer.invitations] == [second.account]
    assert world.state(old) == OPEN
    assert of(world.shares(old, "2026-01-10").shares).keys() == {
        founder.account, second.account, third.account,
    }  # fmt: skip
    assert of(world.shares(old, "2026-01-11").shares).keys() == {founder.account, second.account}


def test_whoever_comes_along_leaves_and_joins_in_one_moment(world: World) -> None:
    founder, second, third = world.family(3)
    old = founder.household().account
    world.clock.pass_days(9)
    code = third.split(second).invitations[0].code
    new = second.accept(code)
    assert new.state == OPEN
    assert world.state(old) == SUSPENDED
    assert [(iso(m.start_date), iso(m.end_date)) for m in second.memberships().memberships] == [
        ("2026-01-11", ""), ("2026-01-02", "2026-01-11"),
    ]  # fmt: skip
    first, last = second.consents()[::-1]
    assert first.revoke_time == last.grant_time
    assert (first.state, last.state) == (Consent.STATE_REVOKED, Consent.STATE_GRANTED)
    assert second.events()[-4:] == [
        ("CONSENT_REVOKED", "customer", ""),
        ("HOUSEHOLD_LEFT", "customer", ""),
        ("CONSENT_GRANTED", "customer", ""),
        ("HOUSEHOLD_JOINED", "customer", ""),
    ]


def test_every_day_of_a_split_has_one_list_for_each_person(world: World) -> None:
    people = world.family(4)
    old = people[0].household().account
    world.clock.pass_days(4)
    answer = people[3].split(people[2])
    world.clock.pass_days(2)
    people[2].accept(answer.invitations[0].code)
    world.clock.pass_days(2)
    for date in ("2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08", "2026-01-09"):
        lists = [of(world.shares(old, date).shares)]
        if date > "2026-01-05":
            lists.append(of(world.shares(answer.household.account, date).shares))
        assert sorted(one for shares in lists for one in shares) == sorted(
            person.account for person in people
        )
        assert all(sum(shares.values()) == WHOLE for shares in lists)


def test_the_code_of_a_split_is_for_one_member_only(world: World) -> None:
    founder, second, third = world.family(3)
    code = third.split(second).invitations[0].code
    for other in (founder, world.open()):
        with refused("CODE_INVALID"):
            other.accept(code)
    assert second.accept(code).state == OPEN


def test_who_stays_and_goes_later_needs_a_code_that_still_works(world: World) -> None:
    founder, second, third = world.family(3)
    code = third.split(second).invitations[0].code
    world.clock.pass_days(7)
    with refused("CODE_INVALID"):
        second.accept(code)
    assert second.household().account == founder.household().account


def test_who_has_left_the_old_household_may_come_along_all_the_same(world: World) -> None:
    _, second, third = world.family(3)
    code = third.split(second).invitations[0].code
    second.leave()
    assert members_of(second.accept(code)) == [third.account, second.account]


def test_who_has_gone_elsewhere_does_not_come_along(world: World) -> None:
    _, second, third = world.family(3)
    code = third.split(second).invitations[0].code
    second.leave()
    host = world.open()
    host.found()
    second.join(host)
    with refused("STATE_CONFLICT"):
        second.accept(code)
    assert second.household().account == host.household().account


def test_the_codes_of_a_split_die_with_its_mover(world: World) -> None:
    founder, second, third = world.family(3)
    answer = third.split(second)
    third.leave()
    assert world.state(answer.household.account) == CLOSED
    with refused("CODE_INVALID"):
        second.accept(answer.invitations[0].code)
    assert second.household().account == founder.household().account
    # It never had a day.
    snapshot = world.snapshots()[answer.household.account]
    assert [len(period.shares) for period in snapshot.share_periods] == [0]


def test_the_head_may_split_and_the_next_in_line_heads_the_old_one(world: World) -> None:
    founder, second, _ = world.family(3)
    founder.split()
    heads = [m.account for m in second.household().members if m.household_head]
    assert heads == [second.account]


def test_the_last_member_splits_alone_and_the_old_household_closes(world: World) -> None:
    founder, second = world.family(2)
    second.leave()
    old = founder.household().account
    new = founder.split().household
    assert (world.state(old), new.state) == (CLOSED, SUSPENDED)
    assert founder.household() == new


def test_a_split_twice_on_one_day_leaves_an_empty_household_behind(world: World) -> None:
    founder, _ = world.family(2)
    first = founder.split().household.account
    second = founder.split().household
    assert world.state(first) == CLOSED
    assert periods_of(second) == [("2026-01-02", {founder.account: WHOLE})]


def test_a_retry_of_a_split_gives_the_same_household_and_the_codes_that_still_work(
    world: World,
) -> None:
    _, second, third, fourth = world.family(4)
    key, grant = request_id(), third.grant()
    answer = third.split(second, fourth, request=key, consent=grant)
    assert third.split(second, fourth, request=key, consent=grant) == answer
    assert len({invitation.code for invitation in answer.invitations}) == 2
    second.accept(answer.invitations[0].code)
    again = third.split(second, fourth, request=key, consent=grant)
    assert again.household.account == answer.household.account
    assert list(again.invitations) == [answer.invitations[1]]
    assert again.expire_time == answer.expire_time


def test_two_households_merge_by_one_household_joining_the_other(world: World) -> None:
    host, guest = world.family(2), world.family(2)
    old = guest[0].household().account
    world.clock.pass_days(3)
    for person in guest:
        person.leave()
        person.join(host[0])
    assert world.state(old) == CLOSED
    world.clock.pass_days()
    shares = of(host[0].shares("2026-01-05").shares)
    assert set(shares.values()) == {WHOLE // 4}
    assert [(iso(p.start_date), len(p.shares)) for p in world.snapshots()[old].share_periods] == [
        ("2026-01-01", 1), ("2026-01-02", 2), ("2026-01-05", 0),
    ]  # fmt: skip
