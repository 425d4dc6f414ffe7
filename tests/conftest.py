"""What every test may ask for: one PostgreSQL for the whole run, a fresh database for each test."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from shared.protogen import generate
from shared.storage.embedded import EmbeddedPostgres

_numbers = count(1)


def pytest_configure() -> None:
    # Tests say all that a process is told; what the caller's shell has set is not part of it.
    for name in [name for name in os.environ if name.startswith("CARBONACCOUNT_")]:
        del os.environ[name]
    generate()


@pytest.fixture(scope="session")
def server_root() -> Iterator[Path]:
    """A directory that the server's unprivileged user can enter when the tests run as root."""
    place = Path(tempfile.mkdtemp(prefix="carbonaccount-", dir=_open_directory()))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(server_root: Path) -> Iterator[EmbeddedPostgres]:
    """One running server, as durable as in production; many suites may be connected at once."""
    settings = {"shared_buffers": "256MB", "max_connections": "200"}
    with EmbeddedPostgres(server_root / "session", settings) as server:
        yield server
        # What it holds is thrown away: nobody waits for the checkpoint of a thousand databases.
        os.kill(server.pid, signal.SIGQUIT)


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> str:
    """The SQLAlchemy address of an empty database that no other test has seen."""
    name = f"test_{next(_numbers)}"
    postgres.create_database(name)
    return postgres.url(name)


def _open_directory() -> str | None:
    """As root a directory that everybody may enter; the usual temporary one need not be."""
    return "/var/tmp" if os.geteuid() == 0 else None
