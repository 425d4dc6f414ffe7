"""Which wrapping key each data key lies under, and moving them all to the newest.

Rows that are being re-wrapped are locked and skipped by other workers. A row that was destroyed
is gone before or after, never written again: re-wrapping changes rows and adds none.
"""

from __future__ import annotations

import sqlalchemy as sa
import structlog

from services.identity.domain.sealing import SealBroken
from services.identity.storage.vault_tables import data_key
from services.identity.upstream.key_management import (
    FileKeyManagement,
    KeyKept,
    KeyManagement,
    KeyMissing,
)
from shared.ids import account_name
from shared.storage.bulk import array
from shared.storage.engine import driver_of

# One descent of the index for each wrapping key, however many data keys there are.
_KEKS = """
with recursive found as (
    (select kek from data_key order by kek limit 1)
    union all
    select (select d.kek from data_key d where d.kek > f.kek order by d.kek limit 1)
    from found f where f.kek is not null
)
select kek from found where kek is not null
"""
_REWRAP = """
update data_key d set kek = n.kek, wrapped = n.wrapped
from unnest(%s::int8[], %s::text[], %s::bytea[]) as n (account_id, kek, wrapped)
where d.shard = n.account_id & 63 and d.account_id = n.account_id
"""
_LOCK_PATIENCE = "set local lock_timeout = '5s'"
_log = structlog.get_logger()


def left(connection: sa.Connection) -> dict[str, int]:
    """How many data keys are wrapped under each wrapping key that has any, by its name."""
    count = sa.func.count()
    query = sa.select(data_key.c.kek, count).group_by(data_key.c.kek).order_by(data_key.c.kek)
    return {kek: number for kek, number in connection.execute(query)}


def missing(connection: sa.Connection, keys: KeyManagement) -> list[str]:
    """The wrapping keys that data keys need and `keys` cannot use. A service that starts with
    any should refuse to: those persons cannot be read."""
    return [kek for kek in _keks(connection) if not _usable(connection, keys, kek)]


def rewrap_some(connection: sa.Connection, keys: KeyManagement, limit: int) -> int:
    """Wraps at most `limit` data keys of older wrapping keys under the current one; how many.

    0 means that none is left, or that others are at it. What cannot be unwrapped is logged and
    left as it is.
    """
    current = keys.current()
    done = 0
    for kek in _keks(connection):
        if kek != current and done < limit:
            done += _rewrap(connection, keys, kek, limit - done)
    return done


def retire(connection: sa.Connection, keys: FileKeyManagement, name: str) -> None:
    """Deletes a wrapping key for ever; KeyKept while a data key is wrapped under it.

    New data keys wait until the caller commits. Whoever wrapped one under `name` and has not
    written it yet finds the wrapping key gone and is rolled back.
    """
    _refuse_while_used(connection, name)  # without a lock first: it is the usual refusal
    connection.execute(sa.text(_LOCK_PATIENCE))
    connection.execute(sa.text("lock table data_key in share mode"))
    _refuse_while_used(connection, name)
    keys.retire(name)


def _rewrap(connection: sa.Connection, keys: KeyManagement, kek: str, limit: int) -> int:
    query = (
        sa.select(data_key.c.account_id, data_key.c.wrapped)
        .where(data_key.c.kek == kek)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    made: list[tuple[int, str, bytes]] = []
    for account_id, wrapped in connection.execute(query).all():
        try:
            key = keys.unwrap(kek, wrapped, account_id)
        except KeyMissing:
            _log.error("wrapping_key.missing", kek=kek)
            return 0
        except SealBroken:
            _log.error("data_key.broken", account=account_name(account_id), kek=kek)
            continue
        made.append((account_id, *keys.wrap(key, account_id)))
    if made:
        accounts, keks, wraps = zip(*made, strict=True)
        ours = (array("int8", accounts), array("text", keks), array("bytea", wraps))
        driver_of(connection).execute(_REWRAP, ours)
        # As in `Vault.new_key`: our rows are written, so a wrapping key that is there now stays.
        for account_id, new, wrapped in {row[1]: row for row in made}.values():
            keys.unwrap(new, wrapped, account_id)
    return len(made)


def _keks(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.text(_KEKS)).scalars())


def _usable(connection: sa.Connection, keys: KeyManagement, kek: str) -> bool:
    query = sa.select(data_key.c.account_id, data_key.c.wrapped).where(data_key.c.kek == kek)
    row = connection.execute(query.limit(1)).one_or_none()
    try:
        return row is None or bool(keys.unwrap(kek, row.wrapped, row.account_id))
    except (KeyMissing, SealBroken):
        return False


def _refuse_while_used(connection: sa.Connection, name: str) -> None:
    used = sa.select(sa.exists().where(data_key.c.kek == name))
    if connection.execute(used).scalar():
        raise KeyKept(
            f"data keys are still wrapped under {name}; the running services move them by "
            "themselves, and status says how many are left"
        )
