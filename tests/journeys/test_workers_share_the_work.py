"""Two processes per service: shards are split, and a dead one's shards move within seconds."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import grpc
import grpc.aio
import pytest

from shared.storage.embedded import EmbeddedPostgres
from tests.suite import BENCH, World, ride, running_suite, tell


@pytest.mark.timeout(120)
def test_with_two_workers_each_act_counts_once_although_one_of_them_is_killed(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    with running_suite(postgres, tmp_path, workers=2, prefix="workers") as supervisor:

        async def story(world: World) -> None:
            accounts = [await world.open_account(f"worker-{n}") for n in range(8)]

            async def record(first: int) -> None:
                for number in range(first, first + 40):
                    report = ride(accounts[number % 8], f"w-{number}", 1000)
                    for _ in range(100):
                        try:
                            await world.record(report, BENCH)
                            break
                        except grpc.aio.AioRpcError as error:
                            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                                raise

            await record(0)
            for service in ("calculation", "settlement"):
                os.kill(supervisor.pids()[f"{service}-0"], signal.SIGKILL)
            await record(40)
            await world.until_posted()
            assert [await world.balance_mg(account) for account in accounts] == [338_800] * 8

        tell(supervisor.layout, story)
