"""Children under 14: the guardian opens, sees and decides; coming of age hands over."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

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
from carbonaccount.identity.v1.consent_pb2 import Consent
from family_world import DAY, Clock, Family, fourteen
from identity_house import (
    READING,
    TRAVEL,
    House,
    grant_of,
    refused,
    request_id,
    stamp,
)

from shared.ids import date_to_day


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


def test_what_a_guardian_changes_shows_no_name_or_stands_in_the_access_log(house: House) -> None:
    family = Family(house)
    name = family.open().account.name
    update = pb.UpdateAccountRequest(
        account=account_pb2.Account(name=name), request_id=request_id()
    )
    update.update_mask.paths.append("preferences.language")
    shown = house.accounts.UpdateAccount(update, **family.guardian.call).account
    assert shown.display_name == "小明"
    assert house.sql("select actor, method from access_log") == [("guardian", "UpdateAccount")]
    close = pb.CloseAccountRequest(name=name, request_id=request_id())
    for _ in range(2):
        closed = house.accounts.CloseAccount(close, **family.guardian.call).account
        assert (closed.display_name, closed.guarded_account) == ("", True)
    assert house.accounts.CloseAccount(close, **family.guardian.call)
    assert len(house.sql("select from access_log")) == 1


def test_as_of_a_moment_an_account_is_guarded_as_it_was(house: House, clock: Clock) -> None:
    family = Family(house, days=30)
    opened = family.open().account
    clock.ahead = 31 * DAY
    own = house.accounts.GetAccount(pb.GetAccountRequest(name=opened.name), **family.child.call)
    assert not own.account.guarded_account
    asked = pb.GetAccountRequest(name=opened.name, read_time=opened.open_time)
    assert house.accounts.GetAccount(asked, **family.child.call).account.guarded_account


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
