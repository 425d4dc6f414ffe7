"""Estimates over gRPC: one at a time and a hundred at a time, beside an empty echo.

Four callers, each with a connection of its own and one call under way, are tasks of one process
that is neither the service's nor the benchmark's: on two cores a process for each would take
from the service what it is measured by. They call with a service's token, because calls without
one are held to a rate. The echo answers the same method through the same wrapper with an empty
message, alternated in the same run; rates are medians of the rounds. Service and echo run in two
processes each, as `make run ARGS="--workers 2"` starts them.

estimate_per_s              EstimateReduction with its working, calls a second
estimate_p50_ms, _p99_ms    as a caller sees them, all rounds together
estimate_cpu_us             processor time of the service for each call
estimate_echo_per_s         the echo; estimate_ratio_to_echo is the rate above over it
estimate_batch_items_per_s  BatchEstimateReductions of 100 items a call, items a second
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop
from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.calculation.v1 import assessment_service_pb2 as pb
from carbonaccount.calculation.v1 import assessment_service_pb2_grpc as pb_grpc

from deploy.bench.world import SCENE, World, running_world
from services.launch.clients import Clients
from shared.log import configure_log
from shared.rpc.server import Server
from shared.rpc.tokens import VERIFYING_FILE, TokenVerifier
from shared.storage.machine import free_port

WORKERS = 2
CALLERS = 4
ITEMS = 100
REQUESTS = 1_000
ROUNDS = 3
TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


class Echo(pb_grpc.AssessmentServiceServicer):
    """Answers at once with nothing."""

    async def EstimateReduction(
        self, request: pb.EstimateReductionRequest, context: Any
    ) -> pb.EstimateReductionResponse:
        """The smallest answer."""
        return pb.EstimateReductionResponse()


@dataclass(frozen=True)
class Load:
    """What four callers saw of one method in one stretch of time."""

    seconds: float
    cpu_us: int
    latencies_ms: list[float]

    @property
    def per_s(self) -> float:
        """Calls a second."""
        return len(self.latencies_ms) / self.seconds


def run(quick: bool = False) -> dict[str, float]:
    """Measures calculation in a suite of two workers a service; its answers are checked first."""
    seconds = 1.0 if quick else 6.0
    with running_world(100, workers=WORKERS) as world:
        token = Clients(world.layout).token("service", "services/bench")
        address = world.layout.listen("calculation")
        own = world.supervisor.pids()
        pids = [pid for name, pid in own.items() if name.startswith("calculation-")]
        uvloop.run(_check(address, token))
        loads: dict[str, list[Load]] = {"echo": [], "one": [], "many": []}
        spawn = multiprocessing.get_context("spawn")
        with _echo(world) as (echo, echoes), ProcessPoolExecutor(1, mp_context=spawn) as callers:
            for turn, (name, where, who) in itertools.product(
                range(-1, ROUNDS),
                (("echo", echo, echoes), ("one", address, pids), ("many", address, pids)),
            ):
                # The first turn only warms, as short as it may be.
                stretch = seconds if turn >= 0 else 0.5
                before = sum(map(_cpu_us, who))
                told = callers.submit(load, where, token, name == "many", stretch).result()
                if turn >= 0:
                    loads[name].append(Load(stretch, sum(map(_cpu_us, who)) - before, told))
    return _figures(loads)


def load(listen: str, token: str, many: bool, seconds: float) -> list[float]:
    """Milliseconds of each call of four callers in that time; runs in the callers' process."""
    return uvloop.run(_load(listen, token, many, seconds))


async def _load(listen: str, token: str, many: bool, seconds: float) -> list[float]:
    requests = itertools.cycle(_batches() if many else _singles())
    metadata = (("authorization", f"Bearer {token}"),)
    latencies: list[float] = []

    async def caller(call: Callable[..., Any]) -> None:
        begin = time.perf_counter()
        while begin < end:
            await call(next(requests), metadata=metadata)
            now = time.perf_counter()
            latencies.append((now - begin) * 1000)
            begin = now

    # Without it channels to one address share a connection.
    own = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(listen, options=own) for _ in range(CALLERS)]
    for channel in channels:
        await channel.channel_ready()
    end = time.perf_counter() + seconds
    stubs = [pb_grpc.AssessmentServiceStub(channel) for channel in channels]
    await asyncio.gather(
        *(caller(s.BatchEstimateReductions if many else s.EstimateReduction) for s in stubs)
    )
    for channel in channels:
        await channel.close()
    return latencies


async def _check(listen: str, token: str) -> None:
    """RuntimeError unless both methods give the milligrams that whole numbers give."""
    metadata = (("authorization", f"Bearer {token}"),)
    one, many = _singles()[0], _batches()[0]
    async with grpc.aio.insecure_channel(listen) as channel:
        stub = pb_grpc.AssessmentServiceStub(channel)
        single = await stub.EstimateReduction(one, metadata=metadata)
        batch = await stub.BatchEstimateReductions(many, metadata=metadata)
    told = [single.assessment.reduction_mg, *(each.amount for each in batch.estimates)]
    asked = [one, *many.requests]
    if told != [each.measures["distance_metre"] * 467 // 10 for each in asked]:
        raise RuntimeError("estimates are not those of SZ-PT-2021; mend the bench or the service")
    if not single.assessment.steps:
        raise RuntimeError("the estimate has no working, which is part of what is measured")


def _singles() -> list[pb.EstimateReductionRequest]:
    return [
        pb.EstimateReductionRequest(
            scene=SCENE,
            measures={"distance_metre": 1000 + number * 7919 % 19_000},
            region_code="440300",
            evidence_grade=activity_pb.EVIDENCE_GRADE_RECORDED,
        )
        for number in range(REQUESTS)
    ]


def _batches() -> list[pb.BatchEstimateReductionsRequest]:
    singles = _singles()
    return [
        pb.BatchEstimateReductionsRequest(requests=singles[start : start + ITEMS])
        for start in range(0, REQUESTS, ITEMS)
    ]


def _figures(loads: dict[str, list[Load]]) -> dict[str, float]:
    rates = {name: statistics.median(one.per_s for one in some) for name, some in loads.items()}
    figures = {
        "estimate_per_s": round(rates["one"]),
        "estimate_echo_per_s": round(rates["echo"]),
        "estimate_ratio_to_echo": round(rates["one"] / rates["echo"], 3),
        "estimate_batch_items_per_s": round(rates["many"] * ITEMS),
    }
    for name, some in (("estimate", "one"), ("estimate_echo", "echo"), ("estimate_batch", "many")):
        latencies = sorted(ms for one in loads[some] for ms in one.latencies_ms)
        cpu_us = sum(one.cpu_us for one in loads[some])
        figures[f"{name}_p50_ms"] = round(latencies[len(latencies) // 2], 2)
        figures[f"{name}_p99_ms"] = round(latencies[len(latencies) * 99 // 100], 2)
        figures[f"{name}_cpu_us"] = round(cpu_us / len(latencies))
    return figures


def _cpu_us(pid: int) -> int:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_US


@contextmanager
def _echo(world: World) -> Iterator[tuple[str, list[int]]]:
    """Address and process ids of an echo, in processes that end with the block."""
    listen = f"127.0.0.1:{free_port()}"
    told = (listen, str(world.layout.keys))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=serve_echo, args=told, daemon=True) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    try:
        yield listen, [process.pid for process in processes if process.pid is not None]
    finally:
        for process in processes:
            process.terminate()
            process.join()


def serve_echo(listen: str, keys: str) -> None:
    """A process that serves the echo until it is ended."""

    async def serve() -> None:
        server = Server(listen, verifier=TokenVerifier(Path(keys) / VERIFYING_FILE))
        server.add(pb_grpc.add_AssessmentServiceServicer_to_server, Echo())  # type: ignore[abstract]  # the load calls one method
        await server.start()
        await server.run_until_signal()

    configure_log("echo", "warning")
    uvloop.run(serve())
