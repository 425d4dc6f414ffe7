"""Bindings while everybody calls at once: one wins, nobody waits for ever, nothing is half done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import grpc
import psycopg
import pytest
from bindings_world import (
    BIKE,
    Clock,
    bind,
    bindings,
    confirm,
    consent_in_force,
    end,
    link,
    moment,
    rider,
    start,
)
from identity_house import House, request_id, served, settings_for, soon

from shared.ids import account_id_of, shard_of
from shared.rpc.status import reason_of

AGAIN = "RETRY_LATER"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def house(database_url: str, tmp_path: Path, clock: Clock) -> Iterator[House]:
    with served(settings_for(database_url, tmp_path), clock) as running:
        yield running


def outcome(call: Callable[[], Any]) -> str:
    """Either "done" or the reason of the refusal; retried as a caller retries."""
    for _ in range(20):
        try:
            call()
        except grpc.RpcError as error:
            reason = reason_of(error)
            if reason != AGAIN:
                return reason or str(error)
        else:
            return "done"
    return AGAIN


def at_once(*calls: Callable[[], Any]) -> list[str]:
    """The outcome of each, all begun at the same moment."""
    gate = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> str:
        gate.wait()
        return outcome(call)

    with ThreadPoolExecutor(len(calls)) as crowd:
        return list(crowd.map(run, calls))


def confirming(house: House, codes: Sequence[str], subject: str = "rider-1") -> list[Any]:
    return [partial(confirm, house, code, subject) for code in codes]


@contextmanager
def locking(house: House) -> Iterator[psycopg.Connection[Any]]:
    """A session of its own, for locks that a test takes."""
    with psycopg.connect(house.settings.database_url.replace("+psycopg", "")) as connection:
        yield connection


def until_somebody_waits(house: House) -> None:
    """Returns when a transaction waits for a lock."""
    waiting = (
        "select count(*) from pg_stat_activity "
        "where wait_event_type = 'Lock' and datname = current_database()"
    )
    deadline = time.monotonic() + 10
    while house.sql(waiting) == [(0,)]:
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.01)


def consistent(house: House) -> None:
    """Every subject is that of one binding that has not ended, and the other way round."""
    held = house.sql("select digest, account_id, number from subject order by 1")
    current = house.sql(
        "select digest, account_id, number from binding where end_time is null order by 1"
    )
    assert held == current


def test_a_subject_confirmed_for_many_accounts_at_once_is_bound_to_one(house: House) -> None:
    for round_number in range(3):
        people = [rider(house, BIKE) for _ in range(16)]
        codes = [start(person).code for person in people]
        outcomes = at_once(*confirming(house, codes, f"rider-{round_number}"))
        assert Counter(outcomes) == {"done": 1, "RESOURCE_EXISTS": 15}
        consistent(house)


def test_a_subject_that_ran_out_is_taken_over_by_one_of_many(house: House, clock: Clock) -> None:
    over = soon(30)
    holder = rider(house, BIKE, expire_time=over)
    bind(holder)
    people = [rider(house, BIKE) for _ in range(16)]
    clock.stand(moment(over))
    outcomes = at_once(*confirming(house, [start(person).code for person in people]))
    assert Counter(outcomes) == {"done": 1, "RESOURCE_EXISTS": 15}
    assert house.sql("select count(*) from event where kind = 11") == [(1,)]
    consistent(house)


@pytest.mark.parametrize("taker_place", [0, 1])
@pytest.mark.parametrize(
    ("rows", "household", "first_place"),
    [("account", None, 0), ("account", 0, 1), ("account", 1, 0), ("feed_head", 0, 0)],
)
def test_a_taker_locks_two_accounts_and_their_heads_in_the_order_of_everybody(
    house: House, clock: Clock, rows: str, household: int | None, first_place: int, taker_place: int
) -> None:
    over = soon(30)
    one, two = rider(house), rider(house)
    while shard_of(account_id_of(one.account)) == shard_of(account_id_of(two.account)):
        two = rider(house)
    ordered = sorted((one, two), key=lambda person: shard_of(account_id_of(person.account)))
    shards = [shard_of(account_id_of(person.account)) for person in ordered]
    taker, holder = ordered[taker_place], ordered[1 - taker_place]
    holder.grant(link(BIKE, expire_time=over))
    bind(holder)
    taker.grant(link(BIKE))
    clock.stand(moment(over))
    code = start(taker).code
    if household is not None:
        house.sql("update account set kind = 2 where shard = %s returning 1", shards[household])
    lock = f"select from {rows} where shard = %s for update"
    with ThreadPoolExecutor(1) as aside, locking(house) as first, locking(house) as second:
        first.execute(lock, [shards[first_place]])
        call = aside.submit(confirm, house, code)
        until_somebody_waits(house)
        second.execute(f"{lock} nowait", [shards[1 - first_place]])
        second.rollback()
        first.rollback()
        assert call.result(30).HasField("bind_time")


def test_one_code_binds_one_of_many_subjects(house: House) -> None:
    person = rider(house, BIKE)
    code = start(person).code
    outcomes = at_once(*(partial(confirm, house, code, f"rider-{n}") for n in range(12)))
    assert Counter(outcomes) == {"done": 1, "CODE_INVALID": 11}
    assert len(bindings(person)) == 1
    consistent(house)


def test_one_request_sent_many_times_at_once_binds_once(house: House) -> None:
    person, key = rider(house, BIKE), request_id()
    code, started = start(person).code, request_id()
    assert set(at_once(*[partial(confirm, house, code, request=key)] * 12)) == {"done"}
    assert len(bindings(person)) == 1
    with ThreadPoolExecutor(8) as crowd:
        codes = set(crowd.map(lambda _: start(person, request=started).code, range(8)))
    assert len(codes) == 1


def test_no_more_codes_than_five_are_given_however_many_ask_at_once(house: House) -> None:
    person = rider(house, BIKE)
    outcomes = at_once(*[partial(start, person)] * 12)
    assert Counter(outcomes) == {"done": 5, "LIMIT_REACHED": 7}


def test_a_withdrawal_and_a_confirmation_at_once_leave_no_binding(house: House) -> None:
    for number in range(10):
        person = rider(house, BIKE)
        code, consent = start(person).code, consent_in_force(person).name
        confirmed, revoked = at_once(
            partial(confirm, house, code, f"rider-{number}"),
            partial(person.revoke, consent),
        )
        assert revoked == "done"
        assert confirmed in ("done", "CODE_INVALID")
        assert all(binding.HasField("end_time") for binding in bindings(person))
    consistent(house)
    assert house.sql("select count(*) from subject") == [(0,)]


def test_closing_and_confirming_at_once_leave_no_binding(house: House) -> None:
    for number in range(6):
        person = rider(house, BIKE)
        code = start(person).code
        confirmed, closed = at_once(
            partial(confirm, house, code, f"rider-{number}"),
            person.close,
        )
        assert closed == "done"
        assert confirmed in ("done", "CODE_INVALID")
    assert house.sql("select count(*) from subject") == [(0,)]
    consistent(house)


def test_unbinding_and_binding_elsewhere_at_once_end_in_one_holder(house: House) -> None:
    for number in range(10):
        holder, person = rider(house, BIKE), rider(house, BIKE)
        name = bind(holder, f"rider-{number}").name
        code = start(person).code
        confirmed, unbound = at_once(
            partial(confirm, house, code, f"rider-{number}"),
            partial(end, holder, name),
        )
        assert unbound == "done"
        assert confirmed in ("done", "RESOURCE_EXISTS")
        consistent(house)
