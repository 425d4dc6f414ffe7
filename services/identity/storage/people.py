"""What is personal about an account: sealed, version by version, until erasure."""

from __future__ import annotations

import json
from datetime import datetime

import sqlalchemy as sa

from services.identity.storage.vault import Vault
from services.identity.storage.vault_tables import data_key, person
from shared.ids import shard_of

# The table of before the vault; nothing else reads it.
_OLD_PEOPLE = """
select p.account_id, p.display_name, p.region, a.open_time
from account_person p join account a using (shard, account_id)
order by p.shard, p.account_id limit :limit for update of p skip locked
"""
_DELETE_OLD = "delete from account_person where shard = :shard and account_id = :account_id"
_HAS_PAGES = "select pg_relation_size('account_person') > 0"
_HAS_ROWS = "select exists (select from account_person)"


class People:
    """Versions of persons, numbered from 1 within the account; opened bytes go in and out."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def read(
        self, connection: sa.Connection, account_id: int, as_of: datetime | None
    ) -> tuple[int, bytes] | None:
        """Number and content of the newest version, or of the newest that was set at `as_of`.

        None without one, as after an erasure. Errors are those of `Vault.open`.
        """
        query = (
            sa.select(person.c.number, person.c.sealed, data_key.c.kek, data_key.c.wrapped)
            # Value and key of one moment: an erasure in between could not be told from a fault.
            .outerjoin_from(
                person,
                data_key,
                sa.and_(
                    data_key.c.shard == person.c.shard,
                    data_key.c.account_id == person.c.account_id,
                ),
            )
            .where(person.c.shard == shard_of(account_id), person.c.account_id == account_id)
            .order_by(person.c.number.desc())
            .limit(1)
        )
        if as_of is not None:
            query = query.where(person.c.set_time <= as_of)
        row = connection.execute(query).one_or_none()
        if row is None:
            return None
        key = None if row.kek is None else (row.kek, row.wrapped)
        plain = self._vault.open_beside(
            connection, account_id, _purpose(row.number), row.sealed, key
        )
        return row.number, plain

    def write(
        self, connection: sa.Connection, account_id: int, number: int, now: datetime, plain: bytes
    ) -> None:
        """Adds version `number`, set `now`. The account is locked by the caller and has a data
        key, else KeyDestroyed."""
        connection.execute(
            sa.insert(person).values(
                account_id=account_id, shard=shard_of(account_id), number=number, set_time=now,
                sealed=self._vault.seal(connection, account_id, _purpose(number), plain),
            )
        )  # fmt: skip

    def erase(self, connection: sa.Connection, account_id: int) -> None:
        """Deletes every version; the data key is the vault's to destroy."""
        connection.execute(
            sa.delete(person).where(
                person.c.shard == shard_of(account_id), person.c.account_id == account_id
            )
        )


def seal_old_people(connection: sa.Connection, vault: Vault, limit: int) -> int:
    """Seals at most `limit` clear-text persons of before the vault as version 1; how many.

    0 means that none is left, or that others are at it. Several workers may do this at once, and
    a killed one leaves nothing half done.
    """
    people = People(vault)
    rows = connection.execute(sa.text(_OLD_PEOPLE), {"limit": limit}).all()
    for account_id, display_name, region, open_time in rows:
        plain = json.dumps({"display_name": display_name, "region": region}, ensure_ascii=False)
        vault.new_key(connection, account_id)
        people.write(connection, account_id, 1, open_time, plain.encode())
        connection.execute(
            sa.text(_DELETE_OLD), {"shard": shard_of(account_id), "account_id": account_id}
        )
    return len(rows)


def give_back_old_pages(connection: sa.Connection) -> None:
    """Gives back the file of the clear-text table once it is empty, because its pages keep the
    names of deleted rows; the database's journal does too, until it is overwritten.

    Call it first in a transaction: its lock on the table waits for every other worker.
    """
    if connection.execute(sa.text(_HAS_PAGES)).scalar():
        connection.execute(sa.text("lock table account_person in access exclusive mode"))
        # A worker that was killed has left the rows which others had skipped.
        if not connection.execute(sa.text(_HAS_ROWS)).scalar():
            connection.execute(sa.text("truncate account_person"))


def _purpose(number: int) -> str:
    """Bound to the version too, so that an old one cannot be passed off as the newest."""
    return f"person/{number}"
