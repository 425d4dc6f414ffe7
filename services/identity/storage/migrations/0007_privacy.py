"""Copies and erasures as operations, every service's part, and the sealed files of copies."""

from alembic import op

revision = "identity_0007"
down_revision = "identity_0006"
phase = "before"

PRIVACY_SCHEMA = """
create table operation (
    account_id bigint not null,
    create_time timestamptz not null,
    finish_time timestamptz,
    expire_time timestamptz,
    archive_bytes bigint not null default 0 check (archive_bytes >= 0),
    number integer not null check (number > 0),
    shard smallint not null check (shard = account_id & 63),
    kind smallint not null check (kind in (1, 2)),
    state smallint not null check (state between 1 and 3),
    archive_digest bytea not null default '',
    primary key (shard, account_id, number)
);
create unique index operation_running on operation (shard, account_id, kind) where state = 1;
create index operation_expiring on operation (expire_time) where state = 2 and kind = 1;
comment on table operation is
    'Copies (kind 1) and erasures (2) of what is held about an account, for ever: 1 running, '
    '2 done, 3 the archive is deleted. One of a kind runs at a time.';

create table privacy_task (
    account_id bigint not null,
    create_time timestamptz not null,
    finish_time timestamptz,
    claim_until timestamptz not null default '-infinity',
    owner uuid,
    number integer not null,
    shard smallint not null check (shard = account_id & 63),
    service text not null,
    counts jsonb not null default '{}',
    kept jsonb not null default '[]',
    primary key (shard, account_id, number, service)
);
create index privacy_task_waiting on privacy_task (service, create_time)
    where finish_time is null;
comment on table privacy_task is
    'What each service has to do for an operation, written with the fact that asks for it. Until '
    'claim_until nobody but owner is told; that saves work and decides nothing.';

create table privacy_piece (
    account_id bigint not null,
    number integer not null,
    piece integer not null check (piece >= 0),
    shard smallint not null check (shard = account_id & 63),
    service text not null,
    file_name text not null,
    sealed bytea not null,
    primary key (shard, account_id, number, service, file_name, piece)
);
alter table privacy_piece alter sealed set storage external;
comment on table privacy_piece is
    'Files of a copy under way, sealed; they go when the archive is packed.';

create table archive_piece (
    account_id bigint not null,
    number integer not null,
    piece integer not null check (piece >= 0),
    shard smallint not null check (shard = account_id & 63),
    sealed bytea not null,
    primary key (shard, account_id, number, piece)
);
alter table archive_piece alter sealed set storage external;
comment on table archive_piece is
    'Archives of finished copies, sealed piece by piece, until they expire or the account is '
    'erased.';
"""


def upgrade() -> None:
    """Creates everything."""
    op.execute(PRIVACY_SCHEMA)
