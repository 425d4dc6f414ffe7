"""The tables of calculation, as its first migration makes them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from shared.feed.tables import feed_tables, follow_tables

metadata = sa.MetaData()

feed_head = feed_tables(metadata)
cursor, lease, worker = follow_tables(metadata)

COLUMN_WIDTHS = {
    "account_id": 8,
    "activity_position": 8,
    "asset_class": 4,
    "civil_day": 4,
    "amount": 8,
    "delta": 8,
    "verdict": 1,
    "scene": 2,
    "region": 4,
    "evidence_grade": 1,
    "measure_1": 8,
    "measure_2": 8,
    "cap_used_before": 8,
    "cap_used_before_2": 8,
    "history_1": 8,
    "label_1": 2,
    "previous_class": 4,
}
"""Packed columns of a run and the bytes an element takes."""

assessment_run = sa.Table(
    "assessment_run",
    metadata,
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("activity_first", sa.BigInteger, nullable=False),
    sa.Column("activity_last", sa.BigInteger, nullable=False),
    sa.Column("assess_time", sa.DateTime(timezone=True), nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("day_first", sa.Integer, nullable=False),
    sa.Column("day_last", sa.Integer, nullable=False),
    sa.Column("shard", sa.SmallInteger, primary_key=True),
    sa.Column("superseding", sa.Boolean, nullable=False),
    sa.Column("restatement", sa.BigInteger),
    *(sa.Column(name, sa.LargeBinary, nullable=False) for name in COLUMN_WIDTHS),
    sa.Index("assessment_run_activity", "shard", "superseding", "activity_first"),
    sa.Index("assessment_run_day", "shard", "day_last"),
)
asset_class = sa.Table(
    "asset_class",
    metadata,
    sa.Column("code", sa.Integer, sa.Identity(always=True), primary_key=True),
    sa.Column("asset", sa.Text, nullable=False),
    sa.Column("methodology_version", sa.Text, nullable=False),
    sa.Column("methodology_digest", sa.Text, nullable=False),
    sa.Column("programme", sa.Text, nullable=False),
    sa.Column("scene_approval", sa.Text, nullable=False),
    sa.Column("region", sa.Integer, nullable=False),
    sa.Column("gas_scope", sa.Text, nullable=False),
    sa.Column("vintage_month", sa.Integer, nullable=False),
    sa.UniqueConstraint(
        "methodology_version",
        "methodology_digest",
        "programme",
        "scene_approval",
        "region",
        "vintage_month",
    ),
)
scene_code = sa.Table(
    "scene_code",
    metadata,
    sa.Column("code", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("scene", sa.Text, nullable=False),
    sa.Column("measures", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("label_values", pg.ARRAY(sa.Text), nullable=False),
)
