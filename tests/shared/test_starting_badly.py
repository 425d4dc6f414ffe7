"""A missing setting, a wrong one, a port in use: one clear line saying what to do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from services.activity.settings import Settings
from services.launch.layout import CHECKOUT
from shared.rpc.server import PortInUse, check_port
from shared.settings import SettingsInvalid, read_settings

GOOD = {
    "CARBONACCOUNT_ACTIVITY_DATABASE_URL": "postgresql://localhost/x",
    "CARBONACCOUNT_ACTIVITY_LISTEN": "127.0.0.1:1",
    "CARBONACCOUNT_ACTIVITY_KEYS_DIR": "keys",
    "CARBONACCOUNT_ACTIVITY_IDENTITY_ADDRESS": "127.0.0.1:2",
}


def test_settings_are_read_with_their_types_and_defaults() -> None:
    more = {**GOOD, "CARBONACCOUNT_ACTIVITY_POLL_MS": "7", "CARBONACCOUNT_IDENTITY_X": "other"}
    settings = read_settings(Settings, "activity", more)
    assert (settings.poll_ms, settings.keys_dir, settings.commit_acts_max) == (
        7,
        Path("keys"),
        4000,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("POLL_MS", "0"), ("POLL_MS", "1001"), ("POLL_MS", "ten"), ("POLL_MS", "１"), ("LISTEN", "")],
)
def test_a_wrong_value_names_variable_value_and_rule(name: str, value: str) -> None:
    variable = f"CARBONACCOUNT_ACTIVITY_{name}"
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(Settings, "activity", {**GOOD, variable: value})
    assert variable in str(caught.value)
    assert "must" in str(caught.value)


def test_all_faults_are_said_at_once_with_the_way_out() -> None:
    wrong = {"CARBONACCOUNT_ACTIVITY_POLLMS": "5", "CARBONACCOUNT_ACTIVITY_LISTEN": "x:1"}
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(Settings, "activity", wrong)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4  # one that nobody knows, three that are missing
    assert any("no setting of activity" in line for line in lines)
    assert any("DATABASE_URL is not set; set it to postgresql://" in line for line in lines)


def test_a_service_without_its_settings_ends_with_one_line_each_and_code_2() -> None:
    environment = {n: v for n, v in os.environ.items() if not n.startswith("CARBONACCOUNT_")}
    ended = subprocess.run(
        [sys.executable, "-m", "services.identity"],
        cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "CARBONACCOUNT_IDENTITY_DATABASE_URL is not set" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PortInUse, match="choose another address"):
            check_port(address)
        environment = {n: v for n, v in os.environ.items() if not n.startswith("CARBONACCOUNT_")}
        environment["CARBONACCOUNT_VAR_DIR"] = str(tmp_path)
        environment["CARBONACCOUNT_ACTIVITY_LISTEN"] = address
        ended = subprocess.run(
            [sys.executable, "-m", "services", "run", "--once"],
            cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert ended.returncode == 2
    assert f"cannot run: {address} cannot be listened on" in ended.stdout


def test_a_free_port_is_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    check_port(address, shared=False)


def test_a_worker_of_another_suite_on_the_port_is_noticed() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        check_port(address)  # a worker of the same suite may join
        with pytest.raises(PortInUse):
            check_port(address, shared=False)
