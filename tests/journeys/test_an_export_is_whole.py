"""A copy of an account over all services is whole, whoever is killed while it is made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb

from services.identity import verify_receipt
from services.launch.supervisor import Supervisor
from shared.storage.embedded import EmbeddedPostgres
from tests.journeys.privacy_journey import Holder, many_rides, opened, records
from tests.suite import BENCH, World, running_suite, tell

ACTS = 1_500


@pytest.fixture(scope="module")
def supervisor(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Supervisor]:
    with running_suite(postgres, tmp_path_factory.mktemp("var"), prefix="copies") as running:
        yield running


def check_whole(
    archive: bytes, account: str, balance_mg: int, withdrawn: int = 0
) -> dict[str, bytes]:
    """That everything of the account is in it, in every service's words, and adds up."""
    files = opened(archive)
    activities = records(files, "activity/activities")
    assessments = records(files, "calculation/assessments")
    entries = records(files, "settlement/entries")
    assert len(activities) == len(assessments) - withdrawn == ACTS
    assert {one["position"] for one in activities} == {
        int(one["assessment"].rpartition("/")[2]) for one in assessments
    }
    assert sum(one["delta"] for one in assessments) == balance_mg
    assert sum(one["delta"] for one in entries) == balance_mg
    (balance,) = records(files, "settlement/balances")
    assert (balance["asset"], balance["available"]) == ("reduction", balance_mg)
    assert records(files, "identity/account")[0]["account"] == account
    return files


@pytest.mark.timeout(300)
def test_a_copy_holds_everything_and_verifies_offline(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("whole-1")
        await many_rides(world, account, ACTS, "whole-1")
        holder = Holder(world, account)
        began = time.monotonic()
        name = await holder.ask()
        done = await holder.until_done(name)
        archive = await holder.download(name)
        print(f"{ACTS} acts: {time.monotonic() - began:.2f} s, {len(archive)} bytes")
        assert len(archive) == done.archive_bytes
        files = check_whole(archive, account, await world.balance_mg(account))
        counts = {part.service: dict(part.counts) for part in done.parts}
        assert counts["services/activity"]["activities"] == ACTS
        assert counts["services/calculation"]["assessments"] == ACTS
        ridden = records(files, "activity/activities")[0]
        assert (ridden["source"], ridden["scene"]) == (BENCH, "scenes/shared-bike-ride")
        assessed = records(files, "calculation/assessments")[0]
        assert assessed["methodology_version"].startswith("methodologies/")
        assert assessed["measures"]["distance_metre"] == 1000
        for member in ("manifest.jws", "keys.jwks"):
            (tmp_path / member).write_bytes(files[member])
        await withdraw_one(world, holder, str(ridden["name"]))

    tell(supervisor.layout, story)
    verified = subprocess.run(
        [sys.executable, verify_receipt.__file__, "manifest.jws", "keys.jwks"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr


async def withdraw_one(world: World, holder: Holder, activity: str) -> None:
    """The next copy shows what was taken back, beside what it had been."""
    await world.clients.activities(BENCH).WithdrawActivity(
        activity_pb.WithdrawActivityRequest(name=activity, cause="the meter was wrong")
    )
    await world.until_posted()
    name = await holder.ask()
    await holder.until_done(name)
    balance_mg = await world.balance_mg(holder.account)
    files = check_whole(await holder.download(name), holder.account, balance_mg, withdrawn=1)
    (newest,) = [one for one in records(files, "calculation/assessments") if one["superseding"]]
    assert newest["verdict"] == "withdrawn"
    assert newest["delta"] < 0 == newest["amount"]
    states = [one["state"] for one in records(files, "activity/activities")]
    assert states.count("STATE_WITHDRAWN") == 1
    kinds = [one["kind"] for one in records(files, "settlement/entries")]
    assert kinds.count("reverse") == 1


@pytest.mark.timeout(600)
def test_a_copy_is_whole_though_any_service_is_killed_while_it_is_made(
    supervisor: Supervisor,
) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("killed-1")
        await many_rides(world, account, ACTS, "killed-1")
        balance_mg = await world.balance_mg(account)
        holder = Holder(world, account)
        for place, victim in enumerate(("activity", "calculation", "settlement", "identity")):
            name = await holder.ask()
            deadline = time.monotonic() + 0.1 * place
            kills = [f"{victim}-0", f"{victim}-0"]

            def watch(deadline: float = deadline, kills: list[str] = kills) -> None:
                supervisor.watch()
                if kills and time.monotonic() >= deadline:
                    with suppress(ProcessLookupError):  # the first kill may still be mended
                        os.kill(supervisor.pids()[kills[-1]], signal.SIGKILL)
                        kills.pop()

            await holder.until_done(name, watch)
            check_whole(await holder.download(name), account, balance_mg)

    tell(supervisor.layout, story)
