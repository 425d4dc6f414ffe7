"""The tables of activity, as its migrations make them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from shared.feed.tables import feed_tables, follow_tables

metadata = sa.MetaData()

feed_head = feed_tables(metadata)
cursor, lease, worker = follow_tables(metadata)
batch_number = sa.Sequence("batch_number", metadata=metadata)

COLUMN_WIDTHS = {
    "kind": 1,
    "account_id": 8,
    "scene": 2,
    "source": 2,
    "region": 4,
    "evidence_grade": 1,
    "civil_day": 4,
    "measure_1": 8,
    "measure_2": 8,
    "target": 8,
    "label_1": 2,
}
"""Packed columns of a run and the bytes an element takes; the contract says the same."""

activity_run = sa.Table(
    "activity_run",
    metadata,
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("batch", sa.BigInteger, nullable=False),
    sa.Column("record_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True),
    *(sa.Column(name, sa.LargeBinary, nullable=False) for name in COLUMN_WIDTHS),
    sa.UniqueConstraint("shard", "batch"),
)
event_key = sa.Table(
    "event_key",
    metadata,
    sa.Column("key", sa.Uuid, primary_key=True),
    sa.Column("content", sa.BigInteger, nullable=False),
    sa.Column("ref", sa.BigInteger, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True),
    sa.Column("account_shard", sa.SmallInteger),
)
claim = sa.Table(
    "claim",
    metadata,
    sa.Column("key", sa.Uuid, primary_key=True),
    sa.Column("event_key", sa.Uuid, nullable=False),
    sa.Column("account_shard", sa.SmallInteger, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True),
)
activity_detail = sa.Table(
    "activity_detail",
    metadata,
    sa.Column("account_id", sa.BigInteger, nullable=False),
    sa.Column("occur_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("ref", sa.BigInteger, nullable=False),
    sa.Column("civil_day", sa.Integer, nullable=False),
    sa.Column("shard", sa.SmallInteger, nullable=False),
    sa.Column("source_event_id", sa.Text),
    sa.Column("key", sa.Uuid),
    sa.Index("activity_detail_account_day", "account_id", "civil_day"),
)
withdrawal = sa.Table(
    "withdrawal",
    metadata,
    sa.Column("key", sa.Uuid, primary_key=True),
    sa.Column("ref", sa.BigInteger, nullable=False),
    sa.Column("withdraw_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
)
lane = sa.Table(
    "lane",
    metadata,
    sa.Column("next_offset", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True),
    sa.Column("source", sa.SmallInteger, primary_key=True),
    sa.Column("lane", sa.Text, primary_key=True),
)
account_consent = sa.Table(
    "account_consent",
    metadata,
    sa.Column("account_id", sa.BigInteger, primary_key=True),
    sa.Column("shard", sa.SmallInteger, primary_key=True),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("cover_from", pg.ARRAY(sa.DateTime(timezone=True)), nullable=False),
    sa.Column("cover_until", pg.ARRAY(sa.DateTime(timezone=True)), nullable=False),
)
bound_subject = sa.Table(
    "bound_subject",
    metadata,
    sa.Column("account_id", sa.BigInteger, primary_key=True),
    sa.Column("digest", sa.Uuid, primary_key=True),
    sa.Column("until", sa.DateTime(timezone=True), nullable=False),
    sa.Column("known_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True),
    sa.Index(
        "bound_subject_digest",
        "shard",
        "digest",
        "known_time",
        postgresql_include=["account_id", "until"],
    ),
)
