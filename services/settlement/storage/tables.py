"""The tables of settlement, as its first migration makes them."""

from __future__ import annotations

import sqlalchemy as sa

from shared.feed.tables import feed_tables, follow_tables

metadata = sa.MetaData()
feed_head = feed_tables(metadata)
cursor, lease, worker = follow_tables(metadata)

_Time = sa.DateTime(timezone=True)


def _int(name: str, kind: type[sa.Integer], key: bool = False) -> sa.Column[int]:
    return sa.Column(name, kind, primary_key=key, nullable=False, autoincrement=False)


asset = sa.Table(
    "asset",
    metadata,
    _int("code", sa.SmallInteger, True),
    sa.Column("name", sa.Text, unique=True, nullable=False),
)
asset_class = sa.Table(
    "asset_class",
    metadata,
    _int("code", sa.Integer, True),
    _int("vintage_month", sa.Integer),
    sa.Column("asset", sa.SmallInteger, sa.ForeignKey("asset.code"), nullable=False),
    *(
        sa.Column(name, sa.Text, nullable=False)
        for name in (
            "methodology_version",
            "methodology_digest",
            "programme",
            "scene_approval",
            "region_code",
            "gas_scope",
        )
    ),
)
pocket = sa.Table(
    "pocket",
    metadata,
    _int("account_id", sa.BigInteger, True),
    _int("balance", sa.BigInteger),
    _int("floor", sa.BigInteger),
    _int("version", sa.BigInteger),
    sa.Column("forgiven", sa.BigInteger, nullable=False, server_default="0"),
    _int("asset", sa.SmallInteger, True),
    _int("kind", sa.SmallInteger, True),
    _int("shard", sa.SmallInteger, True),
)
transfer = sa.Table(
    "transfer",
    metadata,
    _int("position", sa.BigInteger, True),
    _int("from_account", sa.BigInteger),
    _int("to_account", sa.BigInteger),
    _int("amount", sa.BigInteger),
    _int("asset_class", sa.Integer),
    _int("civil_day", sa.Integer),
    _int("leaf_count", sa.Integer),
    _int("shard", sa.SmallInteger, True),
    _int("kind", sa.SmallInteger),
    _int("from_kind", sa.SmallInteger),
    _int("to_kind", sa.SmallInteger),
    _int("asset", sa.SmallInteger),
    sa.Column("leaf_digest", sa.LargeBinary, nullable=False),
    sa.Index("transfer_to", "to_account", "civil_day", postgresql_where=sa.text("to_account <> 0")),
    sa.Index(
        "transfer_from", "from_account", "civil_day", postgresql_where=sa.text("from_account <> 0")
    ),
)
posting_run = sa.Table(
    "posting_run",
    metadata,
    _int("first_position", sa.BigInteger, True),
    _int("last_position", sa.BigInteger),
    _int("first_transfer", sa.BigInteger),
    _int("last_transfer", sa.BigInteger, True),
    sa.Column("post_time", _Time, nullable=False),
    _int("shard", sa.SmallInteger, True),
)
transfer_key = sa.Table(
    "transfer_key",
    metadata,
    sa.Column("key", sa.Uuid, primary_key=True),
    _int("body", sa.BigInteger),
    _int("position", sa.BigInteger),
    _int("transfer_shard", sa.SmallInteger),
    _int("shard", sa.SmallInteger, True),
    sa.Column("cause", sa.Text, nullable=False),
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("pockets", sa.Numeric, nullable=False),
    _int("difference", sa.BigInteger),
    sa.Column("issued", sa.Numeric, nullable=False),
    _int("transfer_count", sa.BigInteger),
    sa.Column("audit_time", _Time, nullable=False),
    _int("shard", sa.SmallInteger, True),
    _int("asset", sa.SmallInteger, True),
)
