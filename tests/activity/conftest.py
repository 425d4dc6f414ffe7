"""Identity and activity as they run; what an act is worth is nobody's question here."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from services.launch.layout import Layout
from services.launch.supervisor import Supervisor
from shared.storage.embedded import EmbeddedPostgres
from shared.storage.machine import free_port

SERVICES = ("identity", "activity")


@pytest.fixture(scope="session")
def suite(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """The two services, activity with two workers, each of which follows half of the shards."""
    environment = dict(os.environ)
    for service in SERVICES:
        name = f"activity_{uuid.uuid4().hex[:8]}_{service}"
        postgres.create_database(name)
        environment[f"CARBONACCOUNT_{service.upper()}_DATABASE_URL"] = postgres.url(name)
        environment[f"CARBONACCOUNT_{service.upper()}_LISTEN"] = f"127.0.0.1:{free_port()}"
    supervisor = Supervisor(
        Layout(tmp_path_factory.mktemp("var"), environment), services=SERVICES, workers=2
    )
    try:
        supervisor.start()
        yield supervisor.layout
    finally:
        supervisor.stop()
