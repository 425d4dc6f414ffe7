"""Notices in the database: every text that was ever offered, so that a receipt can quote it.

The table has no shard: it is the catalogue's memory and holds nothing of an account.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.identity.domain.scopes import Scope, scope_of, words_of
from services.identity.storage import tables
from services.identity.storage.tables import metadata
from shared.settings import StartRefused

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
    """By code the digests of the notices to which consents stand: that of `scopes`, and any that
    was first offered later, for a worker of the release before must not end consents to the
    new text."""
    newer, current = notice.alias(), notice.alias()
    in_force = [(scope.code, scope.notice_digest) for scope in scopes.values()]
    query = (
        sa.select(newer.c.scope, newer.c.digest)
        .join(
            current,
            sa.and_(current.c.scope == newer.c.scope, newer.c.first_time >= current.c.first_time),
        )
        .where(sa.tuple_(current.c.scope, current.c.digest).in_(in_force))
    )
    digests: dict[int, set[bytes]] = {}
    for code, digest in connection.execute(query):
        digests.setdefault(code, set()).add(digest)
    return digests


def settled(connection: sa.Connection, scopes: Mapping[str, Scope]) -> bool:
    """Whether the consents to older texts than those of `scopes` have ended. To look for them
    means to read every consent there is, so it is done once for a text."""
    query = sa.select(sa.func.count()).where(_in_force(scopes), notice.c.settled)
    return connection.execute(query).scalar_one() == len(scopes)


def settle(connection: sa.Connection, scopes: Mapping[str, Scope]) -> None:
    """Notes that the consents to older texts than those of `scopes` have ended."""
    connection.execute(sa.update(notice).where(_in_force(scopes)).values(settled=True))


def _in_force(scopes: Mapping[str, Scope]) -> sa.ColumnElement[bool]:
    texts = [(scope.code, scope.notice_digest) for scope in scopes.values()]
    return sa.tuple_(notice.c.scope, notice.c.digest).in_(texts)


def accounts_beside(
    connection: sa.Connection, stand: Mapping[int, set[bytes]], now: datetime, limit: int
) -> list[int]:
    """At most `limit` accounts with a consent in force `now` to a notice that does not stand."""
    t = tables.consent.c
    # No two scopes have the same words, so the digest says the scope too.
    digests = sorted(digest for of_scope in stand.values() for digest in of_scope)
    query = (
        sa.select(t.account_id)
        .distinct()
        .where(
            t.decision == 1,
            t.revoke_time.is_(None),
            sa.or_(t.expire_time.is_(None), t.expire_time > now),
            t.notice_digest.not_in(digests),
        )
        .limit(limit)
    )
    return sorted(connection.execute(query).scalars(), key=lambda account: (account & 63, account))


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
