"""Racing debits over gRPC: four processes, two workers of settlement, pockets that run dry."""

from __future__ import annotations

import multiprocessing
import os
import time
from functools import partial
from hashlib import blake2b
from pathlib import Path

import grpc
import numpy as np
import sqlalchemy as sa
from carbonaccount.settlement.v1 import ledger_service_pb2 as pb
from carbonaccount.settlement.v1 import ledger_service_pb2_grpc as pb_grpc

from deploy.bench.world import World
from services.launch.layout import Layout
from services.launch.supervisor import Supervisor
from services.settlement.domain.judge import Post
from services.settlement.domain.pockets import Pocket, PocketKind
from services.settlement.storage.ledger import open_ledger
from services.settlement.usecases.post_transfers import Order, post_transfers
from services.settlement.wiring import MIGRATIONS
from shared.rpc.tokens import load_or_make_key, make_token
from shared.storage.engine import Database
from shared.storage.machine import free_port
from shared.storage.migrate import migrate

BATCH = 500
PROCESSES = 4
WORKERS = 2
REDUCTION = 1
POCKETS = [Pocket(0, 64 * (n + 1), PocketKind.AVAILABLE, REDUCTION) for n in range(64)]
ISSUE = Pocket(0, 0, PocketKind.ISSUE, REDUCTION)
POOL = "shards/0/pool"
_Counts = tuple[int, int]
"""Debits that were posted, and debits that were asked for."""


def run(world: World, *, quick: bool = False) -> dict[str, float]:
    """`overspend_races`: milligrams and pockets that are not where the answers say; 0 is right.

    A million attempts to take 1 mg from 64 pockets that hold a tenth of it, ten thousand of
    them as calls of their own.
    """
    debits, singles = (20_000, 400) if quick else (1_000_000, 10_000)
    assert world.supervisor.postgres is not None
    world.supervisor.postgres.create_database("race_bench")
    url = world.url("race_bench")
    migrate(url, MIGRATIONS)
    database = Database(url)
    held = debits // 10 // len(POCKETS)
    _fund(database, held)
    listen = f"127.0.0.1:{free_port()}"
    environment = {
        **world.layout.environment,
        "CARBONACCOUNT_SETTLEMENT_DATABASE_URL": url,
        "CARBONACCOUNT_SETTLEMENT_LISTEN": listen,
        "CARBONACCOUNT_CALCULATION_LISTEN": f"127.0.0.1:{free_port()}",  # nobody: nothing to follow
    }
    layout = Layout(world.layout.var, environment)
    supervisor = Supervisor(layout, workers=WORKERS, services=("settlement",))
    started = time.monotonic()
    try:
        supervisor.start()
        with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
            share = ((debits - singles) // PROCESSES, singles // PROCESSES)
            told = [(listen, str(layout.keys), n, *share) for n in range(PROCESSES)]
            counts = pool.starmap(_race, told)
    finally:
        supervisor.stop()
    posted, asked = sum(c[0] for c in counts), sum(c[1] for c in counts)
    with database.transaction() as connection:
        query = sa.text("select balance from pocket where kind = :kind")
        left = connection.execute(query, {"kind": int(PocketKind.AVAILABLE)}).scalars().all()
    database.close()
    wrong = sum(balance < 0 for balance in left)
    wrong += abs(held * len(POCKETS) - sum(left) - posted)
    return {
        "overspend_races": wrong,
        "overspend_attempts": asked,
        "overspend_posted": posted,
        "overspend_attempts_per_s": round(asked / (time.monotonic() - started)),
    }


def _fund(database: Database, held: int) -> None:
    """Gives every pocket `held` milligrams, by transfers, so that the auditor agrees."""
    posts = [
        Post(name, blake2b(name.encode(), digest_size=16).digest(), 1, ISSUE, pocket, held, 20_600)
        for pocket in POCKETS
        if (name := f"fund-{pocket.account_id}")
    ]
    order = Order(list(enumerate(posts)), len(posts), {}, False)
    post_transfers([order], work=partial(open_ledger, database))


def _race(listen: str, keys: str, process: int, debits: int, singles: int) -> _Counts:
    """One process: its debits in batches, with the single calls strewn among them."""
    chance = np.random.default_rng(process)
    token = make_token(load_or_make_key(Path(keys)), "service", "services/bench", lifetime_s=3600)
    sizes = np.array([BATCH] * (debits // BATCH) + [1] * singles)
    chance.shuffle(sizes)
    posted = 0
    # Each channel has a connection of its own, which the kernel gives to one of the workers.
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(listen, options=options) as channel:
        stub = pb_grpc.LedgerServiceStub(channel)
        for number, size in enumerate(sizes.tolist()):
            pockets = chance.integers(0, len(POCKETS), size).tolist()
            request = pb.PostTransfersRequest(
                transfers=[
                    pb.PostTransfersRequest.Post(
                        cause=f"{os.getpid()}-{number}-{n}",
                        from_pocket=POCKETS[pocket].name,
                        to_pocket=POOL,
                        asset="reduction",
                        amount=1,
                    )
                    for n, pocket in enumerate(pockets)
                ]
            )
            posted += _post(stub, request, token)
    return posted, int(sizes.sum())


def _post(stub: pb_grpc.LedgerServiceStub, request: pb.PostTransfersRequest, token: str) -> int:
    """How many of the request were posted; the same is sent again while the answer is to do so."""
    while True:
        try:
            metadata = (("authorization", f"Bearer {token}"),)
            outcomes = stub.PostTransfers(request, metadata=metadata, timeout=60).outcomes
            codes = [outcome.refusal.code for outcome in outcomes]
            if set(codes) - {0, grpc.StatusCode.FAILED_PRECONDITION.value[0]}:
                raise RuntimeError(f"a debit was refused for another reason: {outcomes}")
            return codes.count(0)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            time.sleep(0.05)
