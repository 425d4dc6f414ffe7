"""Children under 14: the guardian opens, sees and decides; coming of age hands over."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from carbonaccount.identity.v1 import (
    account_pb2,
    account_service_pb2,
    binding_service_pb2,
    community_service_pb2,
    consent_service_pb2,
    household_service_pb2,
    privacy_service_pb2,
)
from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.identity.v1.consent_pb2 import Consent, ConsentGrant
from identity_house import (
    READING,
    TRAVEL,
    Customer,
    House,
    grant_of,
    refused,
    request_id,
    served,
    settings_for,
    stamp,
)

from services.identity.upstream.bank_tickets import make_double_ticket
from shared.clock import now_us
from shared.ids import date_to_day

DAY = timedelta(days=1)


class Clock:
    """The real time, moved on by `ahead`."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> int:
        return now_us() + int(self.ahead.total_seconds() * 1e6)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def house(database_url: str, tmp_path: Path, clock: Clock) -> Iterator[House]:
    with served(settings_for(database_url, tmp_path), clock) as running:
        yield running


def fourteen(days: int) -> date:
    """The day of birth of who turns 14 in so many civil days."""
    today = datetime.fromtimestamp(time.time() + 8 * 3600, UTC).date()
    of_age = today + days * DAY
    return date(of_age.year - 14, of_age.month, of_age.day if of_age.month != 2 else 28)


class Family:
    """A grown-up with an account, and a child of whom the bank says who the guardian is."""

    def __init__(self, house: House, days: int = 30) -> None:
        self.house = house
        self.guardian = house.customer()
        self.guardian.open()
        self.child = house.customer()
        self.born = fourteen(days)
        self.guardian.facts["acts_for"] = {}

    def ticket(self, **facts: Any) -> str:
        told = {"guardian_ref": self.guardian.customer_ref, "birth_date": self.born.isoformat()}
        return make_double_ticket(
            self.house.settings.keys_dir, self.child.customer_ref, int(time.time()),
            **{**told, **facts},
        )  # fmt: skip

    def open(
        self, *grants: ConsentGrant, ticket: str = "", request: str = ""
    ) -> pb.OpenWardAccountResponse:
        message = pb.OpenWardAccountRequest(
            parent=self.guardian.account,
            bank_ticket=ticket or self.ticket(),
            account=account_pb2.Account(display_name="小明"),
            consents=grants,
            request_id=request or request_id(),
        )
        answer = self.house.accounts.OpenWardAccount(message, **self.guardian.call)
        self.child.account = answer.account.name
        until = int(time.time()) + 10**8
        self.guardian.facts["acts_for"] = {self.child.account: until}
        return answer

    @property
    def for_child(self) -> Customer:
        """The guardian, with the child's account in mind."""
        guardian = self.guardian
        return _Acting(self.house, guardian.customer_ref, self.child.account, guardian)


class _Acting(Customer):
    """Calls with the token of somebody else."""

    def __init__(self, house: House, customer_ref: str, account: str, holder: Customer) -> None:
        super().__init__(house, customer_ref, account)
        self._holder = holder

    @property
    def call(self) -> dict[str, Any]:
        return self._holder.call


def test_a_guardian_opens_consents_sees_and_withdraws(house: House) -> None:
    family = Family(house)
    answer = family.open(grant_of(TRAVEL), grant_of(READING))
    assert answer.account.guarded_account
    assert all(consent.decided_by_guardian for consent in answer.consents)
    guardian = family.for_child
    assert len(guardian.consents()) == 2
    assert guardian.revoke(answer.consents[0].name).state == Consent.STATE_REVOKED
    asked = pb.ListAccountEventsRequest(parent=family.child.account)
    events = house.accounts.ListAccountEvents(asked, **family.child.call).events
    assert {event.actor for event in events} == {"guardian"}


def test_what_a_guardian_reads_stands_in_the_access_log_and_what_the_child_reads_does_not(
    house: House,
) -> None:
    family = Family(house)
    family.open()
    asked = pb.GetAccountRequest(name=family.child.account)
    house.accounts.GetAccount(asked, **family.guardian.call)
    house.accounts.GetAccount(asked, **family.child.call)
    assert house.sql("select actor, method from access_log") == [("guardian", "GetAccount")]


def test_a_child_opens_nothing_alone(house: House) -> None:
    child = house.customer(own_from_day=date_to_day(fourteen(1)) + 14 * 366)
    with refused("GUARDIAN_REQUIRED"):
        child.open()


def test_a_child_may_withdraw_and_refuse_but_not_grant_change_or_close(house: House) -> None:
    family = Family(house)
    consent = family.open(grant_of(READING)).consents[0]
    child = family.child
    with refused("GUARDIAN_REQUIRED"):
        child.grant(grant_of(TRAVEL))
    with refused("GUARDIAN_REQUIRED"):
        child.close()
    update = pb.UpdateAccountRequest(
        account=account_pb2.Account(name=child.account, display_name="x"), request_id=request_id()
    )
    update.update_mask.paths.append("display_name")
    with refused("GUARDIAN_REQUIRED"):
        house.accounts.UpdateAccount(update, **child.call)
    assert child.revoke(consent.name).state == Consent.STATE_REVOKED


def test_the_bank_names_the_guardian_and_nobody_else_is_one(house: House) -> None:
    family, stranger = Family(house), house.customer()
    stranger.open()
    for ticket in (
        family.ticket(guardian_ref=stranger.customer_ref),
        family.ticket(guardian_ref=""),
        family.ticket(guardian_ref=secrets.token_hex(8)),
    ):
        with refused("CALLER_NOT_ALLOWED"):
            family.open(ticket=ticket)
    assert house.sql("select count(*) from account") == [(2,)]


def test_who_is_14_opens_the_own_account(house: House) -> None:
    family = Family(house, days=0)
    with refused("FIELD_INVALID"):
        family.open()
    family = Family(house, days=1)
    assert family.open().account.guarded_account


def test_a_ticket_opens_one_account_and_a_retry_gives_the_same(house: House) -> None:
    family, key, grant = Family(house), request_id(), grant_of(READING)
    ticket = family.ticket()
    first = family.open(grant, ticket=ticket, request=key)
    assert family.open(grant, ticket=ticket, request=key).account == first.account
    with refused("CODE_INVALID"):
        family.open(grant, ticket=ticket)
    with refused("RESOURCE_EXISTS") as error:
        family.open(grant)
    assert first.account.name not in str(error.value)


def test_coming_of_age_hands_over_and_ends_the_guardians_word(house: House, clock: Clock) -> None:
    family = Family(house, days=30)
    consent = family.open(grant_of(READING)).consents[0]
    # The 14th birthday begins at midnight in UTC+8.
    begins = datetime(family.born.year + 14, family.born.month, family.born.day, tzinfo=UTC)
    begins -= timedelta(hours=8)
    assert consent.expire_time == stamp(begins)
    clock.ahead = begins - datetime.now(UTC) - timedelta(seconds=20)
    assert family.for_child.consents()[0].state == Consent.STATE_GRANTED
    family.for_child.grant(grant_of(READING, expire_time=stamp(begins + DAY)))
    clock.ahead += timedelta(seconds=21)
    with refused("CALLER_NOT_ALLOWED"):
        family.for_child.grant(grant_of(READING))
    states = [c.state for c in family.child.consents()]
    assert set(states) == {Consent.STATE_EXPIRED}
    own = family.child.grant(grant_of(READING))
    assert (own.state, own.decided_by_guardian) == (Consent.STATE_GRANTED, False)


def lists(house: House) -> Iterator[tuple[Any, str, Any]]:
    """Every RPC that lists what hangs on an account: stub, method, request."""
    services = (
        (house.accounts, account_service_pb2),
        (house.consents, consent_service_pb2),
        (house.bindings, binding_service_pb2),
        (house.households, household_service_pb2),
        (house.communities, community_service_pb2),
        (house.privacy, privacy_service_pb2),
    )
    for stub, module in services:
        [service] = module.DESCRIPTOR.services_by_name.values()
        for method in service.methods:
            if method.name.startswith("List") and "parent" in method.input_type.fields_by_name:
                yield stub, method.name, getattr(module, method.input_type.name)


def test_a_token_that_acts_for_an_account_is_not_enough(house: House) -> None:
    """Whoever may act is asked in the database too: a token may outlive the right."""
    person, other = house.customer(), house.customer()
    person.open(grant_of(READING))
    other.open()
    other.facts["acts_for"] = {person.account: int(time.time()) + 3600}
    request = consent_service_pb2.GrantConsentRequest(
        parent=person.account, consent=grant_of(TRAVEL), request_id=request_id()
    )
    with refused("CALLER_NOT_ALLOWED"):
        house.consents.GrantConsent(request, **other.call)
    with refused("CALLER_NOT_ALLOWED"):
        house.accounts.GetAccount(pb.GetAccountRequest(name=person.account), **other.call)
    for stub, method, message in lists(house):
        with refused("CALLER_NOT_ALLOWED"):
            getattr(stub, method)(message(parent=person.account), **other.call)
        getattr(stub, method)(message(parent=person.account), **person.call)
    name = person.consents()[0].name
    revoke = consent_service_pb2.RevokeConsentRequest(name=name, request_id=request_id())
    with refused("CALLER_NOT_ALLOWED"):
        house.consents.RevokeConsent(revoke, **other.call)
