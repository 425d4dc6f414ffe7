"""Bindings of partners' users, their one-time codes, and communities."""

from alembic import op

revision = "identity_0005"
down_revision = "identity_0004"
phase = "before"

BINDING_SCHEMA = """
create table binding (
    account_id bigint not null,
    bind_time timestamptz not null,
    end_time timestamptz check (end_time >= bind_time),
    digest uuid not null,
    number integer not null check (number > 0),
    scope smallint not null,
    shard smallint not null check (shard = account_id & 63),
    partner text not null,
    primary key (shard, account_id, number)
);
comment on table binding is
    'Partners'' users bound to accounts, as they stand; digest is the keyed one of the subject, '
    'scope the link whose consent it rests on; event has the history.';
create unique index binding_now on binding (shard, account_id, digest) where end_time is null;

create table subject (
    account_id bigint not null,
    digest uuid not null,
    number integer not null check (number > 0),
    shard smallint not null check (shard = get_byte(uuid_send(digest), 0) & 63),
    primary key (shard, digest)
);
comment on table subject is
    'Whose a subject is: one binding that has not ended; shard is of the digest.';

create table binding_code (
    account_id bigint not null,
    expire_time timestamptz not null,
    digest uuid not null,
    scope smallint not null,
    shard smallint not null check (shard = get_byte(uuid_send(digest), 0) & 63),
    primary key (shard, digest)
);
comment on table binding_code is
    'One-time codes that wait, as keyed digests of code and partner; using one deletes it.';
create index binding_code_account on binding_code (account_id);
"""

COMMUNITY_SCHEMA = """
create table community (
    community_id bigint not null check (community_id > 0),
    create_time timestamptz not null,
    kind smallint not null check (kind between 1 and 3),
    shard smallint not null check (shard = community_id & 63),
    title_zh text not null,
    title_en text not null,
    primary key (shard, community_id)
);
comment on table community is 'Opt-in groups: 1 estate, 2 company, 3 school.';

create table community_code (
    community_id bigint not null,
    digest uuid not null,
    shard smallint not null check (shard = get_byte(uuid_send(digest), 0) & 63),
    primary key (shard, digest)
);
comment on table community_code is
    'The community that a code joins, by keyed digest of the code; shard is of the digest.';

create table community_member (
    account_id bigint not null,
    community_id bigint not null,
    join_time timestamptz not null,
    leave_time timestamptz check (leave_time >= join_time),
    number integer not null check (number > 0),
    shard smallint not null check (shard = account_id & 63),
    primary key (shard, account_id, number)
);
comment on table community_member is
    'Accounts in communities, now and once; members are counted by index, so nothing is hot.';
create unique index community_member_now
    on community_member (shard, account_id, community_id) where leave_time is null;
create index community_member_count on community_member (community_id) where leave_time is null;
"""


def upgrade() -> None:
    """Creates both rooms."""
    op.execute(BINDING_SCHEMA)
    op.execute(COMMUNITY_SCHEMA)
