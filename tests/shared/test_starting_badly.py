"""Whatever hinders the start is one clear line that says what to do, and exit code 2."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.launch.layout import CHECKOUT, Layout
from services.launch.supervisor import Supervisor
from shared.rpc.server import PortInUse, check_port
from shared.settings import StartRefused
from shared.storage.embedded import EmbeddedPostgres
from shared.storage.machine import free_port

CALCULATION = {
    "CARBONACCOUNT_CALCULATION_LISTEN": "127.0.0.1:1",
    "CARBONACCOUNT_CALCULATION_KEYS_DIR": str(Path(__file__) / "keys"),
    "CARBONACCOUNT_CALCULATION_ACTIVITY_ADDRESS": "127.0.0.1:2",
    "CARBONACCOUNT_CALCULATION_IDENTITY_ADDRESS": "127.0.0.1:3",
    "CARBONACCOUNT_CALCULATION_DATABASE_URL": "postgresql://app:secret@127.0.0.1:1/calculation",
}


def start(module: str, *arguments: str, **variables: str) -> tuple[int, str]:
    """Exit code and everything said by a process that is told these variables alone."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("CARBONACCOUNT_")}
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=CHECKOUT, env={**environment, **variables}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
    )  # fmt: skip
    return ended.returncode, ended.stdout


def test_a_service_without_its_settings_says_each_that_is_missing() -> None:
    code, said = start("services.identity")
    assert code == 2
    names = ("DATABASE_URL", "LISTEN", "KEYS_DIR")
    for line, name in zip(said.removeprefix("identity: ").splitlines(), names, strict=True):
        assert line.startswith(f"CARBONACCOUNT_IDENTITY_{name} is not set; set it to ")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "DATABASE_URL",
            "postgres at home",
            "CARBONACCOUNT_CALCULATION_DATABASE_URL is no address",
        ),
        ("DATABASE_URL", None, "the database 127.0.0.1:1/calculation cannot be used"),
        ("PROGRAMME", "moon", "CARBONACCOUNT_CALCULATION_PROGRAMME is 'moon'"),
        ("METHODOLOGIES_DIR", "/nowhere", "/nowhere has none"),
        ("RUN_ACTS_MAX", "ten", "CARBONACCOUNT_CALCULATION_RUN_ACTS_MAX is 'ten'; it must be"),
        ("RUN_ACTS_MAXI", "10", "did you mean CARBONACCOUNT_CALCULATION_RUN_ACTS_MAX?"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(name: str, value: str | None, expected: str) -> None:
    told = {f"CARBONACCOUNT_CALCULATION_{name}": value} if value is not None else {}
    code, said = start("services.calculation", **{**CALCULATION, **told})
    assert (code, said.count("\n")) == (2, 1)
    assert expected in said
    assert "secret" not in said


def test_a_broken_methodology_is_named_with_file_and_line(tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "services" / "calculation" / "methodologies", tmp_path / "m")
    broken = tmp_path / "m" / "hello-2022.toml"
    broken.write_text(broken.read_text().replace('"33.88"', '"33,88"'))
    told = {"CARBONACCOUNT_CALCULATION_METHODOLOGIES_DIR": str(tmp_path / "m")}
    code, said = start("services.calculation", **{**CALCULATION, **told})
    assert code == 2
    assert said.startswith("calculation: hello-2022.toml:")
    assert "Traceback" not in said


def test_keys_that_cannot_be_kept_are_named(postgres: EmbeddedPostgres, database_url: str) -> None:
    told = {"CARBONACCOUNT_CALCULATION_DATABASE_URL": database_url}
    code, said = start("services.calculation", **{**CALCULATION, **told})
    assert code == 2
    assert said.splitlines()[-1].startswith(f"calculation: {__file__}/keys: Not a directory")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ACTIVTY_LISTEN", "127.0.0.1:1", "CARBONACCOUNT_ACTIVTY_LISTEN is set and nobody reads"),
        ("ACTIVITY_LISTEN", "here", "it must be host:port"),
        ("VAR_DIR", str(Path(__file__)), "make it usable"),
    ],
)
def test_the_launcher_says_what_is_wrong_before_anything_starts(
    name: str, value: str, expected: str
) -> None:
    code, said = start("services", "run", "--once", **{f"CARBONACCOUNT_{name}": value})
    assert code == 2
    assert said.startswith("cannot run: ")
    assert expected in said
    assert said.count("\n") == 1


def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PortInUse, match="choose another address"):
            check_port(address)
        code, said = start(
            "services", "run", "--once",
            CARBONACCOUNT_VAR_DIR=str(tmp_path), CARBONACCOUNT_ACTIVITY_LISTEN=address,
        )  # fmt: skip
    assert code == 2
    assert said.startswith(f"cannot run: {address} cannot be listened on")


@pytest.fixture
def small_disk(server_root: Path) -> Iterator[Path]:
    """A disk of 20 MB, which PostgreSQL's first files do not fit on."""
    place = server_root / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("a full disk is tried where a small one may be mounted (as root)")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_one_clear_line(small_disk: Path, tmp_path: Path) -> None:
    ports = {f"CARBONACCOUNT_{s}_LISTEN": f"127.0.0.1:{free_port()}"
             for s in ("IDENTITY", "ACTIVITY", "CALCULATION", "SETTLEMENT")}  # fmt: skip
    code, said = start(
        "services", "run", "--once", CARBONACCOUNT_VAR_DIR=str(tmp_path),
        CARBONACCOUNT_POSTGRES_HOME=str(small_disk / "home"), **ports,
    )  # fmt: skip
    assert code == 2
    assert "cannot run: the disk of " in said
    assert "is full; free some of it" in said
    assert "Traceback" not in said


def test_two_services_on_one_port_are_refused(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    names = [f"CARBONACCOUNT_{service}_LISTEN" for service in ("IDENTITY", "ACTIVITY")]
    supervisor = Supervisor(Layout(tmp_path, dict.fromkeys(names, address)))
    with pytest.raises(StartRefused) as error:
        supervisor.start()
    assert all(name in str(error.value) for name in names)
    assert f"are both {address}; give each" in str(error.value)


def test_a_worker_of_another_suite_on_the_port_is_noticed() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        check_port(address)  # a worker of the same suite may join
        with pytest.raises(PortInUse):
            check_port(address, shared=False)
