"""What a copy holds of households: a person's own memberships, or all of a household's account.

A person's copy names nobody else. A household's copy goes to whichever member asks for it, so it
tells everybody by the number of the membership alone, and the account of those who have no end,
which GetHousehold tells their housemates anyway. Whoever has left stays a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from services.identity.domain.household import (
    History,
    Membership,
    own_shares,
    share_periods,
    shares_on,
)
from services.identity.storage.households import HouseholdStore
from shared.ids import account_name, day_to_date, shard_of
from shared.privacy import Item, table_of

Record = dict[str, Any]

_SIGNED = """
select m.member_number, s.proposal, s.sign_time, s.by_guardian from household_member m
join share_signature s
    on s.shard = m.shard and s.household_id = m.household_id and s.member = m.number
where m.member_id = :member order by s.sign_time
"""
# What was proposed for the others is theirs; of the weights only the own one is told.
_PROPOSED = """
select m.member_number, p.number as proposal, p.propose_time,
    p.weights[array_position(p.members, m.number)] as weight
from household_member m
join share_proposal p
    on p.shard = m.shard and p.household_id = m.household_id and p.proposer = m.number
where m.member_id = :member order by p.propose_time, p.number
"""
_INVITED = """
select m.member_number, i.expire_time from household_member m
join household_invitation i on i.household_id = m.household_id and i.inviter = m.number
where m.member_id = :member order by i.expire_time
"""
_WAITING = """
select inviter as member, expire_time from household_invitation
where household_id = :household order by expire_time
"""
_PROPOSALS = """
select number, propose_time, proposer, members, weights from share_proposal
where shard = :shard and household_id = :household order by number
"""
# Not who signed for a child: in the household all are members.
_SIGNATURES = """
select proposal, member, sign_time from share_signature
where shard = :shard and household_id = :household order by proposal, sign_time, member
"""


def export_households(connection: sa.Connection, account_id: int) -> Iterator[Item]:
    """The account's part of a copy: a household's own tables, else a person's memberships."""
    history = HouseholdStore(connection).history(account_id)
    if not history.memberships:
        yield table_of("households", export_memberships(connection, account_id))
        return
    yield table_of("households", _members(connection, account_id, history))
    yield table_of("household-shares", _periods(history))
    yield table_of("household-proposals", _proposals(connection, account_id))


def export_memberships(connection: sa.Connection, account_id: int) -> list[Record]:
    """Every membership of the account in order, those of no day too, as the customer's archive
    holds them: dates and times in ISO 8601, "" where there is none; with its own shares,
    signatures, proposals and invitations that wait, and nobody else's."""
    store = HouseholdStore(connection)
    memberships = store.every(account_id)
    periods = store.periods([m.household_id for m in memberships])
    signed, proposed, invited = (
        _by_membership(connection, query, account_id) for query in (_SIGNED, _PROPOSED, _INVITED)
    )
    return [
        {
            "name": f"{account_name(account_id)}/memberships/{m.member_number}",
            "household": account_name(m.household_id),
            "consent": f"{account_name(account_id)}/consents/{m.consent_number}",
            "join_time": m.join_time.isoformat(),
            "start_date": day_to_date(m.start_day).isoformat(),
            "end_date": day_to_date(m.end_day).isoformat() if m.end_day is not None else "",
            "shares": [
                {"start_date": day_to_date(day).isoformat(), "share_ppm": ppm}
                # Shares are by account: without a day of its own it would show another's.
                for day, ppm in own_shares(m, periods[m.household_id] if m.lasting else ())
            ],
            "signatures": signed.get(m.member_number, []),
            "proposals": proposed.get(m.member_number, []),
            "invitations": invited.get(m.member_number, []),
        }
        for m in memberships
    ]


def _by_membership(
    connection: sa.Connection, query: str, account_id: int
) -> dict[int, list[Record]]:
    """Rows of the account by the number of the membership that they start with, moments in
    ISO 8601."""
    found: dict[int, list[Record]] = {}
    for row in connection.execute(sa.text(query), {"member": account_id}).mappings():
        told: Record = {
            key: value.isoformat() if isinstance(value, datetime) else value
            for key, value in row.items()
        }
        found.setdefault(told.pop("member_number"), []).append(told)
    return found


def _members(connection: sa.Connection, household_id: int, history: History) -> Iterator[Record]:
    waiting: dict[int, list[Record]] = {}
    for row in connection.execute(sa.text(_WAITING), {"household": household_id}):
        waiting.setdefault(row.member, []).append({"expire_time": row.expire_time})
    for m in sorted(history.memberships, key=lambda m: m.number):
        yield {
            "member": m.number,
            "account": account_name(m.member_id) if m.end_day is None else "",
            "join_time": m.join_time,
            "start_date": day_to_date(m.start_day),
            "end_date": day_to_date(m.end_day) if m.end_day is not None else None,
            "invitations": waiting.get(m.number, []),
        }


def _periods(history: History) -> Iterator[Record]:
    """Shares by membership: who comes back on the day of leaving begins a period too."""
    lasting = sorted((m for m in history.memberships if m.lasting), key=lambda m: m.number)
    days = {day for day, _ in share_periods(history)} | {m.start_day for m in lasting}
    for day in sorted(days):
        yield {"start_date": day_to_date(day), "shares": _shares(history, lasting, day)}


def _shares(history: History, lasting: list[Membership], day: int) -> list[Record]:
    shares = shares_on(history, day)
    return [
        {"member": m.number, "share_ppm": shares[m.member_id]} for m in lasting if m.covers(day)
    ]


def _proposals(connection: sa.Connection, household_id: int) -> Iterator[Record]:
    parameters = {"household": household_id, "shard": shard_of(household_id)}
    signed: dict[int, list[Record]] = {}
    for row in connection.execute(sa.text(_SIGNATURES), parameters):
        signature = {"member": row.member, "sign_time": row.sign_time}
        signed.setdefault(row.proposal, []).append(signature)
    for row in connection.execute(sa.text(_PROPOSALS), parameters):
        yield {
            "proposal": row.number,
            "propose_time": row.propose_time,
            "proposer": row.proposer,
            "weights": [
                {"member": member, "weight": weight}
                for member, weight in zip(row.members, row.weights, strict=True)
            ],
            "signatures": signed.get(row.number, []),
        }
