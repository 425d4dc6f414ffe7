"""An erasure: the person is gone from every service, and the books are what they were."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from carbonaccount.identity.v1 import privacy_service_pb2 as pb
from carbonaccount.identity.v1 import privacy_service_pb2_grpc as pb_grpc
from carbonaccount.settlement.v1 import ledger_service_pb2 as ledger_pb

from services.launch.supervisor import Supervisor
from shared.storage.embedded import EmbeddedPostgres
from tests.journeys.privacy_journey import DONE, Holder, many_rides
from tests.suite import BENCH, World, refusal, ride, running_suite, tell

BOOK = {
    "pocket": "shard, account_id, kind, asset",
    "transfer": "shard, position",
    "posting_run": "shard, last_transfer, first_position",
    "asset_class": "code",
}


@pytest.fixture(scope="module")
def supervisor(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Supervisor]:
    with running_suite(postgres, tmp_path_factory.mktemp("var"), prefix="books") as running:
        yield running


def rows(world: World, service: str, query: str) -> list[Any]:
    """Rows of a service's database, for looking behind the curtain."""
    url = world.layout.database_url(service)
    assert url is not None
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]  # of this file


def book(world: World) -> dict[str, list[Any]]:
    """Every row of the ledger."""
    return {
        table: rows(world, "settlement", f"select * from {table} order by {order}")
        for table, order in BOOK.items()
    }


async def statement(world: World, account: str) -> bytes:
    asked = ledger_pb.ListEntriesRequest(parent=account, page_size=500)
    answer = await world.clients.ledger().ListEntries(asked)
    return bytes(answer.SerializeToString(deterministic=True))


async def audited(world: World) -> Any:
    """What the auditor found after this moment, of every transfer there is."""
    ledger, began = world.clients.ledger(), time.time()
    ((transfers,),) = rows(world, "settlement", "select count(*) from transfer")
    while True:
        audit = await ledger.GetAudit(ledger_pb.GetAuditRequest())
        late = audit.audit_time.ToMicroseconds() > began * 1e6
        if late and audit.transfer_count == transfers:
            return audit
        await asyncio.sleep(0.1)


@pytest.mark.timeout(300)
def test_the_ledger_and_everybody_else_are_byte_for_byte_what_they_were(
    supervisor: Supervisor,
) -> None:
    async def story(world: World) -> None:
        erased, other = [await world.open_account(f"book-{n}") for n in range(2)]
        for place, account in enumerate((erased, other)):
            await many_rides(world, account, 200, f"book-{place}")
        before = {
            "book": book(world),
            "statement": await statement(world, other),
            "own": await statement(world, erased),
            "sums": list((await audited(world)).sums),
        }
        holder = Holder(world, erased)
        operation = await holder.close_and_erase()
        done = await holder.until_done(operation.name)
        audit = await audited(world)
        assert not audit.halted
        assert before == {
            "book": book(world),
            "statement": await statement(world, other),
            "own": await statement(world, erased),
            "sums": list(audit.sums),
        }
        parts = {part.service: part for part in done.parts}
        assert parts["services/activity"].counts["activity-details"] == 200
        assert all(kept.what and kept.why for part in done.parts for kept in part.kept)
        assert {service for service, part in parts.items() if part.kept} == set(parts)
        await opens_anew(world, erased)

    tell(supervisor.layout, story)


async def opens_anew(world: World, erased: str) -> None:
    """The person has another number, nothing of the old one, and no act is credited again."""
    again = await world.open_account("book-0")
    assert again != erased
    assert await world.balance_mg(again) == 0
    repeated = await refusal(world.record(ride(again, "book-0-0", 1000), BENCH))
    assert repeated[0] == "ALREADY_EXISTS"
    await world.until_posted()
    assert await world.balance_mg(again) == 0


@pytest.mark.timeout(300)
def test_a_stopped_service_is_visible_and_the_erasure_ends_when_it_is_back(
    supervisor: Supervisor,
) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("lagging-1")
        await many_rides(world, account, 20, "lagging-1")
        operators = pb_grpc.PrivacyServiceStub(world.clients.operator("identity"))
        os.kill(supervisor.pids()["settlement-0"], signal.SIGKILL)
        holder = Holder(world, account)
        name = (await holder.close_and_erase()).name

        async def lagging() -> list[str]:
            asked = pb.ListLaggingTasksRequest(waiting_seconds=1)
            tasks = (await operators.ListLaggingTasks(asked)).tasks
            return [task.service for task in tasks if task.operation == name]

        deadline = time.monotonic() + 30
        while await lagging() != ["services/settlement"]:
            assert time.monotonic() < deadline, await lagging()
            await asyncio.sleep(0.2)
        got = await operators.GetOperation(pb.GetOperationRequest(name=name))
        assert got.operation.state != DONE
        await holder.until_done(name, supervisor.watch)
        assert await lagging() == []

    tell(supervisor.layout, story)
