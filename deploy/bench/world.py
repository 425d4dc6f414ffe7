"""The world of a benchmark: a suite of its own, accounts in bulk, acts already serialised."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg
from carbonaccount.activity.v1 import activity_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.launch.layout import CHECKOUT, SERVICES, Layout
from services.launch.supervisor import Supervisor
from shared.ids import account_name
from shared.storage.embedded import default_home
from shared.storage.machine import free_port

HOME_SUFFIX = "-bench"
SCENE = "scenes/metro-ride"
SOURCE = "sources/bench-demo"
ACTS_A_DAY = 3
FIRST_OCCUR_S = 1_780_272_000  # 2026-06-01 08:00 in UTC+8; three rides an account on that day

POSTGRES = {
    "shared_buffers": "3GB",
    "max_wal_size": "12GB",
    "track_commit_timestamp": "on",  # freshness is measured from commit to commit
}


@dataclass(frozen=True)
class World:
    """A running suite with accounts; `names` are their names, `ids` their numbers."""

    layout: Layout
    supervisor: Supervisor
    ids: list[int]
    names: list[str]

    def url(self, service: str) -> str:
        """The database of a service."""
        assert self.supervisor.postgres is not None
        return self.supervisor.postgres.url(service)

    def connect(self, service: str) -> psycopg.Connection[tuple[object, ...]]:
        """A psycopg connection to the database of a service."""
        return psycopg.connect(self.url(service).replace("+psycopg", ""), autocommit=True)


@contextmanager
def running_world(accounts: int, var: Path | None = None, *, workers: int = 1) -> Iterator[World]:
    """Starts a suite on an empty database with `accounts` open accounts; ends and removes it."""
    home = default_home(CHECKOUT, {})
    home = home.with_name(home.name + HOME_SUFFIX)
    var = var or CHECKOUT / "var" / "bench"
    environment = {**os.environ, "CARBONACCOUNT_POSTGRES_HOME": str(home)}
    for service in SERVICES:
        environment[f"CARBONACCOUNT_{service.upper()}_LISTEN"] = f"127.0.0.1:{free_port()}"
        environment[f"CARBONACCOUNT_{service.upper()}_LOG_LEVEL"] = "warning"
    shutil.rmtree(home, ignore_errors=True)
    supervisor = Supervisor(Layout(var, environment), postgres_settings=POSTGRES, workers=workers)
    try:
        supervisor.start()
        ids = np.random.default_rng(20260601).integers(1, 2**63 - 1, accounts).tolist()
        world = World(supervisor.layout, supervisor, ids, [account_name(i) for i in ids])
        _load_accounts(world)
        yield world
    finally:
        supervisor.stop()
        shutil.rmtree(home, ignore_errors=True)


def _load_accounts(world: World) -> None:
    """Opens the accounts and their travel consents straight in identity's tables.

    A million calls of OpenAccount would measure something else; what activity then follows is
    the same state feed.
    """
    shards = [account_id & 63 for account_id in world.ids]
    positions = dict.fromkeys(range(64), 0)
    with world.connect("identity") as connection, connection.transaction():
        copy_accounts = (
            "copy account (account_id, position, open_time, update_time, state, shard) from stdin"
        )
        with connection.cursor().copy(copy_accounts) as copy:
            for account_id, shard in zip(world.ids, shards, strict=True):
                positions[shard] += 1
                where = positions[shard]
                copy.write_row((account_id, where, "2026-01-01", "2026-01-01", 1, shard))
        # The notice in force, or a restart of identity would end these consents one by one.
        row = connection.execute(
            "select encode(digest, 'hex') from notice where scope = 1"
        ).fetchone()
        assert row is not None
        notice = f"\\x{row[0]}"
        copy_consents = (
            "copy consent (account_id, grant_time, cover_from_time, number, scope, shard,"
            " notice_digest) from stdin"
        )
        with connection.cursor().copy(copy_consents) as copy:
            for account_id, shard in zip(world.ids, shards, strict=True):
                copy.write_row((account_id, "2026-01-01", "2026-01-01", 1, 1, shard, notice))
        for shard, position in positions.items():
            connection.execute(
                "update feed_head set position = %s where shard = %s", (position, shard)
            )


def wait_until_known(world: World) -> None:
    """Until activity's projection holds every account and is fresh, so that acts are taken."""
    wanted = len(world.ids)
    with world.connect("activity") as connection:
        while True:
            row = connection.execute(
                "select (select count(*) from account_consent) = %s and"
                " min(complete_time) > now() - interval '1 s' from cursor where feed = 'identity'",
                (wanted,),
            ).fetchone()
            if row is not None and row[0]:
                return
            connection.execute("select pg_sleep(0.2)")


def appends(world: World, first: int, count: int, size: int) -> Iterator[bytes]:
    """`count` acts from number `first` on, as serialised appends of `size` acts.

    Act n belongs to account n modulo the number of accounts after a fixed shuffle: every
    account rides three times a day, and the rides of one account lie far apart in the stream.
    """
    order = np.random.default_rng(7).permutation(len(world.names))
    for start in range(0, count, size):
        numbers = range(first + start, first + min(start + size, count))
        reports = [report(world, int(order[n % len(order)]), n) for n in numbers]
        append = pb.IngestActivitiesRequest.Append(offset=start, activities=reports)
        yield pb.IngestActivitiesRequest(append=append).SerializeToString()


def report(world: World, account: int, number: int) -> pb.ActivityReport:
    """Ride `number`, of `account`: 1 to 20 km on the one day."""
    return pb.ActivityReport(
        account=world.names[account],
        scene=SCENE,
        source_event_id=f"ride-{number:012d}",
        occur_time=Timestamp(seconds=FIRST_OCCUR_S + number % 36_000),
        measures={"distance_metre": 1000 + number * 7919 % 19_000},
        region_code="440300",
        evidence_grade=pb.EVIDENCE_GRADE_RECORDED,
    )
