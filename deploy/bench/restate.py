"""History restated: a factor is corrected for days that have passed, and every act of it moves.

restate_per_s            acts a second from publishing until the last difference is in a balance
restate_calculated_per_s the same, until calculation has gone over the last act
restate_acts             acts gone over
restate_changed          acts whose result changed: all of them here, the hardest case
restate_moved_mg_wrong   difference between what balances moved by and what recomputing says: 0
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from uuid import uuid4

from carbonaccount.calculation.v1 import methodology_service_pb2 as pb
from carbonaccount.calculation.v1 import methodology_service_pb2_grpc as pb_grpc
from carbonaccount.calculation.v1 import restatement_service_pb2 as restatement_pb
from carbonaccount.calculation.v1 import restatement_service_pb2_grpc as restatement_grpc

from deploy.bench.pipeline import pass_through
from deploy.bench.world import World, appends, running_world, wait_until_known
from services.launch.clients import Clients
from services.launch.layout import CHECKOUT

FILE = "sz-pt-2021.toml"
# Made up for the bench, like the day: what is measured is the going over, not the number.
BEFORE, AFTER, MOVES = "46.7", "45.9", "2026-01-01"
_POLL_S = 0.02
_BALANCES = "select coalesce(sum(balance), 0) from pocket where kind = 1"


def corrected_text(shipped: str) -> str:
    """The shipped file with a second version, from the day on with another metro factor."""
    head, mark, version = shipped.partition("[[version]]")
    first = version.replace('id = "1"', f'id = "1"\nend_date = {MOVES}', 1)
    second = version.replace('id = "1"', 'id = "2"', 1).replace("2021-12-16", MOVES, 1)
    second = second.replace(f'"{BEFORE}"', f'"{AFTER}"').replace("233_500", "229_500")
    return head + mark + first.rstrip() + "\n\n" + mark + second


def run(world: World, *, quick: bool) -> dict[str, float]:
    """Publishes the corrected file over what the world has recorded, and waits for balances."""
    return asyncio.run(_run(world))


async def _run(world: World) -> dict[str, float]:
    clients = Clients(world.layout)
    drafter, publisher = (
        pb_grpc.MethodologyServiceStub(clients.channel("calculation", "operator", name))
        for name in ("operators/drafter", "operators/publisher")
    )
    shipped = (CHECKOUT / "services/calculation/methodologies" / FILE).read_text("utf-8")
    file = pb.LibraryFile(path=FILE, content=corrected_text(shipped))
    drafted = await drafter.DraftLibraryFile(
        pb.DraftLibraryFileRequest(file=file, request_id=str(uuid4()))
    )
    name = drafted.draft.name
    await publisher.ReviewLibraryDraft(pb.ReviewLibraryDraftRequest(name=name))
    before = _balances(world)
    print("... publishing", file=sys.stderr, flush=True)
    begun = time.perf_counter()
    published = await publisher.PublishLibraryDraft(
        pb.PublishLibraryDraftRequest(
            name=name, reason_zh="测速", reason_en="a bench", request_id=str(uuid4())
        )
    )
    channel = clients.channel("calculation", "operator", "operators/publisher")
    restatements = restatement_grpc.RestatementServiceStub(channel)
    request = restatement_pb.GetRestatementRequest(name=published.restatement)
    while not (state := (await restatements.GetRestatement(request)).restatement).done:
        await asyncio.sleep(_POLL_S)
    calculated = time.perf_counter() - begun
    while not _posted(world):
        await asyncio.sleep(_POLL_S)
    seconds = time.perf_counter() - begun
    moved = _balances(world) - before
    return {
        "restate_per_s": round(state.acts / seconds),
        "restate_calculated_per_s": round(state.acts / calculated),
        "restate_acts": state.acts,
        "restate_changed": state.changed,
        "restate_moved_mg_wrong": moved - (state.gained - state.lost),
    }


def _posted(world: World) -> bool:
    """Whether settlement has posted all that calculation has written."""
    with world.connect("calculation") as calculation, world.connect("settlement") as settlement:
        heads = calculation.execute("select shard, position from feed_head").fetchall()
        cursors = settlement.execute(
            "select shard, position from cursor where feed = 'calculation'"
        ).fetchall()
    return set(heads) <= {*cursors, *((shard, 0) for shard in range(64))}


def _balances(world: World) -> int:
    with world.connect("settlement") as connection:
        row = connection.execute(_BALANCES).fetchone()
    assert row is not None
    return int(str(row[0]))


def _alone(quick: bool) -> dict[str, float]:
    acts = 40_000 if quick else 1_000_000
    with running_world(20_000 if quick else 333_334, Path(CHECKOUT / "var" / "bench")) as world:
        wait_until_known(world)
        half = acts // 2
        lanes = [(f"lane-{n}", list(appends(world, n * half, half, 1000))) for n in range(2)]
        asyncio.run(pass_through(world, lanes, acts))
        return run(world, quick=quick)


if __name__ == "__main__":
    json.dump(_alone("--quick" in sys.argv), sys.stdout, indent=2)
    sys.stdout.write("\n")
