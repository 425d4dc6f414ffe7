"""One call at a time: durable RecordActivity beside an empty echo through the same wrapper."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import statistics
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop
from carbonaccount.activity.v1 import activity_service_pb2 as pb
from carbonaccount.activity.v1 import activity_service_pb2_grpc as pb_grpc

from deploy.bench.world import SOURCE, World, report
from services.launch.clients import Clients
from services.launch.layout import Layout
from shared.log import configure_log
from shared.rpc.server import Server
from shared.rpc.tokens import VERIFYING_FILE, TokenVerifier
from shared.storage.machine import free_port

CALLERS = 32
ROUNDS = 3


class Echo(pb_grpc.ActivityServiceServicer):
    """Answers at once and keeps nothing."""

    async def RecordActivity(
        self, request: pb.RecordActivityRequest, context: Any
    ) -> pb.RecordActivityResponse:
        """The smallest answer."""
        return pb.RecordActivityResponse(activity="echo")


def serve_echo(listen: str, keys: str) -> None:
    """A process that serves the echo until it is ended."""

    async def serve() -> None:
        server = Server(listen, verifier=TokenVerifier(Path(keys) / VERIFYING_FILE))
        server.add(pb_grpc.add_ActivityServiceServicer_to_server, Echo())  # type: ignore[abstract]  # the load calls one method
        await server.start()
        await server.run_until_signal()

    configure_log("echo", "warning")
    uvloop.run(serve())


def measure(world: World, seconds: float) -> dict[str, float]:
    """`record_unary_ratio`: rates of record and echo, alternated, medians.

    The ratio is of activity alone: calculation and settlement stand still meanwhile, because an
    echo feeds nobody either. With them following on the same cores it is
    `record_unary_ratio_followed`.
    """
    alone = _rates(world, seconds, still=("calculation", "settlement"), first=10**9)
    followed = _rates(world, seconds, still=(), first=2 * 10**9)
    return {
        "record_unary_per_s": round(alone[0]),
        "echo_unary_per_s": round(alone[1]),
        "record_unary_ratio": round(alone[0] / alone[1], 3),
        "record_unary_ratio_followed": round(followed[0] / followed[1], 3),
    }


def _rates(
    world: World, seconds: float, *, still: tuple[str, ...], first: int
) -> tuple[float, float]:
    """Calls a second of record and of echo, while the processes of `still` are stopped."""
    stopped = [pid for name, pid in world.supervisor.pids().items() if name.startswith(still)]
    for pid in stopped if still else ():
        os.kill(pid, signal.SIGSTOP)
    try:
        return _alternate(world, seconds, first)
    finally:
        for pid in stopped if still else ():
            os.kill(pid, signal.SIGCONT)


def _alternate(world: World, seconds: float, number: int) -> tuple[float, float]:
    listen = f"127.0.0.1:{free_port()}"
    context = multiprocessing.get_context("spawn")
    echo = context.Process(target=serve_echo, args=(listen, str(world.layout.keys)), daemon=True)
    echo.start()
    try:
        rates: dict[str, list[float]] = {"echo": [], "record": []}
        for _ in range(ROUNDS):
            for name, address in (("echo", listen), ("record", world.layout.listen("activity"))):
                calls = uvloop.run(_load(world, address, seconds, number))
                number += 10**6
                rates[name].append(calls / seconds)
    finally:
        echo.terminate()
        echo.join()
    return statistics.median(rates["record"]), statistics.median(rates["echo"])


async def _load(world: World, address: str, seconds: float, first: int) -> int:
    """Calls answered by `address` in that time, from 32 callers on one channel."""
    token = Clients(Layout(world.layout.var, os.environ)).token("source", SOURCE)
    metadata = (("authorization", f"Bearer {token}"),)
    done = 0
    numbers = iter(range(first, first + 10**6))
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        stub = pb_grpc.ActivityServiceStub(channel)
        end = time.monotonic() + seconds

        async def caller() -> None:
            nonlocal done
            while time.monotonic() < end:
                number = next(numbers)
                ride = report(world, number % len(world.names), number)
                request = pb.RecordActivityRequest(activity=ride)
                try:
                    await stub.RecordActivity(request, metadata=metadata)
                    done += 1
                except grpc.aio.AioRpcError as error:
                    # As the contract says: nothing was recorded, the same is sent again. It
                    # counts as time in which nothing was answered.
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    await asyncio.sleep(0.1)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return done
