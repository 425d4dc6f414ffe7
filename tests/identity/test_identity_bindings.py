"""Binding a partner's user: the code, the confirmation, and what each refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from bindings_world import (
    BIKE,
    LINKS,
    METRO,
    UNIONPAY,
    Clock,
    back_room,
    bind,
    bindings,
    confirm,
    consent_in_force,
    end,
    events,
    link,
    moment,
    partner_call,
    rider,
    start,
    told,
)
from carbonaccount.identity.v1 import binding_service_pb2 as pb
from carbonaccount.identity.v1.consent_pb2 import ConsentGrant
from identity_house import (
    MICROSECOND,
    READING,
    Customer,
    House,
    grant_of,
    refused,
    request_id,
    served,
    settings_for,
    soon,
    stamp,
)

from services.identity.domain.binding import BINDINGS_MAX, CODES_MAX
from shared.ids import from_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def house(database_url: str, tmp_path: Path, clock: Clock) -> Iterator[House]:
    with served(settings_for(database_url, tmp_path), clock) as running:
        yield running


def test_a_code_is_ten_characters_and_lives_ten_minutes(house: House, clock: Clock) -> None:
    person = rider(house, BIKE)
    clock.stand_after(seconds=1)
    started = start(person)
    assert len(started.code) == 10
    assert set(started.code) <= set("0123456789abcdefghjkmnpqrstvwxyz")
    assert moment(started.expire_time) == from_us(clock()) + timedelta(minutes=10)


def test_a_code_needs_a_consent_to_the_link(house: House) -> None:
    person = rider(house, METRO)
    with refused("CONSENT_MISSING"):
        start(person, BIKE)
    assert start(person, METRO).code


def test_the_call_itself_may_grant_the_consent(house: House) -> None:
    person = rider(house)
    assert start(person, BIKE, link(BIKE)).code
    assert consent_in_force(person).scope == LINKS[BIKE]
    assert events(person)[-1] == ("CONSENT_GRANTED", "customer", "/consents/1")


def test_a_grant_that_says_what_is_in_force_changes_nothing(house: House) -> None:
    person = rider(house, BIKE)
    before = events(person)
    assert start(person, BIKE, link(BIKE)).code
    assert events(person) == before


def test_a_consent_lasts_until_the_microsecond_before_it_runs_out(
    house: House, clock: Clock
) -> None:
    over = soon(60)
    person = rider(house, BIKE, expire_time=over)
    clock.stand(moment(over) - MICROSECOND)
    assert start(person).code
    clock.stand(moment(over))
    with refused("CONSENT_MISSING"):
        start(person)


def test_a_consent_of_another_scope_does_not_come_with_a_link(house: House) -> None:
    person = rider(house)
    with refused("FIELD_INVALID") as error:
        start(person, BIKE, grant_of(READING))
    assert "consent.scope" in told(error.value)
    with refused("FIELD_INVALID"):
        start(person, BIKE, link(METRO))
    assert person.consents() == []


def test_a_consent_that_cannot_be_granted_gives_no_code(house: House) -> None:
    person, digest = rider(house), link(BIKE).notice_digest
    for consent, reason in (
        (ConsentGrant(scope=LINKS[BIKE], notice_digest=b"\1" * 32), "NOTICE_STALE"),
        (ConsentGrant(scope=LINKS[BIKE]), "FIELD_INVALID"),
        (ConsentGrant(notice_digest=digest), "FIELD_INVALID"),
        (ConsentGrant(scope=LINKS[BIKE], notice_digest=digest), "CONFIRMATION_MISSING"),
    ):
        with refused(reason):
            start(person, BIKE, consent)
    assert house.sql("select count(*) from binding_code") == [(0,)]
    assert person.consents() == []


def test_a_partner_whom_no_scope_links_is_not_found(house: House) -> None:
    person = rider(house, BIKE)
    for partner in ("sources/nobody", "sources/", "bike-demo", "Sources/bike-demo", BIKE + "/"):
        with refused("RESOURCE_NOT_FOUND") as error:
            start(person, partner)
        assert f"there are links to {BIKE}" in str(error.value)


def test_a_partner_must_be_named_within_256_characters(house: House) -> None:
    person = rider(house, BIKE)
    for partner in ("", "s" * 257):
        with refused("FIELD_INVALID"):
            start(person, partner)


def test_a_binding_begins_on_an_open_account_only(house: House) -> None:
    person = rider(house, BIKE)
    person.close()
    with refused("ACCOUNT_NOT_OPEN"):
        start(person, BIKE, link(BIKE))


def test_nobody_begins_a_binding_for_somebody_else(house: House) -> None:
    person, other = rider(house, BIKE), rider(house, BIKE)
    request = pb.StartBindingRequest(parent=other.account, partner=BIKE, request_id=request_id())
    for call in (person.call, house.operator, house.service, partner_call(house, BIKE)):
        with refused("CALLER_NOT_ALLOWED"):
            house.bindings.StartBinding(request, **call)


def test_a_child_begins_no_binding(house: House, database_url: str, tmp_path: Path) -> None:
    with back_room(database_url, tmp_path) as room:
        child = room.open_child(house)
    with refused("GUARDIAN_REQUIRED"):
        start(child, BIKE, link(BIKE))


def test_a_retry_gives_the_same_code_while_it_is_valid(house: House, clock: Clock) -> None:
    person, key = rider(house, BIKE), request_id()
    clock.stand_after(seconds=1)
    first = start(person, request=key)
    clock.stand(moment(first.expire_time) - MICROSECOND)
    assert start(person, request=key) == first
    clock.stand(moment(first.expire_time))
    with refused("CODE_INVALID"):
        start(person, request=key)


def test_a_retry_after_the_code_was_used_gives_none(house: House) -> None:
    person, key = rider(house, BIKE), request_id()
    confirm(house, start(person, request=key).code)
    with refused("CODE_INVALID"):
        start(person, request=key)


def test_the_request_id_of_another_partner_is_refused(house: House) -> None:
    person, key = rider(house, BIKE, METRO), request_id()
    start(person, BIKE, request=key)
    with refused("REQUEST_ID_REUSED"):
        start(person, METRO, request=key)
    with refused("FIELD_INVALID"):
        start(person, METRO, request="no uuid")


def test_two_customers_with_the_same_request_id_have_two_codes(house: House) -> None:
    key = request_id()
    assert start(rider(house, BIKE), request=key) != start(rider(house, BIKE), request=key)


def test_five_codes_may_wait_for_one_partner_and_no_sixth(house: House, clock: Clock) -> None:
    person = rider(house, BIKE, METRO)
    clock.stand_after(seconds=1)
    codes = [start(person) for _ in range(CODES_MAX)]
    with refused("LIMIT_REACHED"):
        start(person)
    assert start(person, METRO).code
    confirm(house, codes[0].code)
    start(person)
    with refused("LIMIT_REACHED"):
        start(person)
    clock.stand(moment(codes[0].expire_time))
    assert start(person).code
    assert house.sql("select count(*) from binding_code") == [(1,)], "what ran out is gone"


def test_twenty_bindings_may_be_in_force_and_no_further_one(house: House) -> None:
    person = rider(house, BIKE, METRO)
    spare = start(person, METRO).code
    for number in range(BINDINGS_MAX):
        confirm(house, start(person).code, f"rider-{number}")
    with refused("LIMIT_REACHED"):
        start(person)
    with refused("LIMIT_REACHED"):
        confirm(house, spare, partner=METRO)
    end(person, bindings(person)[0].name)
    confirm(house, spare, partner=METRO)
    assert len(bindings(person)) == BINDINGS_MAX + 1


def test_a_partner_binds_its_user_and_learns_no_account(house: House) -> None:
    person = rider(house, BIKE)
    answer = confirm(house, start(person).code)
    assert [field.name for field, _ in answer.ListFields()] == ["bind_time"]
    (binding,) = bindings(person)
    assert binding.name == f"{person.account}/bindings/1"
    assert (binding.partner, binding.bind_time) == (BIKE, answer.bind_time)
    assert not binding.HasField("end_time")
    assert not binding.HasField("expire_time")
    assert events(person)[-1] == ("BOUND", BIKE, "/bindings/1")


def test_another_programme_binds_as_a_source_does(house: House) -> None:
    person = rider(house, UNIONPAY)
    assert bind(person, "member-1", UNIONPAY).partner == UNIONPAY
    assert events(person)[-1] == ("BOUND", UNIONPAY, "/bindings/1")


def test_nobody_but_sources_and_partners_confirms(house: House) -> None:
    person = rider(house, BIKE)
    request = pb.ConfirmBindingRequest(
        code=start(person).code, subject=f"{BIKE}/subjects/x", request_id=request_id()
    )
    for call in (person.call, house.operator, house.service):
        with refused("CALLER_NOT_ALLOWED"):
            house.bindings.ConfirmBinding(request, **call)


def _used(house: House, _clock: Clock, person: Customer) -> str:
    code = start(person).code
    confirm(house, code, "another")
    return code


def _run_out(_house: House, clock: Clock, person: Customer) -> str:
    started = start(person)
    clock.stand(moment(started.expire_time))
    return started.code


def _never_made(_house: House, _clock: Clock, _person: Customer) -> str:
    return "0123456789"


def _no_code(_house: House, _clock: Clock, _person: Customer) -> str:
    return "!码\u0000'"


def _of_another_partner(_house: House, _clock: Clock, person: Customer) -> str:
    return start(person, METRO).code


def _consent_revoked(_house: House, _clock: Clock, person: Customer) -> str:
    code = start(person).code
    person.revoke(consent_in_force(person).name)
    return code


def _consent_granted_anew(_house: House, _clock: Clock, person: Customer) -> str:
    code = start(person).code
    person.revoke(consent_in_force(person).name)
    person.grant(link(BIKE))
    return code


def _consent_run_out(_house: House, clock: Clock, person: Customer) -> str:
    over = soon(60)
    person.grant(link(BIKE, expire_time=over))
    code = start(person).code
    clock.stand(moment(over))
    return code


def _closed(_house: House, _clock: Clock, person: Customer) -> str:
    code = start(person).code
    person.close()
    return code


def _suspended(house: House, _clock: Clock, person: Customer) -> str:
    code = start(person).code
    house.sql("update account set state = 2 returning 1")
    return code


def test_every_code_that_cannot_be_used_is_refused_in_the_same_words(
    house: House, clock: Clock
) -> None:
    person = rider(house, BIKE, METRO)
    with refused("CODE_INVALID") as error:
        confirm(house, _never_made(house, clock, person))
    words = told(error.value)
    makers: list[Callable[[House, Clock, Customer], str]] = [
        _used, _no_code, _of_another_partner, _consent_revoked, _consent_granted_anew,
        _consent_run_out, _run_out, _suspended, _closed,
    ]  # fmt: skip
    for maker in makers:
        clock.run()
        house.sql("update account set state = 1 returning 1")
        customer = rider(house, BIKE, METRO)
        code = maker(house, clock, customer)
        with refused("CODE_INVALID") as error:
            confirm(house, code, "rider-2")
        assert told(error.value) == words, maker.__name__
        assert customer.account not in words


def test_a_code_may_be_used_until_the_microsecond_before_it_runs_out(
    house: House, clock: Clock
) -> None:
    started = start(rider(house, BIKE))
    clock.stand(moment(started.expire_time) - MICROSECOND)
    assert confirm(house, started.code).bind_time == stamp(
        moment(started.expire_time) - MICROSECOND
    )


def test_a_code_may_be_typed_in_capitals_and_groups(house: House) -> None:
    code = start(rider(house, BIKE)).code.upper()
    assert confirm(house, f"{code[:3]}-{code[3:6]} {code[6:]}").HasField("bind_time")


def test_a_code_is_set_and_at_most_16_long(house: House) -> None:
    for code in ("", "0" * 17):
        with refused("FIELD_INVALID"):
            confirm(house, code)


def test_a_subject_is_the_callers_own_and_no_persons_number(house: House) -> None:
    code = start(rider(house, BIKE)).code
    for subject in (
        "accounts/0000000000001",
        "rider-1",
        f"{METRO}/subjects/rider-1",
        f"{BIKE}/rider-1",
        f"{BIKE}/subjects/{'x' * 65}",
        f"{BIKE}/subjects/a\tb",
        f"{BIKE}/subjects/13812345678",
        f"{BIKE}/subjects/6222021234567890128",
        f"{BIKE}/subjects/",
        "",
    ):
        request = pb.ConfirmBindingRequest(code=code, subject=subject, request_id=request_id())
        with refused("FIELD_INVALID") as error:
            house.bindings.ConfirmBinding(request, **partner_call(house, BIKE))
        own = subject.removeprefix(f"{BIKE}/subjects/")
        assert not own or own not in told(error.value)
    assert confirm(house, code).HasField("bind_time"), "the code is not used up"


def test_a_subject_may_have_64_characters_of_any_script(house: House) -> None:
    assert bind(rider(house, BIKE), "骑" * 64).bind_time


def test_a_retry_of_a_confirmation_is_answered_alike_for_ever(house: House) -> None:
    person, key = rider(house, BIKE), request_id()
    code = start(person).code
    first = confirm(house, code, request=key)
    assert confirm(house, code, request=key) == first
    end(person, f"{person.account}/bindings/1")
    assert confirm(house, code, request=key) == first
    assert len(bindings(person)) == 1


def test_a_confirmation_with_other_content_and_the_same_request_id_is_refused(
    house: House,
) -> None:
    person, key = rider(house, BIKE, METRO), request_id()
    code, other = start(person).code, start(person).code
    confirm(house, code, request=key)
    with refused("REQUEST_ID_REUSED"):
        confirm(house, code, "rider-2", request=key)
    with refused("REQUEST_ID_REUSED"):
        confirm(house, other, request=key)
    confirm(house, start(person, METRO).code, partner=METRO, request=key)
    assert len(bindings(person)) == 2, "the request ids of two partners never collide"


def test_a_refused_confirmation_may_be_made_again_with_the_same_request_id(house: House) -> None:
    person, other, key = rider(house, BIKE), rider(house, BIKE), request_id()
    bind(other)
    code = start(person).code
    with refused("RESOURCE_EXISTS"):
        confirm(house, code, request=key)
    end(other, bindings(other)[0].name)
    assert confirm(house, code, request=key).HasField("bind_time")
