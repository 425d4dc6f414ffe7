"""The ledger: pockets, transfers, posting runs, replay keys, audits."""

from alembic import op

from shared.feed.tables import FEED_SCHEMA, FOLLOW_SCHEMA

revision = "settlement_0001"
down_revision = None
phase = "before"

SETTLEMENT_SCHEMA = """
create table asset (
    code smallint primary key check (code > 0),
    name text not null unique
);
comment on table asset is 'What can be held: reduction in milligrams, points of a scheme.';
insert into asset values (1, 'reduction');

create table asset_class (
    code integer primary key,
    vintage_month integer not null,
    asset smallint not null references asset,
    methodology_version text not null,
    methodology_digest text not null,
    programme text not null,
    scene_approval text not null,
    region_code text not null,
    gas_scope text not null
);
comment on table asset_class is 'What milligrams of a class are, as calculation says it.';

create table pocket (
    account_id bigint not null check (account_id >= 0),
    balance bigint not null,
    floor bigint not null,
    version bigint not null,
    forgiven bigint not null default 0 check (forgiven >= 0),
    asset smallint not null,
    kind smallint not null check (kind between 1 and 4),
    shard smallint not null check (shard between 0 and 63),
    primary key (shard, account_id, kind, asset),
    check (balance >= floor)
) with (fillfactor = 75);
comment on table pocket is
    'Where mass lies: kind 1 available, 2 issue, 3 buffer, 4 pool; account 0 is the shard itself.';

create table transfer (
    position bigint not null check (position > 0),
    from_account bigint not null,
    to_account bigint not null,
    amount bigint not null check (amount > 0),
    asset_class integer not null,
    civil_day integer not null,
    leaf_count integer not null,
    shard smallint not null check (shard between 0 and 63),
    kind smallint not null check (kind between 1 and 4),
    from_kind smallint not null,
    to_kind smallint not null,
    asset smallint not null,
    leaf_digest bytea not null,
    primary key (shard, position),
    check (from_account <> to_account or from_kind <> to_kind)
);
comment on table transfer is 'The book and its feed: one row a transfer, never edited.';
create index transfer_to on transfer (to_account, civil_day) where to_account <> 0;
create index transfer_from on transfer (from_account, civil_day) where from_account <> 0;

create table posting_run (
    first_position bigint not null,
    last_position bigint not null,
    first_transfer bigint not null,
    last_transfer bigint not null,
    post_time timestamptz not null,
    shard smallint not null,
    primary key (shard, last_transfer, first_position)
);
comment on table posting_run is
    'Which assessments (first to last position) became which transfers, and when; moves have '
    'first_position 0.';

create table transfer_key (
    key uuid not null,
    body bigint not null,
    position bigint not null,
    transfer_shard smallint not null,
    shard smallint not null check (shard between 0 and 63),
    cause text not null,
    primary key (shard, key)
);
comment on table transfer_key is 'Causes of moves, unique for ever; shard is of the key.';

create table audit (
    pockets numeric not null,
    difference bigint not null,
    issued numeric not null,
    transfer_count bigint not null,
    audit_time timestamptz not null,
    shard smallint not null,
    asset smallint not null,
    primary key (shard, asset)
) with (fillfactor = 50);
comment on table audit is
    'What the standing auditor last found in each shard: the sum of all pockets (0), and the '
    'largest difference between a pocket and its transfers re-added (0).';
"""


def upgrade() -> None:
    """Creates everything."""
    op.execute(FEED_SCHEMA)
    op.execute(FOLLOW_SCHEMA)
    op.execute(SETTLEMENT_SCHEMA)
