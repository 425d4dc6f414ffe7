"""Signing in, renewing and signing out."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import grpc
import pytest
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import session_service_pb2
from carbonaccount.identity.v1.account_pb2 import CUSTOMER_KIND_CARDHOLDER, Account
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from identity_house import refused, served, settings_for
from joserfc import jws
from joserfc.jwk import ECKey, KeySet
from sessions_house import (
    ISSUER,
    SessionHouse,
    bearer,
    claims_of,
    request_id,
    sessions_served,
)

from services.identity.domain.session import session_id_of
from services.identity.keeping import purge_sessions
from services.identity.storage.sessions import (
    delete_sessions,
    purge,
)
from services.identity.upstream.bank_tickets import make_double_ticket, open_bank_tickets
from shared.ids import (
    account_id_of,
    account_name,
    civil_day,
    civil_day_begin_us,
    date_to_day,
    day_to_date,
)
from shared.rpc.keyring import RECEIPTS, Signer, rotate
from shared.rpc.status import reason_of
from shared.rpc.tokens import load_or_make_key, make_token
from shared.storage.engine import Database

DAY_S = 86_400


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[SessionHouse]:
    with sessions_served(database_url, tmp_path) as running:
        yield running


def cause_of(error: pytest.ExceptionInfo[grpc.RpcError]) -> str:
    status = rpc_status.from_call(error.value)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    return info.metadata.get("cause", "") or info.metadata.get("kind", "")


def test_a_ticket_is_traded_for_tokens_with_what_the_bank_says(house: SessionHouse) -> None:
    today = civil_day(house.clock())
    born = day_to_date(today) - timedelta(days=13 * 365)
    phone = house.phone(
        "relation-1", person_ref="person-1", customer_kind="debit", birth_date=born.isoformat()
    )
    session = phone.sign_in()
    assert session.name.startswith("sessions/")
    assert session.account == ""
    claims = claims_of(session.access_token)
    assert claims["sub"] == claims["session"] == session.name
    assert (claims["customer_ref"], claims["person_ref"]) == ("relation-1", "person-1")
    assert claims["customer_kind"] == 2
    assert claims["own_from_day"] == date_to_day(born.replace(year=born.year + 14))
    assert claims["exp"] - claims["iat"] == 300
    assert session.expire_time.seconds == claims["exp"]
    assert 0 <= session.refresh_expire_time.seconds - house.clock.now_s - 30 * DAY_S + 5 <= 5


def test_who_is_of_age_by_today_is_no_ward_and_by_tomorrow_is_one(house: SessionHouse) -> None:
    today = day_to_date(civil_day(house.clock()))
    birthday = date(today.year - 14, today.month, min(today.day, 28))
    ahead = birthday + timedelta(days=(today - birthday.replace(year=today.year)).days)
    of_age = house.phone(birth_date=ahead.isoformat()).sign_in()
    assert "own_from_day" not in claims_of(of_age.access_token)
    tomorrow = ahead + timedelta(days=1)
    child = house.phone(birth_date=tomorrow.isoformat()).sign_in()
    assert claims_of(child.access_token)["own_from_day"] == civil_day(house.clock()) + 1


def test_an_account_is_in_the_tokens_once_it_is_open(house: SessionHouse) -> None:
    phone = house.phone()
    assert phone.sign_in().account == ""
    account = phone.open_account()
    assert claims_of(phone.session.access_token)["account"] == account
    again = house.phone(phone.customer_ref)
    assert again.sign_in().account == account
    other = house.phone()
    assert other.sign_in().account == ""


def test_a_second_relation_of_one_person_finds_the_account_of_the_person(
    house: SessionHouse,
) -> None:
    account = house.holder(person_ref="p-1").session.account
    assert house.phone(person_ref="p-1").sign_in().account == account
    assert house.phone(person_ref="p-2").sign_in().account == ""


def test_signing_in_and_out_are_events_of_the_account(house: SessionHouse) -> None:
    phone = house.holder()
    assert phone.events() == [("OPENED", "")]
    second = house.phone(phone.customer_ref)
    second.sign_in()
    assert phone.events() == [("OPENED", ""), ("SIGNED_IN", "")]
    second.sign_out()
    second.sign_out()  # again, with the access token that still works: nothing happens
    assert phone.events() == [("OPENED", ""), ("SIGNED_IN", ""), ("SIGNED_OUT", "")]
    with refused("TOKEN_INVALID") as error:
        second.refresh()
    assert cause_of(error) == "the session has ended"
    phone.refresh()


def test_a_retry_with_the_same_ticket_is_the_same_session(house: SessionHouse) -> None:
    phone = house.holder()
    ticket, request = house.bank.ticket(phone.customer_ref), request_id()
    first, second = house.create(ticket, request), house.create(ticket, request)
    assert first.name == second.name
    assert house.refresh(second.refresh_token).name == first.name
    assert [kind for kind, _ in phone.events()].count("SIGNED_IN") == 1
    assert house.create(ticket, request).name == first.name


def test_a_ticket_works_once(house: SessionHouse) -> None:
    ticket = house.bank.ticket()
    session = house.create(ticket)
    with refused("CODE_INVALID") as error:
        house.create(ticket)
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert cause_of(error) == "ticket"
    house.refresh(session.refresh_token)  # the first use is none the worse


def test_a_ticket_whose_session_was_ended_does_not_open_it_again(house: SessionHouse) -> None:
    ticket, request = house.bank.ticket(), request_id()
    session = house.create(ticket, request)
    house.delete(session.name, **bearer(session.access_token))
    with refused("CODE_INVALID"):
        house.create(ticket, request)


def test_a_retry_of_a_ticket_that_has_run_out_is_refused(house: SessionHouse) -> None:
    house.clock.stop()
    ticket, request = house.bank.ticket(), request_id()
    house.create(ticket, request)
    house.clock.ahead_s = 64
    house.create(ticket, request)
    house.clock.ahead_s = 66
    with refused("CODE_INVALID"):
        house.create(ticket, request)


def test_a_refresh_token_works_once_and_its_second_use_ends_the_session(
    house: SessionHouse,
) -> None:
    phone = house.holder()
    copied = phone.session.refresh_token
    newest = phone.refresh().refresh_token
    with refused("TOKEN_INVALID") as error:
        house.refresh(copied)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert cause_of(error) == "the refresh token was used twice, which ended the session"
    with refused("TOKEN_INVALID") as error:
        house.refresh(newest)
    assert cause_of(error) == "the session has ended"
    assert phone.events() == [("OPENED", ""), ("SIGNED_OUT", "refresh token used twice")]


def test_a_retry_of_a_refresh_gives_new_tokens_of_the_same_generation(
    house: SessionHouse,
) -> None:
    phone, request = house.holder(), request_id()
    used = phone.session.refresh_token
    first, second = house.refresh(used, request), house.refresh(used, request)
    assert first.name == second.name
    assert first.refresh_token != second.refresh_token
    assert first.refresh_expire_time == second.refresh_expire_time
    third = house.refresh(first.refresh_token)  # the answer that got lost is as used up as this one
    with refused("TOKEN_INVALID"):
        house.refresh(second.refresh_token)
    with refused("TOKEN_INVALID"):
        house.refresh(third.refresh_token)


def test_a_retry_after_its_tokens_were_used_is_a_copy(house: SessionHouse) -> None:
    phone, request = house.holder(), request_id()
    used = phone.session.refresh_token
    house.refresh(house.refresh(used, request).refresh_token)
    with refused("TOKEN_INVALID") as error:
        house.refresh(used, request)
    assert "used twice" in cause_of(error)


def test_a_session_lives_thirty_days_from_its_last_renewal(house: SessionHouse) -> None:
    phone = house.holder()
    house.clock.ahead_s = 30 * DAY_S - 30
    phone.refresh()
    house.clock.ahead_s += 30 * DAY_S - 30
    phone.refresh()
    house.clock.ahead_s += 30 * DAY_S + 1
    with refused("TOKEN_INVALID") as error:
        phone.refresh()
    assert cause_of(error) == "the refresh token has expired"


def test_what_expired_is_taken_away_and_nothing_else(house: SessionHouse) -> None:
    def purged(seconds: int) -> int:
        with house.database.transaction() as connection:
            return purge(connection, start + timedelta(seconds=seconds))

    start = house.now.replace(microsecond=0)
    phones = [house.phone() for _ in range(3)]
    for phone in phones:
        phone.sign_in()
    house.clock.ahead_s = 60
    phones[0].refresh()
    # Tickets end after 65 s, sessions after 30 days; a minute on top for clocks that differ.
    assert purged(120) == 0
    assert purged(135) == 3
    assert purged(30 * DAY_S + 50) == 0
    assert purged(30 * DAY_S + 70) == 2
    phones[0].refresh()


def test_what_expired_goes_beside_the_server_also_after_the_database_was_away(
    house: SessionHouse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("services.identity.keeping.PURGE_IDLE_MS", 10)
    house.phone().sign_in()
    house.clock.ahead_s = 31 * DAY_S

    async def run() -> None:
        away = Database("postgresql://nobody@127.0.0.1:1/nothing")
        task = asyncio.create_task(purge_sessions(away, house.clock))
        while "keeping.postponed" not in "".join(capsys.readouterr()):
            await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()
        away.close()
        task = asyncio.create_task(purge_sessions(house.database, house.clock))
        while house.sql("select from session union all select from ticket"):
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"),
        lambda token: ("B" if token[0] == "A" else "A") + token[1:],
        lambda token: token[:30],
        lambda token: "nonsense",
        lambda token: "*" + token,
        lambda token: "😀",
    ],
)
def test_a_refresh_token_that_was_touched_is_refused(house: SessionHouse, spoil: object) -> None:
    phone = house.phone()
    phone.sign_in()
    with refused("TOKEN_INVALID") as error:
        house.refresh(spoil(phone.session.refresh_token))  # type: ignore[operator]
    assert cause_of(error) == "the refresh token is none of ours"
    phone.refresh()


def test_an_access_token_is_no_refresh_token_nor_the_other_way(house: SessionHouse) -> None:
    phone = house.holder()
    with refused("TOKEN_INVALID"):
        house.refresh(phone.session.access_token)
    asked = account_pb.GetAccountRequest(name=phone.session.account)
    with refused("TOKEN_INVALID"):
        house.accounts.GetAccount(asked, **bearer(phone.session.refresh_token))


def test_a_customer_signs_out_the_own_session_and_no_other(house: SessionHouse) -> None:
    one, other = house.holder(), house.holder()
    with refused("CALLER_NOT_ALLOWED"):
        house.delete(other.session.name, **one.call)
    again = house.phone(one.customer_ref)
    again.sign_in()
    with refused("CALLER_NOT_ALLOWED"):  # of the same customer, on another phone
        house.delete(again.session.name, **one.call)
    with refused("FIELD_INVALID"):
        house.delete(one.session.account, **one.call)
    token = make_token(load_or_make_key(house.keys), "customer", "bank-app")
    with refused("CALLER_NOT_ALLOWED"):  # a token of no session
        house.delete(one.session.name, **bearer(token))
    with refused("TOKEN_INVALID"):
        house.delete(one.session.name, timeout=10)
    other.refresh()
    one.refresh()
    one.sign_out()


def test_tokens_act_for_wards_until_their_time_and_for_nobody_else(house: SessionHouse) -> None:
    guardian, stranger = house.holder(), house.holder()
    of_age = day_to_date(civil_day(house.clock()) + 20)
    of_age = of_age.replace(day=min(of_age.day, 28))
    ward = guardian.open_ward(of_age.replace(year=of_age.year - 14))
    session = guardian.refresh()
    own_from_s = civil_day_begin_us(date_to_day(of_age)) // 10**6
    assert claims_of(session.access_token)["acts_for"] == {ward: own_from_s}
    assert list(session.acts_for) == [ward]

    def read(name: str) -> None:
        asked = account_pb.ListAccountEventsRequest(parent=name)
        house.accounts.ListAccountEvents(asked, **guardian.call)

    read(session.account)
    read(ward)
    for name in (stranger.session.account, account_name(12345)):
        with refused("CALLER_NOT_ALLOWED"):
            read(name)
    house.clock.ahead_s = 21 * DAY_S
    assert list(guardian.refresh().acts_for) == []


def test_erasing_an_account_ends_its_sessions_and_no_others(house: SessionHouse) -> None:
    phone, other = house.holder(), house.holder()
    second = house.phone(phone.customer_ref)
    second.sign_in()
    account_id = account_id_of(phone.session.account)
    with house.database.transaction() as connection:
        assert delete_sessions(connection, account_id) == 2
        assert delete_sessions(connection, account_id) == 0
    for ended in (phone, second):
        with refused("TOKEN_INVALID") as error:
            ended.refresh()
        assert cause_of(error) == "the session has ended"
    other.refresh()


def test_nothing_of_the_customer_lies_in_the_database(house: SessionHouse) -> None:
    phone = house.phone("secret-relation", person_ref="secret-person", birth_date="1990-01-02")
    phone.sign_in()
    phone.refresh()
    for table in ("session", "ticket"):
        text = str(house.sql(f"select t::text from {table} t"))
        assert "secret" not in text
        assert "1990" not in text
    sealed = base64.urlsafe_b64decode(phone.session.refresh_token + "==")
    assert b"secret" not in sealed
    shard, number = house.sql("select shard, session_id from session")[0]
    assert (shard, number) == (number & 63, session_id_of(phone.session.name))


def test_the_published_keys_verify_tokens_and_receipts_of_before_a_rotation_too(
    house: SessionHouse,
) -> None:
    signer = Signer(house.keys)
    old = signer.sign(b"receipt", "receipt+jws")
    before = [key.key_id for key in house.signing_keys().keys]
    rotate(house.keys, RECEIPTS, 0)
    time.sleep(1.1)
    new = signer.sign(b"receipt", "receipt+jws")
    answer = house.signing_keys()
    kind = answer.SigningKey
    assert [(key.purpose, key.current_key) for key in answer.keys] == [
        (kind.PURPOSE_TOKEN, True), (kind.PURPOSE_RECEIPT, True), (kind.PURPOSE_RECEIPT, False),
    ]  # fmt: skip
    assert [answer.keys[0].key_id, answer.keys[2].key_id] == before
    for key in answer.keys:
        assert ECKey.import_key(json.loads(key.jwk)).thumbprint() == key.key_id
        assert "d" not in json.loads(key.jwk)
    keys = KeySet.import_key_set(json.loads(answer.jwks))
    assert len(keys.keys) == 3
    for receipt in (old, new, house.phone().sign_in().access_token):
        jws.deserialize_compact(receipt, keys, algorithms=["ES256"])


def test_signing_in_is_limited_for_each_peer(house: SessionHouse) -> None:
    asked = session_service_pb2.CreateSessionRequest(
        bank_ticket="no ticket", request_id=request_id()
    )
    calls = [house.sessions.CreateSession.future(asked, timeout=30) for _ in range(600)]
    errors = [call.exception() for call in calls]
    assert {reason_of(error) for error in errors} == {"CODE_INVALID", "LIMIT_REACHED"}


def test_the_double_of_the_bank_says_what_it_is(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "double"
    double = open_bank_tickets("", "", keys)
    assert "no bank verifies sign-ins here" in "".join(capsys.readouterr())
    with sessions_served(database_url, tmp_path, double) as house:
        session = house.create(make_double_ticket(keys, "r-1", house.clock.now_s, person_ref="p"))
        assert claims_of(session.access_token)["customer_ref"] == "r-1"
        assert "bank.double_used" in "".join(capsys.readouterr())
        with refused("CODE_INVALID"):  # a bank that is real but not this one
            house.create(house.bank.ticket())
    assert ISSUER not in "".join(capsys.readouterr())


def test_the_service_as_it_is_wired_signs_a_customer_in(database_url: str, tmp_path: Path) -> None:
    with served(settings_for(database_url, tmp_path)) as whole:
        ticket = make_double_ticket(tmp_path, "r-1", int(time.time()), customer_kind="cardholder")
        asked = session_service_pb2.CreateSessionRequest(
            bank_ticket=ticket, request_id=request_id()
        )
        session = whole.sessions.CreateSession(asked, timeout=30).session
        opening = account_pb.OpenAccountRequest(
            account=Account(display_name="x"), request_id=request_id()
        )
        account = whole.accounts.OpenAccount(opening, **bearer(session.access_token)).account
        again = session_service_pb2.RefreshSessionRequest(
            refresh_token=session.refresh_token, request_id=request_id()
        )
        assert whole.sessions.RefreshSession(again, timeout=30).session.account == account.name
        assert account.customer_kind == CUSTOMER_KIND_CARDHOLDER


def test_an_erasure_ends_sessions_of_before_the_opening_too(house: SessionHouse) -> None:
    tablet, phone = house.phone("relation"), house.phone("relation")
    tablet.sign_in()
    phone.sign_in()
    phone.open_account()
    with house.database.transaction() as connection:
        assert delete_sessions(connection, account_id_of(phone.session.account)) == 2
    with refused("TOKEN_INVALID"):
        tablet.refresh()


def test_every_relation_by_which_a_person_signed_in_finds_the_account(house: SessionHouse) -> None:
    first = house.phone("relation-1")
    first.sign_in()
    account = first.open_account()
    # The bank has learned who the person is since, and says so.
    house.phone("relation-1", person_ref="person").sign_in()
    second = house.phone("relation-2", person_ref="person")
    assert second.sign_in().account == account
    assert house.phone("relation-2").sign_in().account == account
    with pytest.raises(grpc.RpcError) as error:
        second.open_account()
    assert reason_of(error.value) == "RESOURCE_EXISTS"
