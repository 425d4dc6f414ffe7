"""Households: memberships, invitations, and how shares were agreed."""

from alembic import op

revision = "identity_0006"
down_revision = "identity_0005"
phase = "before"

HOUSEHOLD_SCHEMA = """
create table household_member (
    household_id bigint not null,
    member_id bigint not null,
    join_time timestamptz not null,
    tie uuid not null,
    number integer not null check (number > 0),
    member_number integer not null check (member_number > 0),
    consent_number integer not null check (consent_number > 0),
    start_day integer not null,
    end_day integer check (end_day >= start_day),
    shard smallint not null check (shard = household_id & 63),
    primary key (shard, household_id, number),
    check (household_id <> member_id)
);
comment on table household_member is
    'Who belongs to a household from start_day until before end_day, civil days of UTC+8 since '
    '1970; kept after an erasure, because the shares of the others follow from it.';
create index household_member_member on household_member (member_id, member_number);

create table household_invitation (
    household_id bigint not null,
    expire_time timestamptz not null,
    member_id bigint,
    from_household_id bigint,
    digest uuid not null,
    inviter integer not null,
    shard smallint not null check (shard = get_byte(uuid_send(digest), 0) & 63),
    primary key (shard, digest)
);
comment on table household_invitation is
    'One-time codes that wait, as keyed digests; using one deletes it. Those of a split are for '
    'member_id, who leaves from_household_id with it.';
create index household_invitation_household on household_invitation (household_id, inviter);

create table share_proposal (
    household_id bigint not null,
    propose_time timestamptz not null,
    number integer not null check (number > 0),
    proposer integer not null,
    shard smallint not null check (shard = household_id & 63),
    members integer[] not null,
    weights integer[] not null check (cardinality(weights) = cardinality(members)),
    primary key (shard, household_id, number)
);
comment on table share_proposal is
    'Weights by number of membership; an agreement once all of them have signed.';

create table share_signature (
    household_id bigint not null,
    sign_time timestamptz not null,
    proposal integer not null,
    member integer not null,
    shard smallint not null check (shard = household_id & 63),
    by_guardian boolean not null,
    primary key (shard, household_id, proposal, member)
);
comment on table share_signature is 'Who signed a proposal, by number of membership, and when.';
"""


def upgrade() -> None:
    """Creates the room."""
    op.execute(HOUSEHOLD_SCHEMA)
