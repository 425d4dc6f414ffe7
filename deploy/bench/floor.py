"""The floor: one process that does everything by hand, with no service in between.

Parse, dedupe, consent join, exact calculation and posting into the same tables by the same
functions, in one transaction for each group of acts, one after another. What the pipeline
adds to it is three processes, gRPC, feeds to follow and cursors to move.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from carbonaccount.activity.v1 import activity_service_pb2 as pb

from deploy.bench.world import World
from services.activity.domain.keys import Keyring
from services.activity.rpc.reports import ReportReader
from services.activity.storage.journal import Journal
from services.activity.usecases.record_activities import record_activities
from services.activity.wiring import MIGRATIONS as ACTIVITY
from services.activity.wiring import load_catalogue
from services.calculation.domain.assess import Acts, Assessed, Rulebook, SceneCode, assess
from services.calculation.domain.methodology import Credit
from services.calculation.domain.windows import CapMemory
from services.calculation.storage.book import Book
from services.calculation.wiring import MIGRATIONS as CALCULATION
from services.calculation.wiring import read_library
from services.settlement.domain.netting import Leaves, net
from services.settlement.storage.columns import Changes, Transfers
from services.settlement.storage.ledger import Ledger
from services.settlement.usecases.post_run import changes_of, cover, lines_of
from services.settlement.wiring import MIGRATIONS as SETTLEMENT
from shared.clock import now_us
from shared.storage.engine import Database, driver_of
from shared.storage.migrate import migrate

GROUP_ACTS = 4000  # the most that the pipeline puts in one transaction
_SCHEMAS = {"activity": ACTIVITY, "calculation": CALCULATION, "settlement": SETTLEMENT}
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Done:
    """What a run of the floor took; CPU is of this process and its one backend."""

    acts: int
    seconds: float
    cpu_us_per_act: float

    @property
    def per_s(self) -> float:
        """Acts a second."""
        return self.acts / self.seconds


class Floor:
    """One database with the three schemas, one connection, one thread."""

    def __init__(self, world: World) -> None:
        assert world.supervisor.postgres is not None
        world.supervisor.postgres.create_database("floor")
        self._database = Database(world.url("floor"), connections_max=1, look_ups=True)
        for schema, versions in _SCHEMAS.items():
            with self._database.transaction() as connection:
                connection.execute(sa.text(f"create schema {schema}"))
            url = f"{world.url('floor')}?options=-csearch_path%3D{schema}"
            migrate(url, versions)
        self._catalogue = load_catalogue()
        source = self._catalogue.sources["sources/bench-demo"]
        self._reader = ReportReader(self._catalogue, source, Keyring(b"floor" * 8), b"floor" * 8)
        scenes = {
            scene.code: SceneCode(scene.name, tuple(m.name for m in scene.measures))
            for scene in self._catalogue.scenes.values()
        }
        self._rules = Rulebook(read_library().programmes["demo"], scenes)
        self._caps = CapMemory(lambda *_: {})
        self._classes: dict[tuple[str, int, int], int] = {}
        self._connection: sa.Connection | None = None
        self._positions = np.zeros(64, np.int64)
        self._load_consents(world)

    def run(self, messages: Sequence[bytes], acts: int) -> Done:
        """Takes serialised appends, as many at a time as make a group."""
        backend = self._backend()
        cpu, started = _cpu(backend), time.monotonic()
        waiting: list[bytes] = []
        count = 0
        for message in messages:
            waiting.append(message)
            count += acts // len(messages)
            if count >= GROUP_ACTS:
                self._group(waiting)
                waiting, count = [], 0
        if waiting:
            self._group(waiting)
        seconds = time.monotonic() - started
        return Done(acts, seconds, (_cpu(backend) - cpu) / acts * 1e6)

    def close(self) -> None:
        """Ends the connection."""
        self._database.close()

    def code_of(self, credit: Credit, region: int, vintage_month: int) -> int:
        """Asset class codes, remembered as the service does."""
        key = (credit.version.name + credit.scene_approval, region, vintage_month)
        if key not in self._classes:
            assert self._connection is not None
            code = Book(self._connection).class_code(credit, region, vintage_month)
            self._classes[key] = code
        return self._classes[key]

    def _group(self, messages: Sequence[bytes]) -> None:
        batches = [
            self._reader.read(
                pb.IngestActivitiesRequest.FromString(message).append.activities, now_us()
            )
            for message in messages
        ]
        with self._database.transaction() as connection:
            self._connection = connection
            self._enter("activity")
            record_activities(
                batches,
                journal=Journal(driver_of(connection)),
                catalogue=self._catalogue,
                staleness_max_ms=10**9,
            )
            self._enter("calculation")
            columns = [batch.columns for batch in batches]
            assessed = assess(self._acts(columns), self._rules, caps=self._caps, classes=self)
            Book(connection).write(assessed)
            self._enter("settlement")
            self._post(assessed)

    def _acts(self, columns: Sequence[object]) -> Acts:
        def joined(name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
            return np.concatenate([getattr(part, name) for part in columns])

        shard = joined("account_id") & 63
        order = np.argsort(shard, kind="stable")
        names = ("account_id", "scene", "region", "evidence_grade", "civil_day", "measure_1",
                 "measure_2", "label_1")  # fmt: skip
        values = {name: joined(name)[order] for name in names}
        shard = shard[order]
        shards, starts, counts = np.unique(shard, return_index=True, return_counts=True)
        rank = np.arange(len(shard)) - np.repeat(starts, counts)
        position = self._positions[shard] + 1 + rank
        self._positions[shards] += counts
        return Acts(shard=shard, activity_position=position, **values)

    def _post(self, assessed: Assessed) -> None:
        assert self._connection is not None
        acts, ledger = assessed.acts, Ledger(self._connection)
        leaves = Leaves(
            acts.shard, acts.activity_position, acts.account_id, acts.activity_position,
            assessed.asset_class, acts.civil_day, assessed.amount,
        )  # fmt: skip
        netted = net(leaves)
        assets = np.ones(len(netted), np.int64)
        lines = lines_of(netted, assets, cover(netted, assets, ledger=ledger))
        ledger.change(Changes(**changes_of(lines)))
        runs = {int(shard): (1, 1) for shard in np.unique(acts.shard)}
        ledger.add(Transfers(**lines), runs)

    def _enter(self, schema: str) -> None:
        assert self._connection is not None
        driver_of(self._connection).execute(f"set local search_path = {schema}".encode())

    def _backend(self) -> int:
        with self._database.transaction() as connection:
            return int(connection.execute(sa.text("select pg_backend_pid()")).scalar_one())

    def _load_consents(self, world: World) -> None:
        """The projection as activity has it, copied."""
        with world.connect("activity") as there, self._database.transaction() as connection:
            self._connection = connection
            self._enter("activity")
            here = driver_of(connection)
            columns = "account_id, shard, state, cover_from, cover_until"
            with (
                there.cursor().copy(f"copy account_consent ({columns}) to stdout".encode()) as out,
                here.cursor().copy(f"copy account_consent ({columns}) from stdin".encode()) as into,
            ):
                for data in out:
                    into.write(data)
            here.execute(
                "insert into cursor (feed, shard, complete_time)"
                " select 'identity', shard, 'infinity' from generate_series(0, 63) as shard"
            )


def _cpu(backend: int) -> float:
    with open(f"/proc/{backend}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    mine = os.times()
    return (int(fields[11]) + int(fields[12])) / _TICKS + mine.user + mine.system
