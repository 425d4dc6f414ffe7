"""What the whole format needs of an assessment; restatements; the life of the library."""

from alembic import op

revision = "calculation_0002"
down_revision = "calculation_0001"
phase = "before"

COLUMNS = """
alter table assessment_run
    add column restatement bigint,
    add column cap_used_before_2 bytea not null default '',
    add column history_1 bytea not null default '',
    add column label_1 bytea not null default '',
    add column previous_class bytea not null default '';
alter table assessment_run
    alter cap_used_before_2 set storage external, alter history_1 set storage external,
    alter label_1 set storage external, alter previous_class set storage external;
create index assessment_run_restatement on assessment_run (shard, restatement)
    where restatement is not null;
alter table scene_code
    add column label text not null default '', add column label_values text[] not null default '{}';
"""

VIEW = """
drop view assessment;
create view assessment as
select shard, position + place as position, assess_time, superseding, restatement,
    packed_int(account_id, place, 8) as account_id,
    packed_int(activity_position, place, 8) as activity_position,
    packed_int(asset_class, place, 4) as asset_class,
    packed_int(previous_class, place, 4) as previous_class,
    packed_int(civil_day, place, 4) as civil_day,
    packed_int(amount, place, 8) as amount,
    packed_int(case when superseding then delta else amount end, place, 8) as delta,
    packed_int(verdict, place, 1) as verdict, packed_int(scene, place, 2) as scene,
    packed_int(region, place, 4) as region,
    packed_int(evidence_grade, place, 1) as evidence_grade,
    packed_int(measure_1, place, 8) as measure_1, packed_int(measure_2, place, 8) as measure_2,
    packed_int(label_1, place, 2) as label_1,
    packed_int(cap_used_before, place, 8) as cap_used_before,
    packed_int(cap_used_before_2, place, 8) as cap_used_before_2,
    packed_int(history_1, place, 8) as history_1
from assessment_run cross join lateral generate_series(0, count - 1) as place;
comment on view assessment is 'Every assessment of the feed, one a row, for people and audits.';
"""

RESTATEMENT = """
create table restatement (
    restatement bigint generated always as identity primary key,
    create_time timestamptz not null,
    first_month integer not null,
    last_month integer not null check (last_month >= first_month),
    requester text not null,
    reason_zh text not null,
    reason_en text not null,
    request_id uuid not null unique
);
comment on table restatement is
    'A going over of recorded months under the library of today; months are year * 12 + month - 1.';
create table restatement_shard (
    restatement bigint not null,
    shard smallint not null check (shard between 0 and 63),
    month integer not null,
    slice integer not null,
    slices integer not null,
    acts bigint not null,
    changed bigint not null,
    gained bigint not null,
    lost bigint not null,
    update_time timestamptz not null,
    primary key (restatement, shard)
);
comment on table restatement_shard is
    'How far a restatement has come in a shard: the next month and slice of accounts; done where '
    'month is past last_month. gained and lost are in the unit of each asset, added up.';
create table restated_month (
    restatement bigint not null,
    shard smallint not null,
    month integer not null,
    account_first bigint not null,
    account_last bigint not null,
    asset text not null,
    account_id bytea not null,
    acts bytea not null,
    delta bytea not null,
    primary key (shard, restatement, month, asset, account_first)
);
alter table restated_month alter account_id set storage external,
    alter acts set storage external, alter delta set storage external;
create index restated_month_account on restated_month (shard, account_last);
comment on table restated_month is
    'What a restatement changed for whom: packed columns over accounts, ascending, of one asset.';
"""

LIBRARY = """
create table library_draft (
    draft bigint generated always as identity primary key,
    draft_time timestamptz not null,
    review_time timestamptz,
    publish_time timestamptz,
    state smallint not null check (state between 1 and 3),
    path text not null,
    content text not null,
    drafter text not null,
    reviewer text not null default '' check (reviewer <> drafter),
    publisher text not null default '' check (publisher <> drafter),
    review_note text not null default '',
    request_id uuid not null unique
);
comment on table library_draft is
    'Texts of library files: 1 draft, 2 reviewed, 3 published; the one that was published last '
    'stands in the place of the shipped file of its path.';
create table library_edition (
    edition bigint generated always as identity primary key,
    publish_time timestamptz not null,
    draft bigint,
    restatement bigint,
    publisher text not null,
    selection jsonb not null
);
comment on table library_edition is
    'Each library that has served: what credited which scene where and when, up to its day.';
create table sealed_text (
    name text primary key,
    digest text not null,
    seal_time timestamptz not null
);
comment on table sealed_text is
    'Versions that were in force: their text never changes.';
"""


def upgrade() -> None:
    """Adds what is new; earlier rows read as having none of it."""
    for part in (COLUMNS, VIEW, RESTATEMENT, LIBRARY):
        op.execute(part)
