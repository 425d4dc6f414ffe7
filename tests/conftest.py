"""One PostgreSQL for the whole run, a fresh database for each test that asks for one."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.storage.embedded import EmbeddedPostgres

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A server that lives as long as the tests, in a directory that its user can enter."""
    base = Path("/var/tmp") if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="carbonaccount-tests-", dir=base))
    home.chmod(0o755)
    server = EmbeddedPostgres(home, {"shared_buffers": "256MB", "max_connections": "200"})
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> str:
    """The address of an empty database."""
    name = f"test_{next(_NUMBERS)}"
    postgres.create_database(name)
    return postgres.url(name)
