"""kill -9 of any process at random moments of the main job: nothing lost, nothing doubled."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from services.launch.layout import CHECKOUT, SERVICES
from shared.storage.machine import free_port

ROUNDS = 4
# What an undisturbed run comes to; computed from the sample by its mapping, not copied from a run.
ACTS_ONCE = 9268 + 200 + 1200 + 600


def expected_mg() -> int:
    """Every distinct act of the main job by the published factors, floored act by act."""
    from services.activity.feeds import MappedAct, feed_path, map_feed, read_mapping
    from services.launch.main_job import TRIPS, TRIPS_MAPPING

    trips = map_feed(read_mapping(feed_path(TRIPS_MAPPING)), TRIPS)
    rides = sum(
        act.measures["distance_metre"] * 3388 // 100 for act in trips if isinstance(act, MappedAct)
    )
    return rides + 200 * 89_000 + 1200 * 24_000 + 600 * 89_000


def children_of(parent: int) -> dict[str, int]:
    """Process ids of the supervisor's children by what they run."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(stat[1]) == parent:
            name = next((w.decode() for w in words if w.startswith(b"services.")), "postgres")
            found[name] = int(entry.name)
    return found


@pytest.fixture
def place() -> object:
    base = Path("/var/tmp") if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="carbonaccount-kill-", dir=base))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_kill_9_at_random_moments_of_the_main_job(place: Path, seed: int) -> None:
    chance = random.Random(f"kill-{seed}")
    environment = {n: v for n, v in os.environ.items() if not n.startswith("CARBONACCOUNT_")}
    environment["CARBONACCOUNT_VAR_DIR"] = str(place / "var")
    environment["CARBONACCOUNT_POSTGRES_HOME"] = str(place / "postgres")
    for service in SERVICES:
        environment[f"CARBONACCOUNT_{service.upper()}_LISTEN"] = f"127.0.0.1:{free_port()}"
    report = place / "var" / "run" / "report.json"
    kills = 0
    for _ in range(10):
        run = subprocess.Popen(
            [sys.executable, "-m", "services", "run", "--once"],
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        while run.poll() is None and kills < 6:
            time.sleep(chance.uniform(0.3, 1.5))
            targets = {**children_of(run.pid), "supervisor": run.pid}
            name = chance.choice(sorted(targets))
            if run.poll() is None:
                os.kill(targets[name], signal.SIGKILL)
                kills += 1
        output, _ = run.communicate(timeout=120)
        if report.exists():
            break
    assert report.exists(), output.decode()[-2000:]
    found = json.loads(report.read_text())
    assert kills > 0
    assert sum(found["reduction_mg"].values()) == expected_mg()
    assert found["balance_mg"] == expected_mg()
    assert set(found["ledger_sum"].values()) == {0}
    acts = found["acts"]
    assert acts["accepted"] <= ACTS_ONCE
