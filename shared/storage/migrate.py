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

from shared.settings import StartRefused
from shared.storage.engine import with_driver

_ENVIRONMENT = Path(__file__).parent / "alembic"
_LOCK = 0x6361726268  # any number that is the same in every process of the suite


def migrate(url: str, versions: Path) -> None:
    """Runs every step of `versions` that the database has not seen; safe to call at any time.

    Raises StartRefused when the address is none, or the database there cannot be used.
    """
    try:
        address = with_driver(url)
    except sa.exc.ArgumentError:
        raise StartRefused(
            "CARBONACCOUNT_<SERVICE>_DATABASE_URL is no address of a database; it must be "
            "postgresql://user:password@host:port/database"
        ) from None
    try:
        _migrate(sa.create_engine(address, poolclass=sa.NullPool), versions)
    except sa.exc.OperationalError as error:
        said = " ".join(str(error.orig).split())
        raise StartRefused(
            f"the database {address.host}:{address.port}/{address.database} cannot be used "
            f"({said[:300]}); start it, or name another one in CARBONACCOUNT_<SERVICE>_DATABASE_URL"
        ) from None


def _migrate(engine: sa.Engine, versions: Path) -> None:
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
