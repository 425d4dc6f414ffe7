"""Retries that come late change nothing, and show nothing to whoever has no right any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from carbonaccount.feed.v1 import feed_service_pb2 as feed_pb
from carbonaccount.feed.v1 import feed_service_pb2_grpc as feed_grpc
from carbonaccount.identity.v1 import account_pb2, consent_service_pb2
from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.identity.v1.account_pb2 import Account
from carbonaccount.identity.v1.consent_pb2 import Consent
from family_world import Clock, Family
from identity_house import (
    READING,
    TRAVEL,
    House,
    grant_of,
    refused,
    request_id,
)


def grow_up(family: Family, clock: Clock) -> None:
    """The child is fourteen since a minute."""
    begins = datetime(family.born.year + 14, family.born.month, family.born.day, tzinfo=UTC)
    clock.ahead = begins - timedelta(hours=8) - datetime.now(UTC) + timedelta(minutes=1)


def test_a_late_retry_neither_reinstates_nor_suspends_again(house: House) -> None:
    person = house.customer()
    person.open()
    name = person.account
    suspend = pb.SuspendAccountRequest(name=name, cause="a complaint", request_id=request_id())
    reinstate = pb.ReinstateAccountRequest(name=name, cause="settled", request_id=request_id())
    assert house.accounts.SuspendAccount(suspend, **house.operator)
    assert house.accounts.ReinstateAccount(reinstate, **house.operator)
    again = house.accounts.SuspendAccount(suspend, **house.operator)
    assert again.account.state == Account.STATE_OPEN
    fraud = pb.SuspendAccountRequest(name=name, cause="fraud", request_id=request_id())
    house.accounts.SuspendAccount(fraud, **house.operator)
    again = house.accounts.ReinstateAccount(reinstate, **house.operator)
    assert again.account.state == Account.STATE_SUSPENDED
    assert house.sql("select count(*) from event where kind <> 1") == [(3,)]


def test_a_retried_opening_tells_what_was_granted_and_no_outcomes(house: House) -> None:
    person, key = house.customer(), request_id()
    asked = [grant_of(READING, notice_digest=b"\0" * 32), grant_of(TRAVEL)]
    first = person.open(*asked, request=key)
    assert [outcome.WhichOneof("result") for outcome in first.outcomes] == ["refusal", "consent"]
    person.grant(grant_of(READING))
    person.revoke(first.consents[0].name)
    again = person.open(*asked, request=key)
    assert not again.outcomes
    assert [consent.name for consent in again.consents] == [first.consents[0].name]
    assert again.consents[0].state == Consent.STATE_REVOKED


def test_a_retried_withdrawal_has_a_token_that_can_be_waited_for(house: House) -> None:
    person = house.customer()
    name = person.open(grant_of(READING)).consents[0].name
    request = consent_service_pb2.RevokeConsentRequest(name=name, request_id=request_id())
    first = house.consents.RevokeConsent(request, **person.call)
    again = house.consents.RevokeConsent(request, **person.call)
    assert again.freshness_token == first.freshness_token
    feed = feed_grpc.FeedServiceStub(house.channel)
    asked = feed_pb.AwaitFreshnessRequest(freshness_token=again.freshness_token)
    feed.AwaitFreshness(asked, **person.call)


def test_what_a_guardian_once_asked_is_answered_while_the_guardian_is_one(
    house: House, clock: Clock
) -> None:
    family = Family(house)
    opening = pb.OpenWardAccountRequest(
        parent=family.guardian.account, bank_ticket=family.ticket(), request_id=request_id(),
        account=account_pb2.Account(display_name="小明"),
    )  # fmt: skip
    ward = house.accounts.OpenWardAccount(opening, **family.guardian.call).account.name
    family.guardian.facts["acts_for"] = {ward: 2**40}
    naming = pb.UpdateAccountRequest(
        account=account_pb2.Account(name=ward, display_name="明明"), request_id=request_id()
    )
    naming.update_mask.paths.append("display_name")
    granting = consent_service_pb2.GrantConsentRequest(
        parent=ward, consent=grant_of(READING), request_id=request_id()
    )
    calls = (
        (house.accounts.OpenWardAccount, opening),
        (house.accounts.UpdateAccount, naming),
        (house.consents.GrantConsent, granting),
    )
    for call, message in calls * 2:
        call(message, **family.guardian.call)
    # The opening shows the name that the guardian gave, its retry the name of then.
    seen = house.sql("select method from access_log order by number")
    assert seen == [("OpenWardAccount",), ("UpdateAccount",)] * 2
    grow_up(family, clock)
    for call, message in calls:
        with refused("CALLER_NOT_ALLOWED"):
            call(message, **family.guardian.call)
    assert len(house.sql("select from access_log")) == 4
