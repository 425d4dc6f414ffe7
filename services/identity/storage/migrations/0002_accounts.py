"""Kinds of account and customer, causes, refusals and confirmations, guardians."""

from alembic import op

from services.identity.storage.notices import NOTICE_SCHEMA

revision = "identity_0002"
down_revision = "identity_0001"
phase = "before"

ACCOUNT_SCHEMA = """
alter table account
    add column kind smallint not null default 1 check (kind in (1, 2)),
    add column customer_kind smallint not null default 0 check (customer_kind between 0 and 3),
    drop constraint account_state_check,
    add constraint account_state_check check (state between 1 and 4);
comment on column account.kind is '1 personal, 2 household';
comment on column account.customer_kind is
    'What the holder was to the bank: 0 not said, 1 cardholder, 2 debit, 3 of another bank';

create index customer_key_account on customer_key (account_id);
comment on table customer_key is
    'One account a person: keyed digests of the bank''s references of the relation and of the '
    'person; shard is of the key; erasure deletes the rows.';

create index request_account on request (account_id);
alter table request rename column consent_number to number;
comment on table request is
    'Request ids of writes, and the number of what each made, until erasure; shard is of the key.';

alter table event rename column consent_number to number;
alter table event
    add column cause text not null default '',
    drop constraint event_kind_check,
    add constraint event_kind_check check (kind between 1 and 20);
drop index event_account;
create index event_account on event (account_id, position);
comment on table event is
    'What happened, for ever, by AccountEvent.Kind of the contract; to what, by whom and why.';

alter table consent
    add column decision smallint not null default 1 check (decision in (1, 2)),
    add column confirm_time timestamptz,
    add column screen text not null default '',
    add column mandate_digest bytea not null default '',
    add column by_guardian boolean not null default false,
    add column end_kind smallint not null default 0 check (end_kind between 0 and 2);
comment on column consent.decision is '1 granted, 2 refused';
comment on column consent.end_kind is '0 not ended, 1 revoked or replaced, 2 its notice changed';

create table guardianship (
    ward_id bigint not null,
    guardian_id bigint not null,
    start_time timestamptz not null,
    shard smallint not null check (shard = ward_id & 63),
    primary key (shard, ward_id)
);
create index guardianship_guardian on guardianship (guardian_id);
comment on table guardianship is
    'Who decides for a holder under 14; until when lies in the sealed person of the ward.';
"""


def upgrade() -> None:
    """Extends everything of the spine."""
    op.execute(ACCOUNT_SCHEMA)
    op.execute(NOTICE_SCHEMA)
