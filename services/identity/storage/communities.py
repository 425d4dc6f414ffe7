"""Communities in the database: groups, their codes, and who belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import sqlalchemy as sa
from numpy.typing import NDArray

from services.identity.domain.community import (
    Community,
    CommunityKind,
    Membership,
    community_name,
)
from shared.ids import shard_of
from shared.storage.bulk import array

_READ = """
select c.community_id, c.kind, c.title_zh, c.title_en, (
    select count(*) from community_member m
    where m.community_id = c.community_id and m.leave_time is null
) as members
from community c where (c.shard, c.community_id) in (
    select * from unnest(cast(:shards as int2[]), cast(:ids as int8[]))
)
"""
_MEMBERSHIPS = """
select number, community_id, join_time, leave_time from community_member
where shard = :shard and account_id = :account
"""
_JOIN = """
insert into community_member (account_id, community_id, join_time, number, shard)
values (:account, :community, :join_time, :number, :shard)
"""
_LEAVE = """
update community_member set leave_time = :now
where shard = :shard and account_id = :account and leave_time is null
    and (cast(:number as int4) is null or number = :number)
returning number
"""
_COMMUNITIES = """
select m.account_id, m.community_id
from unnest(%s::int2[], %s::int8[]) as a (shard, account_id)
join community_member m
    on m.shard = a.shard and m.account_id = a.account_id and m.leave_time is null
order by m.account_id, m.number
"""


class CommunityStore:
    """Communities on one connection, inside one transaction that holds the account it writes to."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, community: Community, code: bytes, now: datetime) -> None:
        """Writes a new group and the digest of its code."""
        self._run(
            "insert into community (community_id, create_time, kind, shard, title_zh, title_en) "
            "values (:community, :now, :kind, :shard, :title_zh, :title_en)",
            community=community.community_id, now=now, kind=community.kind.value,
            shard=shard_of(community.community_id), title_zh=community.title_zh,
            title_en=community.title_en,
        )  # fmt: skip
        self._run(
            "insert into community_code (community_id, digest, shard) "
            "values (:community, :digest, :shard)",
            community=community.community_id, digest=UUID(bytes=code), shard=code[0] & 63,
        )  # fmt: skip

    def read(self, community_ids: Sequence[int]) -> dict[int, Community]:
        """The groups of these numbers, with their members counted now; unknown ones are absent."""
        rows = self._run(
            _READ, ids=list(community_ids), shards=[shard_of(one) for one in community_ids]
        )
        return {
            row.community_id: Community(
                row.community_id, CommunityKind(row.kind), row.title_zh, row.title_en, row.members
            )
            for row in rows
        }

    def find(self, code: bytes) -> int | None:
        """The number of the group that the code of this digest joins, or None."""
        found = self._run(
            "select community_id from community_code where shard = :shard and digest = :digest",
            digest=UUID(bytes=code), shard=code[0] & 63,
        )  # fmt: skip
        number: int | None = found.scalar()
        return number

    def memberships(self, account_id: int) -> list[Membership]:
        """Every membership of the account, newest first."""
        rows = self._run(f"{_MEMBERSHIPS} order by number desc", **_of(account_id))
        return [
            Membership(account_id, row.number, row.community_id, row.join_time, row.leave_time)
            for row in rows
        ]

    def join(self, membership: Membership) -> None:
        """Writes a membership that begins."""
        self._run(
            _JOIN,
            community=membership.community_id, join_time=membership.join_time,
            number=membership.number, **_of(membership.account_id),
        )  # fmt: skip

    def leave(self, account_id: int, now: datetime, *, number: int | None = None) -> list[int]:
        """Ends the membership of `number`, or every one that has not ended; what it ended."""
        return sorted(self._run(_LEAVE, now=now, number=number, **_of(account_id)).scalars())

    def _run(self, statement: str, **parameters: Any) -> sa.CursorResult[Any]:
        return self._connection.execute(sa.text(statement), parameters)


def communities_of(
    driver: psycopg.Connection[tuple[object, ...]], account_ids: NDArray[np.int64]
) -> dict[int, list[str]]:
    """communities/{community} of every group that each account belongs to, in the order of
    joining; accounts without any are absent."""
    communities: dict[int, list[str]] = {}
    parameters = (array("int2", account_ids & 63), array("int8", account_ids))
    for account_id, community_id in driver.execute(_COMMUNITIES, parameters, prepare=True):
        communities.setdefault(account_id, []).append(community_name(community_id))  # type: ignore[arg-type]  # two integers
    return communities


def erase_communities(connection: sa.Connection, account_id: int) -> dict[str, int]:
    """Deletes every membership of the account; rows by table. The groups count it no more."""
    deleted = connection.execute(
        sa.text("delete from community_member where shard = :shard and account_id = :account"),
        _of(account_id),
    )
    return {"community_member": deleted.rowcount}


def export_communities(connection: sa.Connection, account_id: int) -> list[dict[str, str]]:
    """The account's memberships in order, as the customer's archive holds them: times in ISO 8601,
    "" where there is none."""
    store = CommunityStore(connection)
    memberships = store.memberships(account_id)[::-1]
    communities = store.read([membership.community_id for membership in memberships])
    return [
        {
            "community": community_name(membership.community_id),
            "title_zh": communities[membership.community_id].title_zh,
            "title_en": communities[membership.community_id].title_en,
            "join_time": membership.join_time.isoformat(),
            "leave_time": membership.leave_time.isoformat() if membership.leave_time else "",
        }
        for membership in memberships
    ]


def _of(account_id: int) -> dict[str, int]:
    return {"account": account_id, "shard": shard_of(account_id)}
