"""The life of an account, what its holder chooses, and reading both as of a past moment."""

from __future__ import annotations

from typing import Any

import pytest
from carbonaccount.identity.v1 import account_pb2
from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.identity.v1.account_pb2 import Account
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from identity_house import READING, Customer, House, grant_of, refused, request_id

Kind, Preferences = pb.AccountEvent, account_pb2.Preferences
BEFORE_ALL = Timestamp(seconds=1_500_000_000)


def suspend(house: House, account: str, cause: str = "complaint", **more: Any) -> Account:
    request = pb.SuspendAccountRequest(
        name=account, cause=cause, request_id=more.pop("request_id", request_id())
    )
    return house.accounts.SuspendAccount(request, **(more or house.operator)).account


def reinstate(house: House, account: str) -> Account:
    request = pb.ReinstateAccountRequest(name=account, cause="settled", request_id=request_id())
    return house.accounts.ReinstateAccount(request, **house.operator).account


def update(
    person: Customer, paths: list[str], request: str = "", etag: str = "", **fields: Any
) -> Account:
    account = Account(name=person.account, etag=etag, **fields)
    message = pb.UpdateAccountRequest(
        account=account, update_mask=FieldMask(paths=paths), request_id=request or request_id()
    )
    return person.house.accounts.UpdateAccount(message, **person.call).account


def events(person: Customer, **more: Any) -> list[pb.AccountEvent]:
    """Everything that happened, oldest first."""
    asked = pb.ListAccountEventsRequest(parent=person.account, page_size=500)
    return list(person.house.accounts.ListAccountEvents(asked, **(more or person.call)).events)[
        ::-1
    ]


def read(person: Customer, moment: Timestamp) -> Account:
    asked = pb.GetAccountRequest(name=person.account, read_time=moment)
    return person.house.accounts.GetAccount(asked, **person.call).account


def test_a_suspended_account_takes_nothing_and_goes_on_when_reinstated(house: House) -> None:
    person = house.customer()
    person.open(grant_of(READING))
    assert suspend(house, person.account).state == Account.STATE_SUSPENDED
    with refused("ACCOUNT_NOT_OPEN"):
        person.grant(grant_of(READING))
    with refused("ACCOUNT_NOT_OPEN"):
        update(person, ["display_name"], display_name="x")
    assert reinstate(house, person.account).state == Account.STATE_OPEN
    person.grant(grant_of(READING))
    assert len(person.consents()) == 1


def test_a_withdrawal_is_possible_while_suspended(house: House) -> None:
    person = house.customer()
    name = person.open(grant_of(READING)).consents[0].name
    suspend(house, person.account)
    assert person.revoke(name).HasField("revoke_time")


def test_suspending_twice_changes_nothing_and_a_closed_account_is_final(house: House) -> None:
    person = house.customer()
    person.open()
    assert suspend(house, person.account) == suspend(house, person.account)
    person.close()
    for change in (suspend, reinstate):
        with refused("ACCOUNT_NOT_OPEN"):
            change(house, person.account)
    kinds = [event.kind for event in events(person)]
    assert kinds == [Kind.KIND_OPENED, Kind.KIND_SUSPENDED, Kind.KIND_CLOSED]


def test_reinstating_an_open_account_changes_nothing(house: House) -> None:
    person = house.customer()
    account = person.open().account
    assert reinstate(house, person.account) == account


@pytest.mark.parametrize("cause", ["", "   ", "a\nb", "card 4111 1111 1111 1111"])
def test_staff_say_why_without_personal_numbers(house: House, cause: str) -> None:
    person = house.customer()
    person.open()
    with refused("FIELD_INVALID"):
        suspend(house, person.account, cause)


def test_only_an_operator_suspends(house: House) -> None:
    person = house.customer()
    person.open()
    for caller in (person.call, house.service):
        with refused("CALLER_NOT_ALLOWED"):
            suspend(house, person.account, **caller)


def test_every_change_is_an_event_with_who_and_why(house: House) -> None:
    person = house.customer()
    person.open(grant_of(READING))
    suspend(house, person.account, "complaint 12")
    told = [(e.kind, e.actor, e.cause, e.resource) for e in events(person)]
    assert told == [
        (Kind.KIND_OPENED, "customer", "", ""),
        (Kind.KIND_CONSENT_GRANTED, "customer", "", f"{person.account}/consents/1"),
        (Kind.KIND_SUSPENDED, "operators/desk", "complaint 12", ""),
    ]
    assert events(person, **house.call("auditor", "auditors/a")) == events(person)


def test_events_come_in_pages_newest_first_and_not_to_others(house: House) -> None:
    person, other = house.customer(), house.customer()
    other.open()
    person.open(grant_of(READING))
    asked = pb.ListAccountEventsRequest(parent=person.account, page_size=1)
    first = house.accounts.ListAccountEvents(asked, **person.call)
    asked.page_token = first.next_page_token
    second = house.accounts.ListAccountEvents(asked, **person.call)
    assert [first.events[0].kind, second.events[0].kind] == [3, 1]
    assert not second.next_page_token
    with refused("CALLER_NOT_ALLOWED"):
        house.accounts.ListAccountEvents(asked, **other.call)


def test_nothing_is_on_unless_chosen_and_one_field_is_changed_alone(house: House) -> None:
    person = house.customer()
    account = person.open(name="阿明", region="440300").account
    assert account.preferences == Preferences()
    chosen = Preferences(language=Preferences.LANGUAGE_ZH, board_opt_in=True)
    changed = update(person, ["preferences.board_opt_in"], preferences=chosen)
    assert changed.preferences == Preferences(board_opt_in=True)
    assert (changed.display_name, changed.region_code) == ("阿明", "440300")
    changed = update(person, ["display_name", "region_code"], display_name="", region_code="110000")
    assert (changed.display_name, changed.region_code) == ("", "110000")


@pytest.mark.parametrize(
    ("paths", "fields"),
    [
        ([], {}),
        (["*"], {}),
        (["state"], {}),
        (["preferences.unknown"], {}),
        (["preferences."], {}),
        (["display_name"], {"display_name": "a\nb"}),
        (["region_code"], {"region_code": "44"}),
        (["preferences"], {"preferences": Preferences(language=9)}),  # type: ignore[arg-type]  # no such language
    ],
)
def test_an_update_that_means_nothing_is_refused(
    house: House, paths: list[str], fields: dict[str, Any]
) -> None:
    person = house.customer()
    person.open()
    with refused("FIELD_INVALID"):
        update(person, paths, **fields)


def test_an_update_over_what_somebody_else_changed_is_refused(house: House) -> None:
    person = house.customer()
    read_first = person.open().account
    update(person, ["display_name"], display_name="one", etag=read_first.etag)
    with refused("ETAG_MISMATCH"):
        update(person, ["display_name"], display_name="two", etag=read_first.etag)
    assert update(person, ["display_name"], display_name="three").display_name == "three"


def test_an_update_that_changes_nothing_leaves_no_event(house: House) -> None:
    person = house.customer()
    account = person.open(name="same").account
    assert update(person, ["display_name"], display_name="same") == account
    assert len(events(person)) == 1


def test_an_account_is_read_as_it_stood(house: House) -> None:
    person = house.customer()
    opened = person.open(name="before").account
    renamed = update(person, ["display_name"], display_name="after")
    suspended = suspend(house, person.account)
    assert read(person, opened.open_time) == opened
    assert read(person, renamed.update_time) == renamed
    stood = read(person, suspended.update_time)
    assert (stood.state, stood.display_name) == (suspended.state, "after")
    # Staff changed it and was not shown whose it is; that takes a read that is logged.
    assert suspended.display_name == ""
    just_before = Timestamp(
        seconds=suspended.update_time.seconds, nanos=suspended.update_time.nanos
    )
    just_before.FromNanoseconds(suspended.update_time.ToNanoseconds() - 1000)
    assert read(person, just_before) == renamed
    with refused("RESOURCE_NOT_FOUND"):
        read(person, BEFORE_ALL)


def test_a_household_is_not_opened_or_stilled_by_the_bank(house: House) -> None:
    person = house.customer()
    person.open()
    house.sql("update account set kind = 2 returning 1")
    with refused("STATE_CONFLICT"):
        suspend(house, person.account)
