"""Sealed persons and their keys, the log of reads, the meter of consent checks."""

from alembic import op

revision = "identity_0003"
down_revision = "identity_0002"
phase = "before"

VAULT_SCHEMA = """
create table data_key (
    account_id bigint not null,
    shard smallint not null check (shard = account_id & 63),
    kek text not null,
    wrapped bytea not null,
    primary key (shard, account_id)
);
create index data_key_kek on data_key (kek);
comment on table data_key is
    'The key of what is personal about an account, wrapped under the wrapping key kek; erasure '
    'deletes the row, and what was sealed under it opens no more.';

create table person (
    account_id bigint not null,
    set_time timestamptz not null,
    number integer not null check (number > 0),
    shard smallint not null check (shard = account_id & 63),
    sealed bytea not null,
    primary key (shard, account_id, number)
);
comment on table person is
    'What is personal about an account, sealed, version by version; erasure deletes the rows.';

create table access_log (
    account_id bigint not null,
    number bigint generated always as identity,
    access_time timestamptz not null,
    shard smallint not null check (shard = account_id & 63),
    actor text not null,
    method text not null,
    purpose text not null,
    fields text[] not null,
    primary key (shard, account_id, number)
);
create index access_log_time on access_log using brin (access_time);
comment on table access_log is
    'Who read personal fields, or the link of person and account, and why. It names staff and '
    'programs, not the holder, and outlives an erasure until three years after the read.';

create table consent_meter (
    checks bigint not null check (checks >= 0),
    refused bigint not null check (refused >= 0),
    civil_day integer not null,
    shard smallint not null check (shard between 0 and 63),
    caller text not null,
    primary key (shard, caller, civil_day)
) with (fillfactor = 50);
create index consent_meter_day on consent_meter (civil_day desc, caller);
comment on table consent_meter is
    'Consent checks asked by a caller on a civil day (UTC+8), and how many nothing covered; '
    'shard is of SHA-256 of the caller.';

comment on table account_person is
    'Clear-text persons of before the vault; they are sealed into person and deleted here.';
"""


def upgrade() -> None:
    """Adds the tables; `storage.people.seal_old_people` moves what is in clear."""
    op.execute(VAULT_SCHEMA)
