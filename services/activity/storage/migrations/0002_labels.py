"""One word of a closed list beside the measures, as one more packed column."""

from alembic import op

revision = "activity_0002"
down_revision = "activity_0001"
phase = "before"

# A constant default is kept once in the catalogue: no row is written, and what was recorded
# before reads as "no label". Code of before names the columns it writes and goes on.
LABEL_SCHEMA = """
alter table activity_run
    add column label_1 bytea not null default '',
    alter label_1 set storage external;

create or replace view activity as
select shard, position + place as position, record_time, batch << 15 | place as ref,
    packed_int(kind, place, 1) as kind, packed_int(account_id, place, 8) as account_id,
    packed_int(scene, place, 2) as scene, packed_int(source, place, 2) as source,
    packed_int(region, place, 4) as region,
    packed_int(evidence_grade, place, 1) as evidence_grade,
    packed_int(civil_day, place, 4) as civil_day,
    packed_int(measure_1, place, 8) as measure_1, packed_int(measure_2, place, 8) as measure_2,
    packed_int(target, place, 8) as target, packed_int(label_1, place, 2) as label_1
from activity_run cross join lateral generate_series(0, count - 1) as place;
"""


def upgrade() -> None:
    """Adds the column and shows it in the view."""
    op.execute(LABEL_SCHEMA)
