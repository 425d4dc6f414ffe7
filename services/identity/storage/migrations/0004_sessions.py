"""Sessions and used tickets of the bank."""

from alembic import op

revision = "identity_0004"
down_revision = "identity_0003"
phase = "before"

SESSION_SCHEMA = """
create table session (
    session_id bigint not null check (session_id > 0),
    account_id bigint,
    create_time timestamptz not null,
    expire_time timestamptz not null,
    end_time timestamptz,
    generation integer not null check (generation > 0),
    shard smallint not null check (shard = session_id & 63),
    request uuid not null,
    end_cause text not null default '',
    primary key (shard, session_id)
);
create index session_account on session (account_id) where account_id is not null;
create index session_expire on session (expire_time);
comment on table session is
    'Sign-ins until their refresh tokens expire; who signed in lies sealed in the token alone.';
comment on column session.request is
    'Keyed digest of the request id that made this generation, for its retries.';

create table ticket (
    key uuid not null,
    request uuid not null,
    used_for bigint not null,
    expire_time timestamptz not null,
    shard smallint not null check (shard between 0 and 63),
    primary key (shard, key)
);
create index ticket_expire on ticket (expire_time);
comment on table ticket is
    'Keyed digests of tickets that were used, while they would be valid; shard is of the key.';
"""


def upgrade() -> None:
    """Adds both tables."""
    op.execute(SESSION_SCHEMA)
