"""A suite on a PostgreSQL of its own that says all it knows: debug logs, core files allowed."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from services.launch.layout import CHECKOUT, SERVICES, Layout
from services.launch.supervisor import Supervisor
from shared.storage.embedded import EmbeddedPostgres
from shared.storage.machine import free_port

# The journal is kept from the first change to the last, so that all of it can be searched.
SETTINGS = {"shared_buffers": "64MB", "wal_keep_size": "4GB", "log_min_messages": "info"}


@contextmanager
def talkative_suite(postgres: EmbeddedPostgres, var: Path) -> Iterator[Supervisor]:
    """The four services at log level debug, with a directory of their own for passing files."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("CARBONACCOUNT_")}
    passing = var / "tmp"
    passing.mkdir()
    environment["TMPDIR"] = str(passing)
    for service in SERVICES:
        postgres.create_database(service)
        told = {
            "DATABASE_URL": postgres.url(service),
            "LISTEN": f"127.0.0.1:{free_port()}",
            "LOG_LEVEL": "debug",
        }
        environment |= {f"CARBONACCOUNT_{service.upper()}_{n}": v for n, v in told.items()}
    supervisor = Supervisor(Layout(var, environment))
    with core_files_allowed():
        try:
            supervisor.start()
            yield supervisor
        finally:
            supervisor.stop()


@contextmanager
def core_files_allowed() -> Iterator[None]:
    """What is started meanwhile may leave its memory in a file when it crashes, if it lets it."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


def core_files(*places: Path) -> list[Path]:
    """Files that hold the memory of a crashed process, where services run and below `places`."""
    near = [path for path in CHECKOUT.glob("core*") if path.is_file()]
    below = [path for place in places for path in place.rglob("core*") if path.is_file()]
    return near + below


def checkpoint(postgres: EmbeddedPostgres) -> None:
    """Writes every changed page to its file."""
    address = postgres.url("postgres").replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("checkpoint")
