"""Households in the database: memberships, invitations that wait, proposals and signatures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import sqlalchemy as sa
from numpy.typing import NDArray

from services.identity.domain.account import State
from services.identity.domain.household import (
    History,
    Invitation,
    Membership,
    Proposal,
    Shares,
    share_periods,
)
from shared.ids import shard_of
from shared.storage.bulk import array
from shared.storage.engine import driver_of

_FIELDS = tuple(field.name for field in fields(Membership))
_MEMBERSHIP = ", ".join(f"m.{name}" for name in _FIELDS)
_OF_HOUSEHOLDS = "from unnest(%s::int2[], %s::int8[]) as h (shard, household_id)"
_MEMBERSHIPS = f"""
select {_MEMBERSHIP} {_OF_HOUSEHOLDS}
join household_member m on m.shard = h.shard and m.household_id = h.household_id
"""
_PROPOSALS = f"""
select p.household_id, p.number, p.members, p.weights,
    array_agg(s.member), array_agg(s.sign_time) {_OF_HOUSEHOLDS}
join share_proposal p on p.shard = h.shard and p.household_id = h.household_id
join share_signature s
    on s.shard = p.shard and s.household_id = p.household_id and s.proposal = p.number
group by p.shard, p.household_id, p.number
"""
_AGREED = f"{_PROPOSALS} having count(*) = cardinality(p.members)"
_OF_MEMBER = f"select {_MEMBERSHIP} from household_member m where m.member_id = :member"
_LASTING = "(m.end_day is null or m.start_day < m.end_day)"
_ADD_MEMBER = """
insert into household_member (household_id, member_id, join_time, tie, number, member_number,
    consent_number, start_day, end_day, shard)
values (:household_id, :member_id, :join_time, :tie, :number, :member_number,
    :consent_number, :start_day, :end_day, :shard)
"""
_ADD_INVITATION = """
insert into household_invitation (household_id, expire_time, member_id, from_household_id,
    digest, inviter, shard)
values (:household_id, :expire_time, :member_id, :from_household_id, :digest, :inviter, :key_shard)
"""
_DROP_INVITATIONS = """
delete from household_invitation where household_id = :household
    and (cast(:inviter as int4) is null or inviter = :inviter)
    and (cast(:before as timestamptz) is null or expire_time <= :before)
"""
# A consent that was revoked ends its membership at once; one that runs out does so by itself.
_LAPSING = """
select m.member_id from household_member m
join consent c on c.shard = m.member_id & 63 and c.account_id = m.member_id
    and c.number = m.consent_number and c.expire_time <= :by
where m.end_day is null order by m.member_id limit :limit
"""
Driver = psycopg.Connection[tuple[object, ...]]


class HouseholdStore:
    """Households on one connection, inside one transaction that holds those it writes to."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def current(self, member_id: int) -> Membership | None:
        """The account's membership that has no end."""
        return next(iter(self._memberships(f"{_OF_MEMBER} and m.end_day is null", member_id)), None)

    def on_day(self, member_id: int, day: int) -> Membership | None:
        """The account's membership on that civil day."""
        query = f"{_OF_MEMBER} and m.start_day <= :day and (m.end_day is null or :day < m.end_day)"
        return next(iter(self._memberships(query, member_id, day=day)), None)

    def numbered(self, member_id: int, member_number: int) -> Membership:
        """One membership of the account, which it is known to have."""
        query = f"{_OF_MEMBER} and m.member_number = :number"
        return self._memberships(query, member_id, number=member_number)[0]

    def page(self, member_id: int, before: int | None, limit: int) -> list[Membership]:
        """At most `limit` memberships of at least a day, newest first, numbered below `before`."""
        query = (
            f"{_OF_MEMBER} and {_LASTING} and (cast(:before as int4) is null "
            "or m.member_number < :before) order by m.member_number desc limit :limit"
        )
        return self._memberships(query, member_id, before=before, limit=limit)

    def every(self, member_id: int) -> list[Membership]:
        """Every membership of the account in order, those of no day among them."""
        return self._memberships(f"{_OF_MEMBER} order by m.member_number", member_id)

    def closed_of(self, member_id: int) -> list[int]:
        """Closed households that the account once belonged to, in locking order."""
        query = (
            "select distinct m.shard, m.household_id from household_member m "
            "join account h on h.shard = m.shard and h.account_id = m.household_id "
            "where m.member_id = :member and h.state = :closed order by m.shard, m.household_id"
        )
        rows = self._run(query, member=member_id, closed=State.CLOSED.value)
        return [row.household_id for row in rows]

    def outlives_its_members(self, household_id: int) -> bool:
        """Whether every account that ever belonged to the household is erased."""
        query = (
            "select not exists (select from household_member m "
            "join account a on a.shard = m.member_id & 63 and a.account_id = m.member_id "
            "where m.shard = :shard and m.household_id = :household and a.state <> :erased)"
        )
        erased = State.ERASED.value
        return bool(self._run(query, erased=erased, **_of(household_id)).scalar_one())

    def next_member_number(self, member_id: int) -> int:
        """The number that the account's next membership gets."""
        newest = self._run(
            "select max(member_number) from household_member where member_id = :member",
            member=member_id,
        )
        return (newest.scalar() or 0) + 1

    def history(self, household_id: int) -> History:
        """Everything of one household; empty before it has its first member."""
        found = _histories(driver_of(self._connection), np.array([household_id]), _PROPOSALS)
        return found.get(household_id, History((), ()))

    def periods(self, household_ids: Sequence[int]) -> dict[int, list[tuple[int, Shares]]]:
        """As `share_periods_of`."""
        return share_periods_of(driver_of(self._connection), np.array(household_ids, np.int64))

    def add_member(self, membership: Membership) -> None:
        """Writes a membership."""
        values = {**vars(membership), "tie": UUID(bytes=membership.tie)}
        self._run(_ADD_MEMBER, **values, shard=shard_of(membership.household_id))

    def end_member(self, household_id: int, number: int, end_day: int) -> None:
        """Ends a membership that has no end."""
        self._run(
            "update household_member set end_day = :end_day where shard = :shard "
            "and household_id = :household and number = :number and end_day is null",
            number=number, end_day=end_day, **_of(household_id),
        )  # fmt: skip

    def add_invitation(self, invitation: Invitation) -> None:
        """Lets an invitation wait."""
        self._run(_ADD_INVITATION, **{**vars(invitation), **_key(invitation.digest)})

    def read_invitation(self, digest: bytes) -> Invitation | None:
        """The invitation that waits under this digest, also one that has run out."""
        row = self._run(
            "select household_id, inviter, expire_time, member_id, from_household_id "
            "from household_invitation where shard = :key_shard and digest = :digest",
            **_key(digest),
        ).one_or_none()
        return None if row is None else Invitation(digest, *tuple(row))

    def count_invitations(self, household_id: int) -> int:
        """How many invitations to the household wait, with those that have run out."""
        counted = self._run(
            "select count(*) from household_invitation where household_id = :household",
            household=household_id,
        )
        return int(counted.scalar_one())

    def drop_invitation(self, digest: bytes) -> None:
        """Uses an invitation up."""
        self._run(
            "delete from household_invitation where shard = :key_shard and digest = :digest",
            **_key(digest),
        )

    def drop_invitations(
        self, household_id: int, *, inviter: int | None = None, before: datetime | None = None
    ) -> None:
        """Drops invitations: of one inviter if given, those that end by `before` if given."""
        self._run(_DROP_INVITATIONS, household=household_id, inviter=inviter, before=before)

    def add_proposal(
        self, household_id: int, proposal: Proposal, proposer: int, now: datetime
    ) -> None:
        """Writes a proposal; signatures follow."""
        self._run(
            "insert into share_proposal "
            "(household_id, propose_time, number, proposer, shard, members, weights) "
            "values (:household, :now, :number, :proposer, :shard, :members, :weights)",
            now=now, number=proposal.number, proposer=proposer, members=list(proposal.weights),
            weights=list(proposal.weights.values()), **_of(household_id),
        )  # fmt: skip

    def add_signature(
        self, household_id: int, proposal: int, member: int, now: datetime, *, by_guardian: bool
    ) -> None:
        """Writes a signature."""
        self._run(
            "insert into share_signature "
            "(household_id, sign_time, proposal, member, shard, by_guardian) "
            "values (:household, :now, :proposal, :member, :shard, :by_guardian)",
            now=now, proposal=proposal, member=member, by_guardian=by_guardian,
            **_of(household_id),
        )  # fmt: skip

    def lock_heads(self, account_ids: Iterable[int]) -> None:
        """Locks the feed heads of several accounts in the order in which everybody does."""
        self._run(
            "select from feed_head where shard = any(:shards) order by shard for update",
            shards=sorted({shard_of(account_id) for account_id in account_ids}),
        )

    def lapsing(self, by: datetime, limit: int) -> list[int]:
        """Members without an end whose consent runs out by itself until `by`, at most `limit`."""
        return list(self._run(_LAPSING, by=by, limit=limit).scalars())

    def _memberships(self, query: str, member_id: int, **parameters: Any) -> list[Membership]:
        return [_membership(row) for row in self._run(query, member=member_id, **parameters)]

    def _run(self, statement: str, **parameters: Any) -> sa.CursorResult[Any]:
        return self._connection.execute(sa.text(statement), parameters)


def share_periods_of(
    driver: Driver, household_ids: NDArray[np.int64]
) -> dict[int, list[tuple[int, Shares]]]:
    """Whose the grams of each household are, by period; see `domain.household.share_periods`."""
    histories = _histories(driver, household_ids, _AGREED)
    return {household_id: share_periods(history) for household_id, history in histories.items()}


def acting_households(
    connection: sa.Connection, account_id: int, day: int
) -> list[tuple[int, int | None]]:
    """Households that the account belongs to on that civil day or from the next on, each with the
    first day that no longer belongs to it (None: no end)."""
    query = sa.text(
        "select m.household_id, m.end_day from household_member m where m.member_id = :member "
        f"and {_LASTING} and (m.end_day is null or :day < m.end_day) order by m.member_number"
    )
    rows = connection.execute(query, {"member": account_id, "day": day})
    return [(row.household_id, row.end_day) for row in rows]


def _histories(
    driver: Driver, household_ids: NDArray[np.int64], proposals_query: str
) -> dict[int, History]:
    """The history of each household that has one."""
    ids = np.unique(household_ids)
    parameters = (array("int2", ids & 63), array("int8", ids))
    memberships: dict[Any, list[Membership]] = {}
    for row in driver.execute(_MEMBERSHIPS, parameters, prepare=True):
        memberships.setdefault(row[0], []).append(_membership(row))
    proposals: dict[Any, list[Proposal]] = {}
    rows: Iterable[Any] = driver.execute(proposals_query, parameters, prepare=True)
    for household_id, number, members, weights, signers, times in rows:
        signed = dict(zip(signers, times, strict=True))
        proposal = Proposal(number, dict(zip(members, weights, strict=True)), signed)
        proposals.setdefault(household_id, []).append(proposal)
    return {
        household_id: History(found, proposals.get(household_id, []))
        for household_id, found in memberships.items()
    }


def _membership(row: Any) -> Membership:
    found = dict(zip(_FIELDS, row, strict=True))
    return Membership(**{**found, "tie": found["tie"].bytes})


def _of(household_id: int) -> dict[str, int]:
    return {"household": household_id, "shard": shard_of(household_id)}


def _key(digest: bytes) -> dict[str, Any]:
    return {"digest": UUID(bytes=digest), "key_shard": digest[0] & 63}
