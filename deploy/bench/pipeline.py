"""The pipeline: acts through activity, calculation and settlement until they are in balances."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from carbonaccount.activity.v1 import activity_service_pb2 as pb
from carbonaccount.type.v1.cursor_pb2 import ShardCursor

from deploy.bench.world import SOURCE, World
from services.launch.clients import Clients

_INGEST = "/carbonaccount.activity.v1.ActivityService/IngestActivities"
_TICKS = os.sysconf("SC_CLK_TCK")
WINDOW = 16


@dataclass(frozen=True)
class Passed:
    """What one run through the pipeline took; CPU is of every process, generator included."""

    acts: int
    seconds: float
    cpu_us_per_act: float
    transactions: int

    @property
    def per_s(self) -> float:
        """Acts a second."""
        return self.acts / self.seconds


def cpu_seconds(world: World) -> float:
    """CPU time of the services, of PostgreSQL with all its backends, and of this process."""
    assert world.supervisor.postgres is not None
    roots = {*world.supervisor.pids().values(), world.supervisor.postgres.pid}
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(entry.name) in roots or int(fields[1]) in roots:
            own, children = fields[11:13], fields[13:15]
            # Backends that have ended are in their parent's children; those alive are counted.
            counted = [*own, *(children if int(entry.name) in roots else [])]
            total += sum(map(int, counted))
    mine = os.times()
    return total / _TICKS + mine.user + mine.system


async def pass_through(world: World, lanes: Sequence[tuple[str, list[bytes]]], acts: int) -> Passed:
    """Sends serialised appends through their lanes at once; ends when all is in balances."""
    clients = Clients(world.layout)
    token = clients.token("source", SOURCE)
    before_runs = _count(world)
    cpu, started = cpu_seconds(world), time.monotonic()
    async with grpc.aio.insecure_channel(world.layout.listen("activity")) as channel:
        await asyncio.gather(*(_send(channel, token, lane, messages) for lane, messages in lanes))
        await settled(clients)
    seconds = time.monotonic() - started
    cpu = cpu_seconds(world) - cpu
    await clients.close()
    return Passed(acts, seconds, cpu / acts * 1e6, _count(world) - before_runs)


async def _send(
    channel: grpc.aio.Channel, token: str, lane: str, messages: Sequence[bytes]
) -> None:
    """One stream of one lane, a window ahead; every act must be recorded."""
    room = asyncio.Semaphore(WINDOW)
    opened = pb.IngestActivitiesRequest(open=pb.IngestActivitiesRequest.Open(lane=lane))

    async def requests() -> AsyncIterator[bytes]:
        yield opened.SerializeToString()
        for message in messages:
            await room.acquire()
            yield message

    call = channel.stream_stream(
        _INGEST,
        request_serializer=bytes,
        response_deserializer=pb.IngestActivitiesResponse.FromString,
    )(requests(), metadata=(("authorization", f"Bearer {token}"),))
    acknowledged = 0
    async for response in call:
        if response.WhichOneof("message") == "opened":
            continue
        if response.ack.refusals or not response.ack.outcomes:
            raise RuntimeError(f"an act of the benchmark was refused: {response}")
        room.release()
        acknowledged += 1
        if acknowledged == len(messages):
            break
    call.cancel()


async def settled(clients: Clients) -> None:
    """Until everything recorded is assessed and posted."""
    heads = _total((await clients.progress("activity", "")).heads)
    while True:
        calculation = await clients.progress("calculation", "activity")
        if _total(calculation.cursors) >= heads:
            settlement = await clients.progress("settlement", "calculation")
            if _total(settlement.cursors) >= _total(calculation.heads):
                return
        await asyncio.sleep(0.01)


def _total(cursors: Iterable[ShardCursor]) -> int:
    return sum(cursor.position for cursor in cursors)


def _count(world: World) -> int:
    """Transactions in which acts were recorded."""
    with world.connect("activity") as connection:
        row = connection.execute("select count(distinct batch) from activity_run").fetchone()
    assert row is not None
    return int(str(row[0]))


def sizes(world: World) -> tuple[int, int]:
    """Bytes on disk of the three databases, and the place in the WAL."""
    total = wal = 0
    for service in ("activity", "calculation", "settlement"):
        with world.connect(service) as connection:
            row = connection.execute(
                "select pg_database_size(current_database()),"
                " pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
            ).fetchone()
        assert row is not None
        total, wal = total + int(str(row[0])), int(str(row[1]))
    return total, wal


async def paced(
    world: World, messages: Sequence[bytes], lane: str, per_s: float, size: int
) -> None:
    """Sends appends of `size` acts at a steady rate, whatever the answers."""
    clients = Clients(world.layout)
    token = clients.token("source", SOURCE)
    opened = pb.IngestActivitiesRequest(open=pb.IngestActivitiesRequest.Open(lane=lane))
    loop = asyncio.get_running_loop()

    async def requests() -> AsyncIterator[bytes]:
        yield opened.SerializeToString()
        started = loop.time()
        for number, message in enumerate(messages):
            await asyncio.sleep(max(0.0, started + number * size / per_s - loop.time()))
            yield message

    async with grpc.aio.insecure_channel(world.layout.listen("activity")) as channel:
        call = channel.stream_stream(
            _INGEST,
            request_serializer=bytes,
            response_deserializer=pb.IngestActivitiesResponse.FromString,
        )(requests(), metadata=(("authorization", f"Bearer {token}"),))
        acknowledged = -1
        async for _ in call:
            acknowledged += 1
            if acknowledged == len(messages):
                break
        call.cancel()
        await settled(clients)
    await clients.close()


def freshness_ms(world: World, after_batch: int) -> tuple[float, float, float]:
    """p50, p99 and maximum of: start of the recording transaction to commit of the posting.

    Every act was assessed once, so the nth assessment of a shard is of its nth activity and
    the two feeds join by position.
    """
    with world.connect("activity") as connection:
        recorded = connection.execute(
            "select shard, position, position + count - 1, extract(epoch from record_time)::float8"
            " from activity_run where batch > %s order by shard, position",
            (after_batch,),
        ).fetchall()
    with world.connect("settlement") as connection:
        posted = connection.execute(
            "select shard, last_position,"
            " extract(epoch from pg_xact_commit_timestamp(xmin))::float8"
            " from posting_run order by shard, last_position"
        ).fetchall()
    by_shard: dict[int, list[tuple[int, float]]] = {}
    for shard, last, moment in posted:
        by_shard.setdefault(int(str(shard)), []).append((int(str(last)), float(str(moment))))
    waits: list[tuple[float, int]] = []
    places = dict.fromkeys(by_shard, 0)
    for shard, first, last, moment in recorded:
        runs, place = by_shard[int(str(shard))], places[int(str(shard))]
        while runs[place][0] < int(str(last)):
            place += 1
        places[int(str(shard))] = place
        acts = int(str(last)) - int(str(first)) + 1
        waits.append(((runs[place][1] - float(str(moment))) * 1000, acts))
    waits.sort()
    return _percentile(waits, 0.5), _percentile(waits, 0.99), waits[-1][0]


def _percentile(waits: Sequence[tuple[float, int]], share: float) -> float:
    """The wait that `share` of the acts stay below."""
    left = sum(acts for _, acts in waits) * share
    for wait, acts in waits:
        left -= acts
        if left <= 0:
            return wait
    return waits[-1][0]
