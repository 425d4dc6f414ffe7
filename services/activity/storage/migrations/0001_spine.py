"""The feed of activities, the duplicate index, details, claims, lanes, consents."""

from alembic import op

from shared.feed.tables import FEED_SCHEMA, FOLLOW_SCHEMA

revision = "activity_0001"
down_revision = None
phase = "before"

ACTIVITY_SCHEMA = """
create sequence batch_number;

create table activity_run (
    position bigint not null check (position > 0),
    batch bigint not null,
    record_time timestamptz not null,
    count integer not null check (count > 0),
    shard smallint not null check (shard between 0 and 63),
    kind bytea not null,
    account_id bytea not null,
    scene bytea not null,
    source bytea not null,
    region bytea not null,
    evidence_grade bytea not null,
    civil_day bytea not null,
    measure_1 bytea not null,
    measure_2 bytea not null,
    target bytea not null,
    primary key (shard, position),
    unique (shard, batch)
) with (toast_tuple_target = 8160);
comment on table activity_run is
    'The feed: a row is a run of consecutive events of one shard, each column packed big-endian '
    '(empty when all zero); view activity unpacks it.';
alter table activity_run
    alter kind set storage external, alter account_id set storage external,
    alter scene set storage external, alter source set storage external,
    alter region set storage external, alter evidence_grade set storage external,
    alter civil_day set storage external, alter measure_1 set storage external,
    alter measure_2 set storage external, alter target set storage external;

create function packed_int(packed bytea, place integer, width integer) returns bigint
language sql immutable strict parallel safe as $$
    select case when packed = '' then 0 else
        ('x' || lpad(encode(substring(packed from place * width + 1 for width), 'hex'), 16, '0')
        )::bit(64)::bigint
        - case when width < 8 and get_byte(packed, place * width) > 127
               then 1::bigint << (8 * least(width, 7)) else 0 end
    end
$$;
create view activity as
select shard, position + place as position, record_time, batch << 15 | place as ref,
    packed_int(kind, place, 1) as kind, packed_int(account_id, place, 8) as account_id,
    packed_int(scene, place, 2) as scene, packed_int(source, place, 2) as source,
    packed_int(region, place, 4) as region,
    packed_int(evidence_grade, place, 1) as evidence_grade,
    packed_int(civil_day, place, 4) as civil_day,
    packed_int(measure_1, place, 8) as measure_1, packed_int(measure_2, place, 8) as measure_2,
    packed_int(target, place, 8) as target
from activity_run cross join lateral generate_series(0, count - 1) as place;
comment on view activity is 'Every event of the feed, one a row, for people and audits.';

create table event_key (
    key uuid not null,
    content bigint not null,
    ref bigint not null,
    shard smallint not null check (shard between 0 and 63),
    primary key (shard, key)
);
comment on table event_key is
    'The duplicate index, for ever: keyed digest of (source, event id); shard is of the key.';

create table claim (
    key uuid not null,
    event_key uuid not null,
    account_shard smallint not null,
    shard smallint not null check (shard between 0 and 63),
    primary key (shard, key)
);
comment on table claim is
    'Which event claimed a physical act: keyed digest of scene and reference; shard is of the key.';

create table activity_detail (
    account_id bigint not null,
    occur_time timestamptz not null,
    ref bigint not null,
    civil_day integer not null,
    shard smallint not null check (shard between 0 and 63),
    source_event_id text not null
);
create index activity_detail_account_day on activity_detail (account_id, civil_day);
comment on table activity_detail is
    'What is personal about an activity, by account; erasure deletes it and the feed stands.';

create table withdrawal (
    key uuid not null,
    ref bigint not null,
    withdraw_time timestamptz not null,
    shard smallint not null check (shard between 0 and 63),
    actor text not null,
    cause text not null,
    primary key (shard, key)
);
comment on table withdrawal is 'Activities taken back, by whom and why; once each.';

create table lane (
    next_offset bigint not null check (next_offset >= 0),
    epoch bigint not null,
    shard smallint not null check (shard between 0 and 63),
    source smallint not null,
    lane text not null,
    primary key (shard, source, lane)
) with (fillfactor = 50);
comment on table lane is 'How much of each lane is durable; epoch is the stream that owns it.';

create table account_consent (
    account_id bigint not null,
    shard smallint not null check (shard between 0 and 63),
    state smallint not null,
    cover_from timestamptz[] not null,
    cover_until timestamptz[] not null,
    primary key (shard, account_id)
) with (fillfactor = 80);
comment on table account_consent is
    'Projection of identity: state of the account and, by scope code, which behaviour is '
    'covered and until when the consent is in force.';
"""


def upgrade() -> None:
    """Creates everything."""
    op.execute(FEED_SCHEMA)
    op.execute(FOLLOW_SCHEMA)
    op.execute(ACTIVITY_SCHEMA)
