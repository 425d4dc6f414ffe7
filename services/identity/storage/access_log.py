"""Who read personal fields of an account, or its link to a person, and why.

A row names staff and programs by their tokens, a guardian or a member by that word, and the
account by its number, which points at nobody after an erasure. So an erasure leaves the rows:
they are the evidence of who looked, and are deleted three years after the read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from services.identity.storage.vault_tables import access_log
from shared.ids import shard_of

KEPT = timedelta(days=3 * 366)
"""How long a read is remembered: three years, the leap day never short."""


@dataclass(frozen=True)
class Access:
    """One read; `number` rises with every read of the whole log."""

    number: int
    access_time: datetime
    actor: str
    method: str
    purpose: str
    fields: tuple[str, ...]


def note_access(
    connection: sa.Connection,
    account_id: int,
    now: datetime,
    actor: str,
    method: str,
    purpose: str,
    fields: Sequence[str],
) -> None:
    """Adds one read. It must be committed before the caller is shown anything.

    `actor` is the name in the token, which begins with its kind, "guardian" or "member".
    `purpose` has passed `domain.free_text.check_free_text`; `fields` are words of the contract.
    """
    connection.execute(
        sa.insert(access_log).values(
            account_id=account_id, shard=shard_of(account_id), access_time=now, actor=actor,
            method=method, purpose=purpose, fields=list(fields),
        )
    )  # fmt: skip


def read_page(
    connection: sa.Connection, account_id: int, before: int | None, limit: int
) -> list[Access]:
    """At most `limit` reads of the account, newest first, with numbers below `before`."""
    log = access_log.c
    query = (
        sa.select(
            log.number, log.access_time, log.actor, log.method, log.purpose,
            log.fields,
        )
        .where(log.shard == shard_of(account_id), log.account_id == account_id)
        .order_by(log.number.desc())
        .limit(limit)
    )  # fmt: skip
    if before is not None:
        query = query.where(log.number < before)
    return [Access(*row[:-1], tuple(row.fields)) for row in connection.execute(query)]


def kept_until(connection: sa.Connection, account_id: int) -> datetime | None:
    """When the last read of the account is deleted, for the answer to an erasure; None without
    reads."""
    newest = sa.select(sa.func.max(access_log.c.access_time)).where(
        access_log.c.shard == shard_of(account_id), access_log.c.account_id == account_id
    )
    time = connection.execute(newest).scalar()
    return None if time is None else time + KEPT


def forget_old(connection: sa.Connection, now: datetime, limit: int) -> int:
    """Deletes at most `limit` reads that are older than three years; how many."""
    log = access_log.c
    old = (
        sa.select(log.shard, log.account_id, log.number)
        .where(log.access_time < now - KEPT)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("old")
    )
    deleted = sa.delete(access_log).where(
        log.shard == old.c.shard, log.account_id == old.c.account_id, log.number == old.c.number
    )
    return connection.execute(deleted).rowcount
