"""Many at once: signing in, renewing, ending; and keys that change while calls run."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from sessions_house import SessionHouse, bearer, request_id, sessions_served

from services.identity.storage.sessions import delete_sessions
from shared.ids import account_id_of
from shared.rpc.keyring import TOKENS, published, retire, rotate
from shared.rpc.status import reason_of

AT_ONCE = 20


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[SessionHouse]:
    with sessions_served(database_url, tmp_path) as running:
        yield running


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """What each of the calls returned, or the reason why it was refused."""
    gate = threading.Barrier(len(calls))

    def one(call: Callable[[], Any]) -> Any:
        gate.wait()
        try:
            return call()
        except grpc.RpcError as error:
            return reason_of(error)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def test_twenty_refreshes_of_one_request_are_one_renewal(house: SessionHouse) -> None:
    phone, request = house.holder(), request_id()
    token = phone.session.refresh_token
    ends = at_once([lambda: house.refresh(token, request)] * AT_ONCE)
    assert {end.name for end in ends} == {phone.session.name}
    assert house.sql("select generation from session") == [(3,)]
    house.refresh(ends[7].refresh_token)


def test_of_twenty_refreshes_of_many_requests_one_is_right_and_the_session_ends(
    house: SessionHouse,
) -> None:
    phone = house.holder()
    token = phone.session.refresh_token
    ends = at_once([lambda: house.refresh(token)] * AT_ONCE)
    right = [end for end in ends if not isinstance(end, str)]
    assert len(right) == 1
    assert Counter(end for end in ends if isinstance(end, str)) == {"TOKEN_INVALID": AT_ONCE - 1}
    assert at_once([lambda: house.refresh(right[0].refresh_token)]) == ["TOKEN_INVALID"]
    assert phone.events() == [("OPENED", ""), ("SIGNED_OUT", "refresh token used twice")]


def test_a_renewal_that_loses_a_race_never_holds_up_whoever_ends_the_session(
    house: SessionHouse,
) -> None:
    phone = house.holder()
    account_id = account_id_of(phone.session.account)
    address = house.database_url.replace("+psycopg", "")
    waits = "select from pg_stat_activity where pg_blocking_pids(pid) && %s::int[]"
    with (
        psycopg.connect(address) as winner,
        psycopg.connect(address) as ending,
        ThreadPoolExecutor(1) as pool,
    ):
        winner.execute("update session set generation = generation + 1")
        ending.execute("select from account where account_id = %s for update", (account_id,))
        loser = pool.submit(at_once, [phone.refresh])
        both = [each.info.backend_pid for each in (winner, ending)]
        while not house.sql(waits, both):
            time.sleep(0.01)
        winner.commit()
        while not house.sql(waits, both[1:]):
            time.sleep(0.01)
        ending.execute("delete from session where account_id = %s", (account_id,))
        ending.commit()
        assert loser.result(30) == ["TOKEN_INVALID"]


def test_one_ticket_used_twenty_times_at_once_is_one_session(house: SessionHouse) -> None:
    phone, request = house.holder(), request_id()
    ticket = house.bank.ticket(phone.customer_ref)
    ends = at_once([lambda: house.create(ticket, request)] * AT_ONCE)
    assert len({end.name for end in ends}) == 1
    other = house.bank.ticket(phone.customer_ref)
    ends = at_once([lambda: house.create(other)] * AT_ONCE)
    assert Counter(end for end in ends if isinstance(end, str)) == {"CODE_INVALID": AT_ONCE - 1}
    assert [kind for kind, _ in phone.events()].count("SIGNED_IN") == 2


def test_signing_in_renewing_and_ending_never_lock_each_other_out(house: SessionHouse) -> None:
    phone = house.holder()
    account_id = account_id_of(phone.session.account)
    phones = [house.phone(phone.customer_ref) for _ in range(6)]
    for each in phones:
        each.sign_in()

    def end_all() -> int:
        with house.database.transaction() as connection:
            connection.exec_driver_sql(
                f"select from account where account_id = {account_id} for update"
            )
            time.sleep(0.05)
            return delete_sessions(connection, account_id)

    copied = [each.session.refresh_token for each in phones[:2]]
    phones[0].refresh()
    phones[1].refresh()
    calls = [
        *(lambda token=token: house.refresh(token) for token in copied),
        *(lambda each=each: each.refresh() and None for each in phones[2:4]),
        *(lambda each=each: each.sign_out() for each in phones[4:]),
        *[lambda: house.phone(phone.customer_ref).sign_in() and None] * 4,
        end_all,
    ]
    ends = at_once(calls)
    reasons = {end for end in ends if isinstance(end, str)}
    assert reasons <= {"TOKEN_INVALID"}
    assert house.sql("select count(*) from session where end_time is null")[0][0] <= 6


def test_no_call_fails_while_keys_rotate_and_old_tokens_end_when_they_are_retired(
    house: SessionHouse,
) -> None:
    phone = house.holder()
    name = phone.session.account
    stop, faults, served = threading.Event(), [], []

    def read(token: str) -> None:
        asked = account_pb.ListAccountEventsRequest(parent=name)
        house.accounts.ListAccountEvents(asked, **bearer(token))

    def caller() -> None:
        own = house.phone(phone.customer_ref)
        own.sign_in()
        while not stop.is_set():
            try:
                read(own.session.access_token)
                own.refresh()
                read(own.session.access_token)
                served.append(1)
                time.sleep(0.02)  # far below the rate of one peer
            except grpc.RpcError as error:
                faults.append(error)

    threads = [threading.Thread(target=caller) for _ in range(4)]
    for thread in threads:
        thread.start()
    old, old_token = published(house.keys)[0].key_id, phone.session.access_token
    new = rotate(house.keys, TOKENS)
    read(old_token)
    assert [(key.key_id, key.current) for key in published(house.keys)[:2]] == [
        (new, True), (old, False),
    ]  # fmt: skip
    time.sleep(1)  # every caller has renewed since; the app of a customer does within minutes
    retire(house.keys, old)
    time.sleep(2)
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(served) > 20
    with pytest.raises(grpc.RpcError) as error:
        read(old_token)
    assert reason_of(error.value) == "TOKEN_INVALID"
    phone.refresh()  # only the access token is gone
    read(phone.session.access_token)
