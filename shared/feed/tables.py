"""The tables every service with a feed has: heads, cursors, leases.

A feed is a table of facts in which every fact has a shard and a position; positions of a
shard are 1, 2, 3 and become visible in that order, because the number is taken from the
head of the shard inside the writing transaction. `feed_schema` is the DDL that a service's
first migration runs; the Table objects describe the same to Core.
"""

from __future__ import annotations

import sqlalchemy as sa

FEED_SCHEMA = """
create table feed_head (
    shard smallint primary key check (shard between 0 and 63),
    position bigint not null check (position >= 0)
) with (fillfactor = 50);
comment on table feed_head is 'Newest position of each shard of the feed of this service.';
insert into feed_head select shard, 0 from generate_series(0, 63) as shard;
"""

FOLLOW_SCHEMA = """
create table cursor (
    feed text not null,
    shard smallint not null check (shard between 0 and 63),
    position bigint not null default 0 check (position >= 0),
    complete_time timestamptz not null default '-infinity',
    primary key (feed, shard)
) with (fillfactor = 50);
comment on table cursor is
    'How far each shard of a followed feed is handled; moves in the transaction of the effects.';
create table lease (
    feed text not null,
    shard smallint not null check (shard between 0 and 63),
    owner text not null default '',
    expire_time timestamptz not null default '-infinity',
    primary key (feed, shard)
) with (fillfactor = 50);
comment on table lease is 'Which worker handles a shard of a followed feed, and until when.';
create table worker (
    feed text not null,
    owner text not null,
    expire_time timestamptz not null,
    primary key (feed, owner)
);
comment on table worker is 'Workers that share the shards of a followed feed.';
"""


def feed_tables(metadata: sa.MetaData) -> sa.Table:
    """The `feed_head` table on `metadata`."""
    return sa.Table(
        "feed_head",
        metadata,
        sa.Column("shard", sa.SmallInteger, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )


def follow_tables(metadata: sa.MetaData) -> tuple[sa.Table, sa.Table, sa.Table]:
    """The `cursor`, `lease` and `worker` tables on `metadata`."""
    cursor = sa.Table(
        "cursor",
        metadata,
        sa.Column("feed", sa.Text, primary_key=True),
        sa.Column("shard", sa.SmallInteger, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("complete_time", sa.DateTime(timezone=True), nullable=False),
    )
    lease = sa.Table(
        "lease",
        metadata,
        sa.Column("feed", sa.Text, primary_key=True),
        sa.Column("shard", sa.SmallInteger, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
    )
    worker = sa.Table(
        "worker",
        metadata,
        sa.Column("feed", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
    )
    return cursor, lease, worker
