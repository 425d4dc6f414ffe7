"""`make run`'s job from a checkout that nobody else may enter, by root and by an ordinary user."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import site
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.launch.layout import CHECKOUT, SERVICES
from shared.storage.embedded import default_home
from shared.storage.machine import free_port, may_enter

AS_ROOT = os.geteuid() == 0
PARTS = ("services", "shared", "deploy", "build/gen")


@pytest.fixture
def checkout(server_root: Path) -> Iterator[Path]:
    """A copy of what runs, below a directory of mode 0700."""
    private = server_root / "private"
    copy = private / "checkout"
    private.mkdir(mode=0o700)
    for part in PARTS:
        shutil.copytree(CHECKOUT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    yield copy
    shutil.rmtree(private)
    if AS_ROOT:
        shutil.rmtree(default_home(copy, {}), ignore_errors=True)


def run_once(checkout: Path, python: str, user: int | None) -> str:
    """What the launcher says; it must end well."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("CARBONACCOUNT_")}
    packages = [checkout, checkout / "build" / "gen", *site.getsitepackages()]
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, packages)), "HOME": str(checkout)}
    for service in SERVICES:
        environment[f"CARBONACCOUNT_{service.upper()}_LISTEN"] = f"127.0.0.1:{free_port()}"
    ended = subprocess.run(
        [python, "-m", "services", "run", "--once"],
        cwd=checkout, env=environment, user=user, group=user and pwd.getpwuid(user).pw_gid,
        extra_groups=None if user is None else [], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-2000:]
    return ended.stdout


def check_runs(checkout: Path, python: str, user: int | None = None) -> None:
    """The job is done once, and a second start repeats nothing."""
    said = run_once(checkout, python, user)
    assert "The ledger adds up to zero" in said
    report = json.loads((checkout / "var" / "run" / "report.json").read_text())
    assert report["acts"]["accepted"] == 9268 + 2000
    assert set(report["ledger_sum"].values()) == {0}
    assert "nothing is repeated" in run_once(checkout, python, user)
    assert stat.S_IMODE(checkout.parent.stat().st_mode) == 0o700


def test_it_runs_for_whoever_runs_these_tests(checkout: Path) -> None:
    check_runs(checkout, sys.executable)


@pytest.mark.skipif(not AS_ROOT, reason="only root can become somebody else")
def test_it_runs_for_an_ordinary_user_to_whom_it_belongs(checkout: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    who = (nobody.pw_uid, nobody.pw_gid)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    pythons = [Path(place, version).resolve() for place in ("/usr/bin", "/usr/local/bin")]
    python = next((each for each in pythons if each.exists() and may_enter(each, who)), None)
    if python is None or not may_enter(Path(site.getsitepackages()[0]), who):
        pytest.skip("no Python here, or no packages, that an ordinary user may use")
    for place in (checkout.parent, *checkout.parent.rglob("*")):
        os.chown(place, *who)
    check_runs(checkout, str(python), nobody.pw_uid)
