"""The tables of identity, as its first migration makes them."""

from __future__ import annotations

import sqlalchemy as sa

from shared.feed.tables import feed_tables

metadata = sa.MetaData()
feed_head = feed_tables(metadata)

_Time = sa.DateTime(timezone=True)

account = sa.Table(
    "account",
    metadata,
    sa.Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("open_time", _Time, nullable=False),
    sa.Column("update_time", _Time, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.UniqueConstraint("shard", "position"),
)
account_person = sa.Table(
    "account_person",
    metadata,
    sa.Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("region", sa.Integer, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("display_name", sa.Text, nullable=False),
)
customer_key = sa.Table(
    "customer_key",
    metadata,
    sa.Column("key", sa.Uuid, primary_key=True),
    sa.Column("account_id", sa.BigInteger, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
)
consent = sa.Table(
    "consent",
    metadata,
    sa.Column("account_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("grant_time", _Time, nullable=False),
    sa.Column("cover_from_time", _Time, nullable=False),
    sa.Column("revoke_time", _Time),
    sa.Column("expire_time", _Time),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("scope", sa.SmallInteger, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("notice_digest", sa.LargeBinary, nullable=False),
)
event = sa.Table(
    "event",
    metadata,
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("account_id", sa.BigInteger, nullable=False),
    sa.Column("event_time", _Time, nullable=False),
    sa.Column("consent_number", sa.Integer, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Index("event_account", "account_id"),
)
request = sa.Table(
    "request",
    metadata,
    sa.Column("key", sa.Uuid, primary_key=True),
    sa.Column("content", sa.Uuid, nullable=False),
    sa.Column("account_id", sa.BigInteger, nullable=False),
    sa.Column("consent_number", sa.Integer, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
)
