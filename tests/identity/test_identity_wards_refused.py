"""Who opens no account for a child, and that a child may say no by itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from carbonaccount.identity.v1 import account_pb2
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import consent_service_pb2 as consent_pb
from carbonaccount.identity.v1.consent_pb2 import Consent

from services.identity.upstream.bank_tickets import make_double_ticket
from shared.storage.embedded import EmbeddedPostgres
from tests.identity.household_world import NEW_YEAR, Person, World, living_together
from tests.identity.identity_house import READING, SCOPES, refused, request_id

BORN = "2020-01-01"
_children = itertools.count()


@pytest.fixture(scope="module")
def town(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with living_together(postgres, tmp_path_factory) as running:
        yield running


@pytest.fixture
def world(town: World) -> World:
    town.clock.set(NEW_YEAR)
    return town


def open_ward(caller: Person, parent: str, guardian_ref: str) -> str:
    """The account of another child, whose ticket names the guardian."""
    house = caller.world.house
    ticket = make_double_ticket(
        house.settings.keys_dir, f"small-{next(_children)}", caller.world.clock() // 10**6,
        guardian_ref=guardian_ref, birth_date=BORN,
    )  # fmt: skip
    message = account_pb.OpenWardAccountRequest(
        parent=parent, bank_ticket=ticket, account=account_pb2.Account(), request_id=request_id()
    )
    opened: str = house.accounts.OpenWardAccount(message, **caller.call).account.name
    return opened


def accounts(world: World) -> int:
    ((count,),) = world.house.sql("select count(*) from account")
    return int(count)


def test_a_suspended_guardian_opens_no_account(world: World) -> None:
    guardian = world.open()
    world.suspend(guardian)
    before = accounts(world)
    with refused("ACCOUNT_NOT_OPEN") as error:
        open_ward(guardian, guardian.account, guardian.ref)
    assert f"{guardian.account} is suspended" in error.value.details()
    assert accounts(world) == before


def test_a_closed_guardian_opens_no_account(world: World) -> None:
    guardian = world.open()
    guardian.close()
    before = accounts(world)
    with refused("ACCOUNT_NOT_OPEN") as error:
        open_ward(guardian, guardian.account, guardian.ref)
    assert f"{guardian.account} is closed" in error.value.details()
    assert accounts(world) == before


def test_a_ward_is_nobodys_guardian_whoever_calls_for_it(world: World) -> None:
    guardian = world.open()
    child, for_child = world.child(guardian, 30)
    before = accounts(world)
    for caller in (child, for_child):
        with refused("GUARDIAN_REQUIRED"):
            open_ward(caller, child.account, child.ref)
        # The bank names the grown-up and the call the ward: they are not the same.
        with refused("CALLER_NOT_ALLOWED"):
            open_ward(caller, child.account, guardian.ref)
    assert accounts(world) == before
    world.clock.pass_days(30)
    assert open_ward(child, child.account, child.ref)


def test_a_household_is_nobodys_guardian(world: World) -> None:
    founder = world.open()
    household = founder.found().account
    member = founder.also_for(household)
    before = accounts(world)
    # A household is no customer of the bank, so no ticket names it.
    with refused("CALLER_NOT_ALLOWED") as error:
        open_ward(member, household, founder.ref)
    assert "does not name the holder" in error.value.details()
    assert accounts(world) == before
    assert open_ward(member, founder.account, founder.ref)


def test_a_guardian_acts_with_the_own_token_alone(world: World) -> None:
    guardian, other = world.open(), world.open()
    before = accounts(world)
    with refused("GUARDIAN_REQUIRED"):
        open_ward(other.also_for(guardian.account), guardian.account, guardian.ref)
    assert accounts(world) == before


def refuse(person: Person) -> Consent:
    message = consent_pb.RefuseConsentRequest(
        parent=person.account, scope=READING, notice_digest=SCOPES[READING].notice_digest,
        request_id=request_id(),
    )  # fmt: skip
    answer: Consent = person.world.house.consents.RefuseConsent(message, **person.call).consent
    return answer


def test_a_child_says_no_by_itself(world: World) -> None:
    child, _ = world.child(world.open(), 30)
    consent = refuse(child)
    assert (consent.state, consent.decided_by_guardian) == (Consent.STATE_REFUSED, False)
    assert child.consents(READING) == [consent]
    assert child.events()[-1] == ("CONSENT_REFUSED", "customer", "")


def test_a_childs_no_ends_what_the_guardian_agreed_to(world: World) -> None:
    child, for_child = world.child(world.open(), 30)
    world.house.consents.GrantConsent(
        consent_pb.GrantConsentRequest(
            parent=child.account, consent=for_child.grant(READING), request_id=request_id()
        ),
        **for_child.call,
    )
    no = refuse(child)
    newest, older = child.consents(READING)
    assert newest == no
    assert (older.state, older.revoke_time) == (Consent.STATE_REVOKED, no.grant_time)
    assert older.decided_by_guardian
    assert refuse(for_child) == no  # a guardian's no to the same notice adds nothing
