"""Brings one service's database to the schema that the code expects.

Each service has one Alembic history under `storage/migrations/`. A step is marked
`phase = "before"` when old code may still run beside it (add a table, a column, an index)
and `"after"` when it needs the old code gone; `migrate` runs up to the newest step.
Concurrent calls wait for each other by an advisory lock.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from shared.storage.engine import with_driver

_ENVIRONMENT = Path(__file__).parent / "alembic"
_LOCK = 0x6361726268  # any number that is the same in every process of the suite


def migrate(url: str, versions: Path) -> None:
    """Runs every step of `versions` that the database has not seen; safe to call at any time."""
    engine = sa.create_engine(with_driver(url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_lock(_LOCK)))
        connection.commit()
        try:
            config = Config()
            config.set_main_option("script_location", str(_ENVIRONMENT))
            config.set_main_option("version_locations", str(versions))
            config.set_main_option("path_separator", "newline")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(sa.select(sa.func.pg_advisory_unlock(_LOCK)))
            connection.commit()
    engine.dispose()
