"""Transactions and reads when the server goes away under them."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from shared.storage.embedded import EmbeddedPostgres
from shared.storage.engine import Database


def one(connection: sa.Connection) -> int:
    return int(connection.execute(sa.text("select 1")).scalar_one())


def test_a_read_after_the_server_was_killed_and_is_back_is_answered(server_root: Path) -> None:
    with (
        EmbeddedPostgres(server_root / "killed", {"shared_buffers": "16MB"}) as server,
        closing(Database(server.url("postgres"))) as database,
    ):

        async def reads() -> list[int]:
            return list(await asyncio.gather(*(database.read(one) for _ in range(8))))

        assert asyncio.run(reads()) == [1] * 8
        os.kill(server.pid, signal.SIGKILL)
        while server.running():
            pass
        with pytest.raises(sa.exc.OperationalError):
            asyncio.run(database.read(one))
        server.start()
        assert asyncio.run(reads()) == [1] * 8
