"""Reads that must stay as fast on a million rows as on ten thousand."""

from __future__ import annotations

import time

from carbonaccount.activity.v1 import activity_service_pb2 as pb

from deploy.bench.world import SOURCE, World, appends
from services.activity.domain.keys import Keyring
from services.activity.rpc.reports import ReportReader
from services.activity.storage.journal import Journal
from services.activity.wiring import load_catalogue
from services.settlement.storage.reader import Reader
from shared.clock import now_us
from shared.storage.engine import Database, driver_of

ROUNDS = 5
BATCH = 500


def reads_per_s(world: World, first: int, acts: int) -> tuple[float, float]:
    """Balances read and duplicates found a second, best of a few rounds, by the services' code.

    The acts are those numbered from `first` on, which were recorded before.
    """
    return _balances(world), _duplicates(world, first, acts)


def _balances(world: World) -> float:
    database = Database(world.url("settlement"))
    accounts = world.ids[:: max(1, len(world.ids) // 1000)][:1000]
    best = 0.0
    for _ in range(ROUNDS):
        started = time.monotonic()
        with database.transaction() as connection:
            reader = Reader(connection)
            for account_id in accounts:
                reader.holdings(account_id)
        best = max(best, len(accounts) / (time.monotonic() - started))
    database.close()
    return best


def _duplicates(world: World, first: int, acts: int) -> float:
    secret = (world.layout.keys / "activity.key").read_bytes()
    catalogue = load_catalogue()
    reader = ReportReader(catalogue, catalogue.sources[SOURCE], Keyring(secret), secret)
    batches = [
        reader.read(pb.IngestActivitiesRequest.FromString(message).append.activities, now_us())
        for message in appends(world, first, acts // 2, BATCH)
    ]
    database = Database(world.url("activity"), look_ups=True)
    best = 0.0
    for _ in range(ROUNDS):
        started = time.monotonic()
        with database.transaction() as connection:
            journal = Journal(driver_of(connection))
            for batch in batches:
                known = journal.judge(batch.columns)
                if len(known) != len(batch.columns):
                    raise RuntimeError("an act that was recorded is not known as a duplicate")
        best = max(best, acts / 2 / (time.monotonic() - started))
    database.close()
    return best
