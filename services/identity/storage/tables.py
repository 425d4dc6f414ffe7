"""The tables of identity, as its migrations make them; rooms of their own have theirs beside."""

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
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("customer_kind", sa.SmallInteger, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.UniqueConstraint("shard", "position"),
)
guardianship = sa.Table(
    "guardianship",
    metadata,
    sa.Column("ward_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("guardian_id", sa.BigInteger, nullable=False),
    sa.Column("start_time", _Time, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Index("guardianship_guardian", "guardian_id"),
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
    sa.Column("decision", sa.SmallInteger, nullable=False),
    sa.Column("confirm_time", _Time),
    sa.Column("screen", sa.Text, nullable=False),
    sa.Column("mandate_digest", sa.LargeBinary, nullable=False),
    sa.Column("by_guardian", sa.Boolean, nullable=False),
    sa.Column("end_kind", sa.SmallInteger, nullable=False),
)
event = sa.Table(
    "event",
    metadata,
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("account_id", sa.BigInteger, nullable=False),
    sa.Column("event_time", _Time, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("words", sa.LargeBinary),
    sa.Index("event_account", "account_id", "position"),
)
request = sa.Table(
    "request",
    metadata,
    sa.Column("key", sa.Uuid, primary_key=True),
    sa.Column("content", sa.Uuid, nullable=False),
    sa.Column("account_id", sa.BigInteger, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
)
