"""A vault over a real database, for tests of what lies in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from services.identity.storage import migrations
from services.identity.storage.vault import Vault
from services.identity.upstream.key_management import FileKeyManagement
from shared.storage.engine import Database
from shared.storage.migrate import migrate

MIGRATIONS = Path(migrations.__file__).parent
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
ALICE, BOB = 0x1234_5678_9ABC_DE01, 0x0FED_CBA9_8765_4302


class VaultHouse:
    """A keyring, a vault under it and identity's database."""

    def __init__(self, database: Database, keys_dir: Path, cipher: str = "aes-256-gcm") -> None:
        self.database = database
        self.keys_dir = keys_dir
        self.keys = FileKeyManagement(keys_dir / "wrapping")
        self.vault = Vault(self.keys, cipher)

    def new_key(self, *accounts: int) -> None:
        with self.database.transaction() as connection:
            for account_id in accounts:
                self.vault.new_key(connection, account_id)

    def seal(self, account_id: int, purpose: str, plain: bytes) -> bytes:
        with self.database.transaction() as connection:
            return self.vault.seal(connection, account_id, purpose, plain)

    def open(self, account_id: int, purpose: str, sealed: bytes) -> bytes:
        with self.database.transaction() as connection:
            return self.vault.open(connection, account_id, purpose, sealed)

    def destroy(self, account_id: int) -> None:
        with self.database.transaction() as connection:
            self.vault.destroy(connection, account_id)

    def sql(self, statement: str, **parameters: Any) -> list[Any]:
        """Rows of a statement, for looking behind the curtain and for moving things there."""
        with self.database.transaction() as connection:
            result = connection.execute(sa.text(statement), parameters)
            return list(result.all()) if result.returns_rows else []

    def add_account(self, account_id: int, open_time: datetime = NOW) -> None:
        """The bare account, as an older version left it."""
        self.sql(
            "insert into account (account_id, position, open_time, update_time, state, shard)"
            " values (:id, :position, :time, :time, 1, :shard)",
            id=account_id, position=account_id, time=open_time, shard=account_id & 63,
        )  # fmt: skip

    def add_old_person(self, account_id: int, name: str) -> None:
        """An account whose person lies in clear, as an older version left it."""
        self.add_account(account_id)
        self.sql(
            "insert into account_person (account_id, region, shard, display_name)"
            " values (:id, 440300, :shard, :name)",
            id=account_id, shard=account_id & 63, name=name,
        )  # fmt: skip


@contextmanager
def vault_house(
    database_url: str, keys_dir: Path, cipher: str = "aes-256-gcm"
) -> Iterator[VaultHouse]:
    migrate(database_url, MIGRATIONS)
    with closing(Database(database_url, connections_max=16, threads=8)) as database:
        yield VaultHouse(database, keys_dir, cipher)
