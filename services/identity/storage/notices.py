"""Notices in the database: every text that was ever offered, so that a receipt can quote it.

The table has no shard: it is the catalogue's memory and holds nothing of an account.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.identity.domain.scopes import Scope, scope_of, words_of
from services.identity.storage.tables import feed_head, metadata
from shared.settings import StartRefused
from shared.storage.bulk import array
from shared.storage.engine import driver_of

NOTICE_SCHEMA = """
create table notice (
    scope smallint not null check (scope > 0),
    digest bytea not null check (octet_length(digest) = 32),
    version text not null,
    words jsonb not null,
    first_time timestamptz not null,
    settled boolean not null default false,
    primary key (scope, digest),
    unique (scope, version)
);
comment on table notice is
    'Every notice that was ever offered and all that a receipt quotes of its scope, for ever; '
    'settled once the consents to the texts before it have ended.';
"""

notice = sa.Table(
    "notice",
    metadata,
    sa.Column("scope", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("words", pg.JSONB, nullable=False),
    sa.Column("first_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("settled", sa.Boolean, nullable=False, server_default="false"),
    sa.UniqueConstraint("scope", "version"),
)
_TICK = timedelta(microseconds=1)

# No two scopes have the same words, so the digest says the scope too.
_BESIDE = """
c.decision = 1 and c.revoke_time is null and (c.expire_time is null or c.expire_time > %(now)s)
    and c.notice_digest <> all(%(stand)s)
"""
_ALL_BESIDE = f"select distinct c.account_id from consent c where {_BESIDE} limit %(limit)s"
# "offset 0" and "limit 1" leave one way to go: along the feed, and to the consents of each account.
_MOVED_BESIDE = f"""
select a.account_id
from unnest(%(shard)s::int2[], %(position)s::int8[]) as seen (shard, position)
cross join lateral (
    select account_id from account
    where shard = seen.shard and position > seen.position offset 0
) a
cross join lateral (
    select from consent c
    where c.shard = seen.shard and c.account_id = a.account_id and {_BESIDE} limit 1
) c
limit %(limit)s
"""


def remember_notices(connection: sa.Connection, scopes: Mapping[str, Scope], now: datetime) -> None:
    """Keeps every notice of the catalogue for ever; for the start, before anything is served.

    StartRefused when the catalogue says something else under a digest, a version or a code that
    was offered before: consents quote those. The transaction must then be rolled back.
    """
    by_code = {scope.code: scope for scope in scopes.values()}
    for code, name in _names(connection):
        if code not in by_code or by_code[code].name != name:
            raise StartRefused(
                f"scopes.toml has no {name} with code {code}, which customers were offered and "
                "consents name; put it back, and take another name and code for what is new"
            )
    for scope in scopes.values():
        _remember(connection, scope, now)


def read_notices(
    connection: sa.Connection, wanted: Collection[tuple[int, bytes]]
) -> dict[tuple[int, bytes], Scope]:
    """The scopes as they were worded under each (code, notice digest) of `wanted`."""
    query = sa.select(notice).where(sa.tuple_(notice.c.scope, notice.c.digest).in_(wanted))
    return {(row.scope, row.digest): scope_of(row.words) for row in connection.execute(query)}


def standing(connection: sa.Connection, scopes: Mapping[str, Scope]) -> dict[int, set[bytes]]:
    """By code the digests of the notices to which consents stand: all but those to which `scopes`
    has a later text. A worker of the release before must not end consents to the new text, nor
    those to a scope that only the new release has."""
    older, current = notice.alias(), notice.alias()
    replaced = sa.exists().where(
        current.c.scope == older.c.scope,
        current.c.first_time > older.c.first_time,
        sa.tuple_(current.c.scope, current.c.digest).in_(_texts(scopes)),
    )
    query = sa.select(older.c.scope, older.c.digest).where(~replaced)
    digests: dict[int, set[bytes]] = {}
    for code, digest in connection.execute(query):
        digests.setdefault(code, set()).add(digest)
    return digests


def settled(connection: sa.Connection, scopes: Mapping[str, Scope]) -> bool:
    """Whether the consents to older texts than those of `scopes` have ended, and no worker with
    other texts has started since. To look for them means to read every consent there is, so it is
    done once for a text before anything is served."""
    query = sa.select(notice.c.scope, notice.c.digest).where(notice.c.settled)
    return {(code, digest) for code, digest in connection.execute(query)} == set(_texts(scopes))


def settle(connection: sa.Connection, scopes: Mapping[str, Scope]) -> None:
    """Notes that the consents to older texts than those of `scopes` have ended.

    Of all other texts it is noted no longer: customers agree to these now, so whoever comes back
    to the others has to look again.
    """
    in_force = sa.tuple_(notice.c.scope, notice.c.digest).in_(_texts(scopes))
    changed = sa.update(notice).where(notice.c.settled != in_force)
    connection.execute(changed.values(settled=in_force))


def read_heads(connection: sa.Connection) -> dict[int, int]:
    """The newest position of each shard; whatever changed up to there is visible from now on."""
    query = sa.select(feed_head.c.shard, feed_head.c.position)
    return {shard: position for shard, position in connection.execute(query)}


def accounts_beside(
    connection: sa.Connection,
    stand: Mapping[int, set[bytes]],
    now: datetime,
    limit: int,
    moved_after: Mapping[int, int] | None = None,
) -> list[int]:
    """At most `limit` accounts with a consent in force `now` to a notice that does not stand.

    It reads every consent, but with `moved_after` those of accounts that changed after these
    positions of their shards, over a connection that joins by index. A grant moves its account.
    """
    digests = b"".join(sorted(digest for of_scope in stand.values() for digest in of_scope))
    parameters = {
        "now": now,
        "stand": array("bytea32", np.frombuffer(digests, np.uint8).reshape(-1, 32)),
        "limit": limit,
    }
    statement = _ALL_BESIDE
    if moved_after is not None:
        statement = _MOVED_BESIDE
        parameters["shard"] = array("int2", np.array(list(moved_after), np.int64))
        parameters["position"] = array("int8", np.array(list(moved_after.values()), np.int64))
    rows = driver_of(connection).execute(statement.encode(), parameters)
    found = np.array([account_id for (account_id,) in rows], np.int64)
    in_order: list[int] = found[np.lexsort((found, found & 63))].tolist()
    return in_order


def _texts(scopes: Mapping[str, Scope]) -> list[tuple[int, bytes]]:
    return [(scope.code, scope.notice_digest) for scope in scopes.values()]


def _names(connection: sa.Connection) -> list[tuple[int, str]]:
    query = sa.select(notice.c.scope, notice.c.words["name"].astext).distinct()
    return [(code, name) for code, name in connection.execute(query.order_by(notice.c.scope))]


def _remember(connection: sa.Connection, scope: Scope, now: datetime) -> None:
    newest = sa.select(sa.func.max(notice.c.first_time)).where(notice.c.scope == scope.code)
    before = connection.execute(newest).scalar()
    insert = pg.insert(notice).values(
        scope=scope.code,
        digest=scope.notice_digest,
        version=scope.notice_version,
        words=words_of(scope),
        # Clocks of two workers may differ; a text that replaces another is the later one.
        first_time=now if before is None else max(now, before + _TICK),
    )
    connection.execute(insert.on_conflict_do_nothing())
    query = sa.select(notice.c.version, notice.c.words).where(
        notice.c.scope == scope.code, notice.c.digest == scope.notice_digest
    )
    kept = connection.execute(query).one_or_none()
    if kept is None:
        raise StartRefused(
            f"the notice of {scope.name} has another text and is still version "
            f"{scope.notice_version}; give the new text a version of its own in scopes.toml"
        )
    words = words_of(scope)
    changed = sorted(key for key in words if words[key] != kept.words.get(key))
    if changed:
        raise StartRefused(
            f"{scope.name} has another {', '.join(changed)} under the notice that customers read "
            f"as version {kept.version}; put it back, or write another notice text with a version "
            "of its own, to which customers are asked anew"
        )
