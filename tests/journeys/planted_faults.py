"""What breaks while a planted value is in a request: rows, tables, the database, a process."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
import psycopg
from carbonaccount.identity.v1 import account_pb2
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from grpc_health.v1 import health_pb2, health_pb2_grpc
from psycopg import sql

from services.launch.layout import Layout
from services.launch.supervisor import Supervisor
from shared.ids import account_id_of
from shared.rpc.status import reason_of
from shared.storage.embedded import EmbeddedPostgres
from tests.journeys.planted_acts import record
from tests.journeys.planted_calls import Cast
from tests.journeys.planted_people import Person, request_id
from tests.journeys.planted_values import word
from tests.suite import BENCH, refusal, ride

_BREAK_SEAL = "update person set sealed = set_byte(sealed, 20, 255 - get_byte(sealed, 20))"
_CALLS, _UNDER_WAY_S, _BACK_S = 30, 0.02, 30


@contextmanager
def connected(layout: Layout, service: str) -> Iterator[psycopg.Connection[Any]]:
    """The database of a service, behind its back."""
    url = layout.database_url(service)
    assert url is not None
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


@contextmanager
def without_table(layout: Layout, service: str, table: str) -> Iterator[None]:
    """The service misses a table for a while."""
    rename = sql.SQL("alter table {} rename to {}")
    here, away = sql.Identifier(table), sql.Identifier(f"{table}_away")
    with connected(layout, service) as connection:
        connection.execute(rename.format(here, away))
        try:
            yield
        finally:
            connection.execute(rename.format(away, here))


def renaming(person: Person) -> Any:
    """A call that changes the name, which is planted on the way."""
    asked = account_pb.UpdateAccountRequest(
        account=account_pb2.Account(name=person.account), request_id=request_id()
    )
    asked.update_mask.paths[:] = ["display_name"]
    return person.accounts.UpdateAccount(asked)


async def meet_incidents(cast: Cast, person: Person) -> None:
    """Calls that end in a fault of ours: by a table that is gone, and by a broken seal."""
    newcomer = Person(cast, person.people, "newcomer", {"person_ref": word()})
    await newcomer.sign_in()
    opening = account_pb.OpenAccountRequest(account=account_pb2.Account(), request_id=request_id())
    with without_table(cast.layout, "identity", "person"):
        assert (await refusal(newcomer.accounts.OpenAccount(opening)))[1] == "INTERNAL"
        assert (await refusal(renaming(person)))[1] == "INTERNAL"
    with without_table(cast.layout, "identity", "session"):
        assert (await refusal(newcomer.sign_in()))[1] == "INTERNAL"
        assert (await refusal(newcomer.refresh()))[1] == "INTERNAL"
    with without_table(cast.layout, "activity", "event_key"):
        report = ride(person.account, "", subject="")
        assert (await refusal(record(cast, BENCH, report)))[1] == "INTERNAL"
    with connected(cast.layout, "identity") as connection:
        number = account_id_of(person.account)
        connection.execute(_BREAK_SEAL + " where account_id = %s", (number,))
        assert (await refusal(renaming(person)))[1] == "INTERNAL"
        connection.execute(_BREAK_SEAL + " where account_id = %s", (number,))
    await renaming(person)


async def lose_the_database(cast: Cast, person: Person, postgres: EmbeddedPostgres) -> None:
    """The database goes away for a moment, while people and sources go on calling."""
    postgres.stop()
    try:
        assert (await refusal(renaming(person)))[1] == "RETRY_LATER"
        assert (await refusal(person.sign_in()))[1] == "RETRY_LATER"
        assert (await refusal(record(cast, BENCH, ride(person.account, ""))))[1] == "RETRY_LATER"
    finally:
        postgres.start()
    await until_served(renaming, person)


async def crash(cast: Cast, person: Person, supervisor: Supervisor) -> None:
    """Processes die in the middle of calls: killed, and by a fault that may leave a core file."""
    for service, number in (
        ("identity", signal.SIGKILL), ("identity", signal.SIGABRT),
        ("activity", signal.SIGKILL), ("activity", signal.SIGSEGV),
    ):  # fmt: skip
        calls = [
            asyncio.ensure_future(
                renaming(person)
                if service == "identity"
                else record(cast, BENCH, ride(person.account, ""))
            )
            for _ in range(_CALLS)
        ]
        await asyncio.sleep(_UNDER_WAY_S)
        os.kill(supervisor.pids()[f"{service}-0"], number)
        await asyncio.gather(*calls, return_exceptions=True)
        await until_healthy(supervisor, service)


async def until_healthy(supervisor: Supervisor, service: str) -> None:
    """Until the supervisor has the service up again."""
    deadline = time.monotonic() + _BACK_S
    async with grpc.aio.insecure_channel(supervisor.layout.listen(service)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline:
            supervisor.watch()
            try:
                await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
            else:
                return
    raise AssertionError(f"{service} is not back after {_BACK_S} s")


async def until_served(call: Any, person: Person) -> None:
    """Until a call is answered that is refused as retryable meanwhile."""
    deadline = time.monotonic() + _BACK_S
    while True:
        try:
            await call(person)
        except grpc.aio.AioRpcError as error:
            if reason_of(error) != "RETRY_LATER" or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return
