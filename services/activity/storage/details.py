"""Erasing what is personal about an account's activities; what the ledger rests on stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from services.activity.storage.journal import RECORDING_LOCK
from shared.ids import shard_of
from shared.refusal import RetryLater
from shared.storage.engine import Database, driver_of

WAIT_MAX_MS = 1_000

_STATE = "select state from account_consent where shard = %s and account_id = %s"
_ERASE = """
with piece as (
    select ctid from activity_detail where account_id = %s limit %s for update
), gone as (
    delete from activity_detail where ctid = any(array(select ctid from piece)) returning key
), told as (
    update withdrawal w set cause = '' from gone
    where w.shard = %s and w.key = gone.key and w.cause <> '' returning w.key
)
select (select count(*) from gone), (select count(*) from told)
"""


class Details:
    """What is personal, on one connection inside one transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def read_state(self, account_id: int) -> int | None:
        """The state of the account as it is known here; None for an unknown one."""
        row = self._connection.execute(_STATE, (shard_of(account_id), account_id)).fetchone()
        return None if row is None else int(row[0])

    def erase(self, account_id: int, limit: int) -> tuple[int, int]:
        """Deletes the details of up to `limit` activities, and why they were withdrawn; says of
        how many activities, and how many causes.

        Waits for recordings and withdrawals under way and holds up new ones until the commit, so
        that none which began before writes afterwards. RetryLater when one does not end.
        """
        self._connection.execute(f"set local lock_timeout = {WAIT_MAX_MS}".encode())
        try:
            self._connection.execute("select pg_advisory_xact_lock(%s)", (RECORDING_LOCK,))
        except psycopg.errors.LockNotAvailable as error:
            raise RetryLater(
                "a recording that began before does not end; nothing was erased now, ask again",
                cause="older recording",
                retry_after_ms=5_000,
            ) from error
        parameters = (account_id, limit, shard_of(account_id))
        row = self._connection.execute(_ERASE, parameters).fetchone()
        assert row is not None
        return row[0], row[1]


@contextmanager
def open_details(database: Database) -> Iterator[Details]:
    """Details in one transaction, committed at the end of the block."""
    with database.transaction() as connection:
        yield Details(driver_of(connection))
