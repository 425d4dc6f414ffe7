"""Customers' own words sealed in events; sessions found by who signed in."""

from alembic import op

revision = "identity_0008"
down_revision = "identity_0007"
phase = "before"

SCHEMA = """
alter table event add column words bytea;
comment on column event.words is
    'What the customer gave as a reason, sealed under the account''s data key; cause is of staff.';

alter table session add column customer uuid;
create index session_customer on session (customer) where account_id is null;
comment on column session.customer is
    'Keyed digest of the person, or else of the relation, that signed in; as in customer_key.';
"""


def upgrade() -> None:
    """Adds both columns."""
    op.execute(SCHEMA)
