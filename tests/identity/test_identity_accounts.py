"""Opening, finding and closing accounts, over gRPC."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import grpc
import pytest
from carbonaccount.identity.v1 import account_pb2
from carbonaccount.identity.v1.account_service_pb2 import (
    CloseAccountRequest,
    GetAccountRequest,
    LookUpAccountRequest,
    OpenAccountRequest,
    OpenAccountResponse,
)
from carbonaccount.identity.v1.consent_pb2 import Confirmation, Consent
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from identity_house import (
    FINANCE,
    READING,
    TRAVEL,
    House,
    confirmation,
    grant_of,
    refused,
    request_id,
    soon,
)

from shared.rpc.status import reason_of

OPEN, CLOSED = account_pb2.Account.STATE_OPEN, account_pb2.Account.STATE_CLOSED


def test_one_tap_opens_an_account_with_its_consents_in_the_order_asked(house: House) -> None:
    answer = house.customer().open(
        grant_of(FINANCE), grant_of(TRAVEL), name="阿明", region="440300"
    )
    assert answer.account.state == OPEN
    assert (answer.account.display_name, answer.account.region_code) == ("阿明", "440300")
    assert [c.scope for c in answer.consents] == [FINANCE, TRAVEL]
    assert all(c.state == Consent.STATE_GRANTED for c in answer.consents)


def field_of(status: status_pb2.Status) -> str:
    """The field that a refused item names."""
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            return str(bad.field_violations[0].field)
    return ""


def outcomes(answer: OpenAccountResponse) -> list[str]:
    """For each consent asked its scope, or the reason of its refusal."""
    return [o.consent.scope or reason_of(o.refusal) for o in answer.outcomes]


def test_one_tap_needs_no_consent_at_all(house: House) -> None:
    answer = house.customer().open()
    assert answer.account.state == OPEN
    assert not answer.consents
    assert not answer.outcomes


def test_a_consent_that_cannot_be_granted_is_refused_and_the_account_opens_all_the_same(
    house: House,
) -> None:
    stale, unconfirmed = grant_of(READING), grant_of(TRAVEL)
    stale.notice_digest = b"\0" * 32
    unconfirmed.ClearField("confirmation")
    answer = house.customer().open(stale, unconfirmed, grant_of(FINANCE))
    assert answer.account.state == OPEN
    assert outcomes(answer) == ["NOTICE_STALE", "CONFIRMATION_MISSING", FINANCE]
    assert [c.scope for c in answer.consents] == [FINANCE]
    fields = [field_of(outcome.refusal) for outcome in answer.outcomes[:2]]
    assert fields == ["consents[0].notice_digest", "consents[1].confirmation"]


def test_two_sensitive_scopes_cannot_share_one_confirmation(house: House) -> None:
    tap = confirmation()
    answer = house.customer().open(
        grant_of(TRAVEL, confirmation=tap), grant_of(FINANCE, confirmation=tap)
    )
    assert outcomes(answer) == [TRAVEL, "CONFIRMATION_MISSING"]


def test_a_scope_that_is_not_sensitive_needs_no_confirmation(house: House) -> None:
    answer = house.customer().open(grant_of(READING))
    assert not answer.consents[0].HasField("confirmation")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(290, TRAVEL), (310, "FIELD_INVALID"), (-3590, TRAVEL), (-3610, "FIELD_INVALID")],
)
def test_a_confirmation_is_of_the_last_hour_by_a_clock_five_minutes_ahead_at_most(
    house: House, seconds: int, expected: str
) -> None:
    tap = confirmation(seconds)
    assert outcomes(house.customer().open(grant_of(TRAVEL, confirmation=tap))) == [expected]


@pytest.mark.parametrize("screen", ["Travel", "a b", "x" * 65, "", "出行"])
def test_a_screen_is_a_name_and_no_text(house: House, screen: str) -> None:
    tap = Confirmation(confirm_time=soon(0), screen=screen)
    assert outcomes(house.customer().open(grant_of(TRAVEL, confirmation=tap))) == ["FIELD_INVALID"]


def test_a_scope_named_twice_is_granted_once(house: House) -> None:
    answer = house.customer().open(grant_of(READING), grant_of(READING))
    assert outcomes(answer) == [READING, READING]
    assert answer.outcomes[0].consent == answer.outcomes[1].consent


def test_a_second_account_for_the_same_person_is_refused(house: House) -> None:
    person = house.customer()
    first = person.open(grant_of(TRAVEL), name="first").account
    with refused("RESOURCE_EXISTS") as error:
        person.open(grant_of(FINANCE), name="second")
    assert first.name.encode() in rpc_status.from_call(error.value).details[0].value
    assert len(person.consents()) == 1


def test_the_same_person_through_another_relation_has_an_account_already(house: House) -> None:
    card = house.customer(person_ref="person-1", customer_kind=1)
    debit = house.customer(person_ref="person-1", customer_kind=2)
    card.open()
    with refused("RESOURCE_EXISTS"):
        debit.open()
    assert house.customer(person_ref="person-2").open().account.state == OPEN


@pytest.mark.parametrize("kind", range(4))
def test_the_kind_of_customer_is_what_the_bank_said(house: House, kind: int) -> None:
    assert house.customer(customer_kind=kind).open().account.customer_kind == kind


def test_two_customers_have_two_accounts(house: House) -> None:
    assert house.customer().open().account.name != house.customer().open().account.name


@pytest.mark.parametrize("one_request", [True, False])
def test_a_hundred_openings_at_once_give_one_account(house: House, one_request: bool) -> None:
    person, key, start = house.customer(), request_id(), Barrier(100)
    grant = grant_of(TRAVEL)

    def attempt(_: int) -> str:
        start.wait()
        try:
            return person.open(grant, request=key if one_request else "").account.name
        except grpc.RpcError as error:
            return reason_of(error)

    with ThreadPoolExecutor(100) as crowd:
        answers = Counter(crowd.map(attempt, range(100)))
    refusals = answers.pop("RESOURCE_EXISTS", 0)
    assert refusals == (0 if one_request else 99)
    assert len(answers) == 1
    assert house.sql("select count(*) from account") == [(1,)]
    assert house.sql("select count(*) from consent") == [(1,)]
    assert house.sql("select count(*) from event where kind = 1") == [(1,)]


def test_the_same_request_with_other_content_is_refused_by_method(house: House) -> None:
    person, key = house.customer(), request_id()
    person.open(name="one", request=key)
    with refused("REQUEST_ID_REUSED") as error:
        person.open(name="two", request=key)
    status = rpc_status.from_call(error.value)  # type: ignore[arg-type]
    assert status is not None
    assert b"OpenAccount" in status.details[0].value


def test_a_request_id_of_another_method_is_refused(house: House) -> None:
    person, key = house.customer(), request_id()
    person.open(request=key)
    with refused("REQUEST_ID_REUSED"):
        person.close(request=key)


def test_two_customers_may_use_the_same_request_id(house: House) -> None:
    key = request_id()
    assert house.customer().open(request=key).account != house.customer().open(request=key).account


@pytest.mark.parametrize("bad", ["not-a-uuid", "0" * 32, "g" * 8 + "-0000-4000-8000-" + "0" * 12])
def test_a_request_id_that_is_no_uuid_is_refused(house: House, bad: str) -> None:
    with refused("FIELD_INVALID"):
        house.customer().open(request=bad)


@pytest.mark.parametrize("region", ["44030", "4403001", "04403a", "000000", "４４０３００"])
def test_a_region_that_is_not_six_digits_is_refused(house: House, region: str) -> None:
    with refused("FIELD_INVALID"):
        house.customer().open(region=region)


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "x" * 65])
def test_a_display_name_that_cannot_be_shown_is_refused(house: House, name: str) -> None:
    with refused("FIELD_INVALID"):
        house.customer().open(name=name)


def test_a_display_name_may_be_64_long(house: House) -> None:
    assert house.customer().open(name="长" * 64).account.display_name == "长" * 64


def test_an_account_is_read_by_its_owner_and_by_those_who_say_why(house: House) -> None:
    person = house.customer()
    account = person.open().account
    read = house.accounts.GetAccount
    assert read(GetAccountRequest(name=account.name), **person.call).account == account
    for who in (house.service, house.operator, house.call("auditor", "auditors/a")):
        asked = GetAccountRequest(name=account.name, purpose="complaint 7")
        assert read(asked, **who).account == account
        with refused("FIELD_INVALID"):
            read(GetAccountRequest(name=account.name), **who)
        with refused("FIELD_INVALID"):
            read(GetAccountRequest(name=account.name, purpose="call 13912345678"), **who)


def test_an_account_is_not_read_by_another_customer(house: House) -> None:
    person, other = house.customer(), house.customer()
    person.open()
    other.open()
    with refused("CALLER_NOT_ALLOWED"):
        house.accounts.GetAccount(GetAccountRequest(name=person.account), **other.call)


def test_an_account_that_does_not_exist_is_not_found(house: House) -> None:
    with refused("RESOURCE_NOT_FOUND"):
        house.accounts.GetAccount(
            GetAccountRequest(name="accounts/0000000000001", purpose="test"), **house.service
        )


def test_a_name_that_is_no_account_is_invalid(house: House) -> None:
    with refused("FIELD_INVALID"):
        house.accounts.GetAccount(GetAccountRequest(name="accounts/1"), **house.service)


def test_a_customer_is_found_by_the_reference_of_the_bank(house: House) -> None:
    person = house.customer()
    account = person.open().account
    asked = LookUpAccountRequest(customer_ref=person.customer_ref, purpose="test")
    assert house.accounts.LookUpAccount(asked, **house.operator).account == account


def test_a_customer_may_not_look_people_up(house: House) -> None:
    person = house.customer()
    person.open()
    with refused("CALLER_NOT_ALLOWED"):
        house.accounts.LookUpAccount(
            LookUpAccountRequest(customer_ref=person.customer_ref, purpose="test"), **person.call
        )


def test_a_token_without_a_customer_opens_nothing(house: House) -> None:
    request = OpenAccountRequest(account=account_pb2.Account(), request_id=request_id())
    with refused("CALLER_NOT_ALLOWED"):
        house.accounts.OpenAccount(request, **house.call("customer", "bank-app"))


def test_nothing_that_the_bank_calls_a_customer_is_stored(house: House) -> None:
    person = house.customer()
    request = OpenAccountRequest(account=account_pb2.Account(), request_id=request_id())
    call = house.call("customer", person.customer_ref, person.customer_ref)
    house.accounts.OpenAccount(request, **call)
    for table in ("account", "person", "customer_key", "consent", "event", "request"):
        for (row,) in house.sql(f"select row_to_json(t)::text from {table} t"):
            assert person.customer_ref not in row


def test_closing_ends_every_consent_in_the_same_moment(house: House) -> None:
    person = house.customer()
    person.open(grant_of(TRAVEL), grant_of(FINANCE))
    account = person.close()
    assert account.state == CLOSED
    consents = person.consents()
    assert [c.state for c in consents] == [Consent.STATE_REVOKED] * 2
    assert {c.revoke_time.ToNanoseconds() for c in consents} == {
        account.update_time.ToNanoseconds()
    }


def test_closing_twice_changes_nothing(house: House) -> None:
    person, key = house.customer(), request_id()
    person.open(grant_of(TRAVEL))
    first = person.close(request=key)
    assert person.close(request=key) == first
    assert person.close() == first
    assert house.sql("select kind from event order by position") == [(1,), (3,), (2,), (4,)]


def test_an_operator_closes_with_a_cause_and_a_service_may_not(house: House) -> None:
    person = house.customer()
    person.open()
    request = CloseAccountRequest(name=person.account, request_id=request_id(), cause="fraud")
    with refused("CALLER_NOT_ALLOWED"):
        house.accounts.CloseAccount(request, **house.service)
    silent = CloseAccountRequest(name=person.account, request_id=request_id())
    with refused("FIELD_INVALID"):
        house.accounts.CloseAccount(silent, **house.operator)
    assert house.accounts.CloseAccount(request, **house.operator).account.state == CLOSED


def test_a_closed_account_is_not_opened_again(house: House) -> None:
    person = house.customer()
    person.open()
    person.close()
    with refused("RESOURCE_EXISTS"):
        person.open()


def test_a_retry_of_the_opening_shows_the_account_as_it_stands_now(house: House) -> None:
    person, key, grant = house.customer(), request_id(), grant_of(TRAVEL)
    person.open(grant, request=key)
    person.close()
    answer = person.open(grant, request=key)
    assert answer.account.state == CLOSED
    assert [consent.state for consent in answer.consents] == [Consent.STATE_REVOKED]
