"""The feed of assessments, the dictionaries its codes need, cursors and leases."""

from alembic import op

from shared.feed.tables import FEED_SCHEMA, FOLLOW_SCHEMA

revision = "calculation_0001"
down_revision = None
phase = "before"

CALCULATION_SCHEMA = """
create table assessment_run (
    position bigint not null check (position > 0),
    activity_first bigint not null,
    activity_last bigint not null,
    assess_time timestamptz not null,
    count integer not null check (count > 0),
    day_first integer not null,
    day_last integer not null,
    shard smallint not null check (shard between 0 and 63),
    superseding boolean not null,
    account_id bytea not null,
    activity_position bytea not null,
    asset_class bytea not null,
    civil_day bytea not null,
    amount bytea not null,
    delta bytea not null,
    verdict bytea not null,
    scene bytea not null,
    region bytea not null,
    evidence_grade bytea not null,
    measure_1 bytea not null,
    measure_2 bytea not null,
    cap_used_before bytea not null,
    primary key (shard, position)
) with (toast_tuple_target = 8160);
create index assessment_run_activity on assessment_run (shard, superseding, activity_first);
create index assessment_run_day on assessment_run (shard, day_last);
comment on table assessment_run is
    'The feed: a row is a run of consecutive assessments of one shard, each column packed '
    'big-endian (empty when all zero). A superseding run takes the place of earlier assessments '
    'of the same activities; in any other run delta is the amount and is left empty.';
alter table assessment_run
    alter account_id set storage external, alter activity_position set storage external,
    alter asset_class set storage external, alter civil_day set storage external,
    alter amount set storage external, alter delta set storage external,
    alter verdict set storage external, alter scene set storage external,
    alter region set storage external, alter evidence_grade set storage external,
    alter measure_1 set storage external, alter measure_2 set storage external,
    alter cap_used_before set storage external;

create function packed_int(packed bytea, place integer, width integer) returns bigint
language sql immutable strict parallel safe as $$
    select case when packed = '' then 0 else
        ('x' || lpad(encode(substring(packed from place * width + 1 for width), 'hex'), 16, '0')
        )::bit(64)::bigint
        - case when width < 8 and get_byte(packed, place * width) > 127
               then 1::bigint << (8 * least(width, 7)) else 0 end
    end
$$;
create view assessment as
select shard, position + place as position, assess_time, superseding,
    packed_int(account_id, place, 8) as account_id,
    packed_int(activity_position, place, 8) as activity_position,
    packed_int(asset_class, place, 4) as asset_class,
    packed_int(civil_day, place, 4) as civil_day,
    packed_int(amount, place, 8) as amount,
    packed_int(case when superseding then delta else amount end, place, 8) as delta,
    packed_int(verdict, place, 1) as verdict, packed_int(scene, place, 2) as scene,
    packed_int(region, place, 4) as region,
    packed_int(evidence_grade, place, 1) as evidence_grade,
    packed_int(measure_1, place, 8) as measure_1, packed_int(measure_2, place, 8) as measure_2,
    packed_int(cap_used_before, place, 8) as cap_used_before
from assessment_run cross join lateral generate_series(0, count - 1) as place;
comment on view assessment is 'Every assessment of the feed, one a row, for people and audits.';

create table asset_class (
    code integer generated always as identity primary key,
    asset text not null,
    methodology_version text not null,
    methodology_digest text not null,
    programme text not null,
    scene_approval text not null,
    region integer not null,
    gas_scope text not null,
    vintage_month integer not null,
    unique (methodology_version, methodology_digest, programme, scene_approval, region,
            vintage_month)
);
comment on table asset_class is 'What milligrams of one class are; codes are fixed for ever.';

create table scene_code (
    code smallint primary key,
    scene text not null,
    measures text[] not null
);
comment on table scene_code is 'What the scene codes of the activity feed mean.';
"""


def upgrade() -> None:
    """Creates everything."""
    op.execute(FEED_SCHEMA)
    op.execute(FOLLOW_SCHEMA)
    op.execute(CALCULATION_SCHEMA)
