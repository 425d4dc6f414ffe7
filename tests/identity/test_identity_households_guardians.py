"""Children in households: the guardian decides, the child may leave, the 14th birthday ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest
from carbonaccount.identity.v1.consent_pb2 import Consent

from services.identity.keeping import end_lapsing
from services.identity.rpc.desk import Desk
from services.identity.storage.register import Register
from services.identity.storage.vault import Vault
from services.identity.together import ending_of
from services.identity.upstream.key_management import FileKeyManagement
from services.identity.wiring import load_scopes
from shared.feed.watch import Signal
from shared.ids import account_id_of
from shared.rpc.paging import PageTokens
from shared.service import load_secret
from shared.storage.embedded import EmbeddedPostgres
from shared.storage.engine import Database
from tests.identity.household_world import (
    NEW_YEAR,
    OPEN,
    SUSPENDED,
    Person,
    World,
    iso,
    living_together,
    periods_of,
)
from tests.identity.identity_house import refused


@pytest.fixture(scope="module")
def town(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with living_together(postgres, tmp_path_factory) as running:
        yield running


@pytest.fixture
def world(town: World) -> World:
    town.clock.set(NEW_YEAR)
    return town


def family(world: World, days: int = 30) -> tuple[Person, Person, Person]:
    """Parent, child, and the parent acting for the child, who has joined the parent's home."""
    parent = world.open()
    child, for_child = world.child(parent, days)
    parent.found()
    for_child.join(parent)
    return parent, child, for_child


def look(world: World) -> int:
    """One look of the service for memberships that lose their consent today."""
    settings = world.house.settings

    async def run() -> int:
        database = Database(settings.database_url)
        secret = load_secret(settings.keys_dir, "identity")
        vault = Vault(FileKeyManagement(settings.keys_dir / "wrapping"), settings.cipher)
        desk = Desk(
            database=database, reads=database, register=partial(Register, vault=vault),
            ending=lambda register: ending_of(register, desk), scopes=load_scopes(), secret=secret,
            page_tokens=PageTokens(secret), signal=Signal(), clock=world.clock,
        )  # fmt: skip
        try:
            return await end_lapsing(desk)
        finally:
            database.close()

    return asyncio.run(run())


def test_a_guardian_joins_for_a_child_and_that_is_on_record(world: World) -> None:
    parent, child, _ = family(world)
    assert child.household().state == OPEN
    (consent,) = child.consents()
    assert consent.decided_by_guardian
    assert ("HOUSEHOLD_JOINED", "guardian", "") in child.events()
    assert world.events(child.household().account)[-2][:2] == ("HOUSEHOLD_JOINED", "member")
    assert sum(share.share_ppm for share in parent.shares("2026-01-02").shares) == 1_000_000


def test_a_guardian_who_sees_the_household_stands_in_its_access_log(world: World) -> None:
    parent, child, for_child = family(world)
    household = account_id_of(child.household().account)
    query = "select actor, method from access_log where account_id = %s order by number"
    assert world.house.sql(query, household) == [("member", "AcceptInvitation")]
    parent.household()
    assert for_child.household().display_name
    looked = ("member", "GetHousehold")
    assert world.house.sql(query, household) == [("member", "AcceptInvitation"), looked]


def test_a_child_founds_joins_invites_proposes_signs_splits_and_removes_nothing(
    world: World,
) -> None:
    parent, child, for_child = family(world)
    other, _ = world.child(world.open(), 30)
    code, weights = parent.invite(), {child.account: 1, parent.account: 1}
    parent.propose(weights)
    for attempt in (
        other.found,
        lambda: other.accept(code),
        child.invite,
        child.split,
        lambda: child.propose(weights),
        lambda: child.sign(1),
        lambda: child.remove(parent),
    ):
        with refused("GUARDIAN_REQUIRED"):
            attempt()
    assert periods_of(for_child.sign(1))
    for_child.invite()


def test_a_signature_says_that_the_guardian_gave_it(world: World) -> None:
    parent, child, for_child = family(world)
    parent.propose({child.account: 1, parent.account: 3})
    for_child.sign(1)
    query = "select by_guardian from share_signature where household_id = %s order by member"
    home = account_id_of(parent.household().account)
    assert world.house.sql(query, home) == [(False,), (True,)]


def test_a_child_leaves_and_withdraws_by_itself(world: World) -> None:
    parent, child, for_child = family(world)
    assert child.leave() == "2026-01-02"
    for_child.join(parent)
    child.revoke()
    assert parent.household().state == SUSPENDED
    assert [consent.state for consent in child.consents()] == [Consent.STATE_REVOKED] * 2


def test_a_guardian_founds_a_household_for_a_child(world: World) -> None:
    parent = world.open()
    child, for_child = world.child(parent, 30)
    household = for_child.found()
    assert [member.account for member in household.members] == [child.account]
    # The household is nobody's child: its own consent does not end with the guardianship.
    (home,) = world.snapshots()[household.account].consents
    assert not home.HasField("expire_time")
    assert not home.decided_by_guardian


def test_a_guardian_whose_time_is_over_reads_and_changes_nothing(world: World) -> None:
    _, child, for_child = family(world, days=30)
    world.clock.pass_days(30)
    for attempt in (
        for_child.household, for_child.memberships, for_child.shares, for_child.leave,
        for_child.invite,
    ):  # fmt: skip
        with refused("CALLER_NOT_ALLOWED"):
            attempt()
    assert child.household()


def test_a_membership_ends_with_the_guardians_word_on_the_14th_birthday(world: World) -> None:
    parent, child, _ = family(world, days=10)
    household = parent.household().account
    world.clock.pass_days(8)
    assert look(world) == 0
    world.clock.pass_days()
    assert [look(world), look(world)] == [1, 0]
    (membership,) = child.memberships().memberships
    (consent,) = child.consents()
    # The consent is over with the last microsecond of the last day of the membership.
    assert iso(membership.end_date) == "2026-01-11"
    assert consent.expire_time.ToJsonString() == "2026-01-10T16:00:00Z"
    assert world.state(household) == SUSPENDED
    assert child.events()[-1] == ("HOUSEHOLD_LEFT", "services/identity", "consent over")
    world.clock.pass_days()
    child.join(parent)
    assert look(world) == 0
    assert child.household().state == OPEN
