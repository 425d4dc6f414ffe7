"""Granting, listing and revoking consents, over gRPC."""

from __future__ import annotations

import hashlib

import pytest
from carbonaccount.identity.v1.consent_pb2 import Consent, ConsentGrant
from carbonaccount.identity.v1.consent_service_pb2 import (
    GrantConsentRequest,
    ListConsentsRequest,
    ListScopesRequest,
)
from google.protobuf.timestamp_pb2 import Timestamp
from identity_house import (
    FINANCE,
    MICROSECOND,
    OFFERED,
    READING,
    TRAVEL,
    House,
    grant_of,
    refused,
    request_id,
    soon,
    stamp,
)


def test_a_stranger_reads_every_scope_with_the_digest_of_its_words(house: House) -> None:
    scopes = house.consents.ListScopes(ListScopesRequest(), timeout=10).scopes
    assert [scope.name for scope in scopes[:5]] == [
        f"scopes/{family}-collect"
        for family in ("travel", "finance", "recycling", "reading", "home")
    ]
    for scope in scopes:
        words = f"{scope.notice_zh}\n{scope.notice_en}".encode()
        assert scope.notice_digest == hashlib.sha256(words).digest()
        assert "演示" in scope.notice_zh
        assert "Demonstration" in scope.notice_en
    assert scopes[0].cover_from_earliest_time == stamp(OFFERED)


def test_a_grant_covers_from_its_own_moment_unless_told_otherwise(house: House) -> None:
    person = house.customer()
    person.open()
    consent = person.grant(grant_of(READING))
    assert consent.cover_from_time == consent.grant_time
    assert not consent.HasField("revoke_time")


def test_a_notice_that_is_not_in_force_is_refused(house: House) -> None:
    person = house.customer()
    person.open()
    with refused("NOTICE_STALE"):
        person.grant(ConsentGrant(scope=TRAVEL, notice_digest=b"\1" * 32))


def test_the_notice_of_another_scope_is_refused(house: House) -> None:
    person = house.customer()
    person.open()
    other = grant_of(FINANCE)
    other.scope = TRAVEL
    with refused("NOTICE_STALE"):
        person.grant(other)


def test_an_unknown_scope_is_refused(house: House) -> None:
    person = house.customer()
    person.open()
    with refused("RESOURCE_NOT_FOUND"):
        person.grant(ConsentGrant(scope="scopes/nothing", notice_digest=b"\1" * 32))


def test_cover_may_begin_at_the_moment_that_the_notice_offers(house: House) -> None:
    answer = house.customer().open(grant_of(TRAVEL, cover_from_time=stamp(OFFERED)))
    assert answer.consents[0].cover_from_time == stamp(OFFERED)


def test_cover_may_not_begin_one_microsecond_earlier(house: House) -> None:
    person = house.customer()
    person.open()
    with refused("FIELD_INVALID"):
        person.grant(grant_of(TRAVEL, cover_from_time=stamp(OFFERED - MICROSECOND)))


def test_cover_may_not_begin_early_where_the_notice_offers_nothing(house: House) -> None:
    person = house.customer()
    person.open()
    with refused("FIELD_INVALID"):
        person.grant(grant_of(READING, cover_from_time=stamp(OFFERED)))


def test_cover_may_not_begin_in_the_future(house: House) -> None:
    person = house.customer()
    person.open()
    with refused("FIELD_INVALID"):
        person.grant(grant_of(TRAVEL, cover_from_time=soon(60)))


@pytest.mark.parametrize("field", ["cover_from_time", "expire_time"])
@pytest.mark.parametrize("seconds", [-(10**15), 10**15])
def test_a_moment_outside_the_calendar_is_refused(house: House, field: str, seconds: int) -> None:
    person = house.customer()
    person.open()
    with refused("FIELD_INVALID"):
        person.grant(grant_of(TRAVEL, **{field: Timestamp(seconds=seconds)}))


def test_a_grant_that_says_the_same_returns_the_consent_in_force(house: House) -> None:
    person = house.customer()
    first = person.open(grant_of(TRAVEL)).consents[0]
    assert person.grant(grant_of(TRAVEL)) == first
    assert house.sql("select count(*) from consent") == [(1,)]


def test_a_grant_that_says_more_replaces_the_one_in_force_at_the_same_instant(house: House) -> None:
    person = house.customer()
    first = person.open(grant_of(TRAVEL)).consents[0]
    second = person.grant(grant_of(TRAVEL, cover_from_time=stamp(OFFERED)))
    assert second.name != first.name
    newest, older = person.consents()
    assert (newest.state, older.state) == (Consent.STATE_GRANTED, Consent.STATE_REVOKED)
    assert older.revoke_time == newest.grant_time


def test_a_retry_of_a_grant_returns_the_consent_as_it_stands_now(house: House) -> None:
    person, key, grant = house.customer(), request_id(), grant_of(TRAVEL)
    person.open()
    granted = person.grant(grant, key)
    revoked = person.revoke(granted.name)
    assert person.grant(grant, key) == revoked
    assert len(person.consents()) == 1


def test_the_same_request_for_another_scope_is_refused(house: House) -> None:
    person, key = house.customer(), request_id()
    person.open()
    person.grant(grant_of(TRAVEL), key)
    with refused("REQUEST_ID_REUSED"):
        person.grant(grant_of(FINANCE), key)


def test_a_customer_grants_nothing_for_somebody_else(house: House) -> None:
    person, other = house.customer(), house.customer()
    person.open()
    other.open()
    request = GrantConsentRequest(
        parent=other.account, consent=grant_of(TRAVEL), request_id=request_id()
    )
    with refused("CALLER_NOT_ALLOWED"):
        house.consents.GrantConsent(request, **person.call)


def test_revoking_twice_keeps_the_first_moment(house: House) -> None:
    person = house.customer()
    name = person.open(grant_of(TRAVEL)).consents[0].name
    assert person.revoke(name) == person.revoke(name)
    assert house.sql("select count(*) from event where kind = 4") == [(1,)]


def test_a_consent_that_does_not_exist_is_not_revoked(house: House) -> None:
    person = house.customer()
    person.open(grant_of(TRAVEL))
    with refused("RESOURCE_NOT_FOUND"):
        person.revoke(f"{person.account}/consents/2")
    with refused("FIELD_INVALID"):
        person.revoke(f"{person.account}/consents/x")


def test_a_closed_account_grants_nothing(house: House) -> None:
    person = house.customer()
    person.open()
    person.close()
    with refused("ACCOUNT_NOT_OPEN"):
        person.grant(grant_of(TRAVEL))


def test_consents_come_in_pages_newest_first(house: House) -> None:
    person = house.customer()
    person.open()
    for place in range(5):
        person.grant(grant_of(TRAVEL, cover_from_time=stamp(OFFERED + place * MICROSECOND)))
    names, token = [], ""
    while True:
        page = house.consents.ListConsents(
            ListConsentsRequest(parent=person.account, page_size=2, page_token=token), **person.call
        )
        assert len(page.consents) <= 2
        names += [consent.name.rpartition("/")[2] for consent in page.consents]
        token = page.next_page_token
        if not token:
            break
    assert names == ["5", "4", "3", "2", "1"]


def test_a_page_token_of_another_account_is_refused(house: House) -> None:
    person, other = house.customer(), house.customer()
    person.open(grant_of(TRAVEL), grant_of(FINANCE))
    other.open()
    asked = ListConsentsRequest(parent=person.account, page_size=1)
    token = house.consents.ListConsents(asked, **person.call).next_page_token
    asked = ListConsentsRequest(parent=other.account, page_size=1, page_token=token)
    with refused("PAGE_TOKEN_INVALID"):
        house.consents.ListConsents(asked, **other.call)


def test_the_consents_of_no_account_are_not_found(house: House) -> None:
    with refused("RESOURCE_NOT_FOUND"):
        house.consents.ListConsents(
            ListConsentsRequest(parent="accounts/0000000000001"), **house.operator
        )
