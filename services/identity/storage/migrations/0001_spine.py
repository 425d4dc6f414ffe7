"""Accounts, consents, their events and the state feed."""

from alembic import op

from shared.feed.tables import FEED_SCHEMA

revision = "identity_0001"
down_revision = None
phase = "before"

IDENTITY_SCHEMA = """
create table account (
    account_id bigint not null check (account_id > 0),
    position bigint not null check (position > 0),
    open_time timestamptz not null,
    update_time timestamptz not null,
    state smallint not null check (state between 1 and 3),
    shard smallint not null check (shard = account_id & 63),
    primary key (shard, account_id),
    unique (shard, position)
);
comment on table account is
    'Accounts as they stand; position is the newest change, so the table is the state feed.';

create table account_person (
    account_id bigint not null,
    region integer not null,
    shard smallint not null,
    display_name text not null,
    primary key (shard, account_id)
);
comment on table account_person is 'What is personal about an account; erasure deletes it.';

create table customer_key (
    key uuid not null,
    account_id bigint not null,
    shard smallint not null check (shard between 0 and 63),
    primary key (shard, key)
);
comment on table customer_key is
    'One account a customer: keyed digest of the reference of the bank; shard is of the key.';

create table consent (
    account_id bigint not null,
    grant_time timestamptz not null,
    cover_from_time timestamptz not null,
    revoke_time timestamptz,
    expire_time timestamptz,
    number integer not null check (number > 0),
    scope smallint not null,
    shard smallint not null,
    notice_digest bytea not null,
    primary key (shard, account_id, number)
);
comment on table consent is 'Every consent ever granted, as it stands; event has its history.';

create table event (
    position bigint not null check (position > 0),
    account_id bigint not null,
    event_time timestamptz not null,
    consent_number integer not null,
    shard smallint not null,
    kind smallint not null check (kind between 1 and 4),
    actor text not null,
    primary key (shard, position)
);
comment on table event is
    'What happened, for ever: 1 opened, 2 closed, 3 consent granted, 4 consent revoked; by whom.';
create index event_account on event (account_id);

create table request (
    key uuid not null,
    content uuid not null,
    account_id bigint not null,
    consent_number integer not null,
    shard smallint not null check (shard between 0 and 63),
    primary key (shard, key)
);
comment on table request is
    'Request ids that opened an account or changed a consent, for ever; shard is of the key.';
"""


def upgrade() -> None:
    """Creates everything."""
    op.execute(FEED_SCHEMA)
    op.execute(IDENTITY_SCHEMA)
