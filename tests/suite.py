"""A running suite for tests: four real services on databases of their own, and what to say."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
import pytest
from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.settlement.v1 import ledger_service_pb2 as ledger_pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.launch.clients import Clients
from services.launch.layout import SERVICES, Layout
from services.launch.people import People
from services.launch.supervisor import Supervisor
from shared.rpc.status import reason_of
from shared.storage.embedded import EmbeddedPostgres
from shared.storage.machine import free_port

Result = TypeVar("Result")
MAY_S = 1_780_000_000  # a moment in May 2026, after the day from which demo consents may cover


@contextmanager
def running_suite(
    postgres: EmbeddedPostgres, var: Path, *, workers: int = 1, prefix: str = "suite"
) -> Iterator[Supervisor]:
    """The four services on fresh databases of `postgres`."""
    tag = uuid.uuid4().hex[:8]
    environment = {n: v for n, v in os.environ.items() if not n.startswith("CARBONACCOUNT_")}
    for service in SERVICES:
        name = f"{prefix}_{tag}_{service}"
        postgres.create_database(name)
        environment[f"CARBONACCOUNT_{service.upper()}_DATABASE_URL"] = postgres.url(name)
        environment[f"CARBONACCOUNT_{service.upper()}_LISTEN"] = f"127.0.0.1:{free_port()}"
    supervisor = Supervisor(Layout(var, environment), workers=workers)
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.stop()


class World:
    """Words for tests: customers, rides, balances."""

    def __init__(self, layout: Layout) -> None:
        self.clients = Clients(layout)
        self.people = People(self.clients)
        self.labels: dict[str, str] = {}
        self.layout = layout

    async def open_account(
        self,
        label: str,
        scopes: tuple[str, ...] = ("scopes/travel-collect",),
        partners: tuple[str, ...] = (),
    ) -> str:
        """An account with consents that cover April 2026 on, bound to the partners' users of the
        same label; known to activity on return."""
        name = await self.people.open(label, scopes)
        self.labels[name] = label
        for source in partners:
            await self.people.bind(label, name, source)
        await self.until_followed("activity", "identity")
        return name

    async def until_followed(self, service: str, feed: str) -> None:
        """Until `service` has followed `feed` up to its present heads."""
        heads = {h.shard: h.position for h in (await self.clients.progress(feed, "")).heads}
        for _ in range(400):
            cursors = (await self.clients.progress(service, feed)).cursors
            if len(cursors) == 64 and all(heads[c.shard] <= c.position for c in cursors):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{service} did not follow {feed} within 8 s")

    async def until_posted(self) -> None:
        """Until what was recorded so far is in balances."""
        await self.until_followed("calculation", "activity")
        await self.until_followed("settlement", "calculation")

    async def record(self, report: activity_pb.ActivityReport, source: str) -> Any:
        return await self.clients.activities(source).RecordActivity(
            activity_pb.RecordActivityRequest(activity=report)
        )

    async def balance_mg(self, account: str) -> int:
        response = await self.clients.ledger().GetBalance(
            ledger_pb.GetBalanceRequest(name=f"{account}/balance")
        )
        return int(response.balance.available_mg)


BIKE, BANK, METRO = "sources/bike-demo", "sources/bank-demo", "sources/metro-demo"
BENCH = "sources/bench-demo"
"""A system of the bank that reports rides and names accounts."""


def ride(account: str, event: str, metres: int = 3000, **more: Any) -> activity_pb.ActivityReport:
    """A bike ride of May 2026 in Shenzhen."""
    fields: dict[str, Any] = {
        "account": account,
        "scene": "scenes/shared-bike-ride",
        "source_event_id": event,
        "occur_time": Timestamp(seconds=MAY_S),
        "measures": {"distance_metre": metres},
        "region_code": "440300",
        "evidence_grade": activity_pb.EVIDENCE_GRADE_RECORDED,
    }
    return activity_pb.ActivityReport(**{**fields, **more})


async def refusal(call: Awaitable[Any]) -> tuple[str, str]:
    """gRPC code and Reason of a call that must be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, reason_of(caught.value)


def tell(layout: Layout, story: Callable[[World], Awaitable[Result]]) -> Result:
    """Runs one asynchronous story with clients of its own."""

    async def run() -> Result:
        world = World(layout)
        try:
            return await story(world)
        finally:
            await world.clients.close()

    return asyncio.run(run())


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether `check` comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return False
