"""Reading the book: balances, statements, the feed, and what the auditor found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from services.settlement.domain.pockets import PocketKind
from services.settlement.domain.statement import Audit, Holding, Transfer
from services.settlement.storage import tables as t
from shared.ids import shard_of
from shared.storage.bulk import array
from shared.storage.engine import driver_of

_COLUMNS = """
    t.shard, t.position, t.kind, t.from_account, t.from_kind, t.to_account, t.to_kind, a.name,
    t.amount, t.asset_class, t.civil_day, t.leaf_count, t.leaf_digest, r.first_position,
    r.last_position, coalesce(k.cause, ''), r.post_time
"""
_JOINS = """
join asset a on a.code = t.asset
join lateral (
    select * from posting_run r where r.shard = t.shard and r.last_transfer >= t.position
    order by r.last_transfer limit 1
) r on true
left join lateral (
    select cause from transfer_key k
    where t.kind = 4 and k.transfer_shard = t.shard and k.position = t.position limit 1
) k on true
"""
_FEED = f"""
select {_COLUMNS}
from unnest(%s::int2[], %s::int8[]) as c (shard, position)
cross join lateral (
    select * from transfer t
    where t.shard = c.shard and t.position > c.position order by t.position limit %s
) t
{_JOINS}
order by t.shard, t.position
"""
_STATEMENT = f"""
select {_COLUMNS} from (
    (select * from transfer where to_account = %(account)s
        and (civil_day, position) < (%(day)s, %(position)s)
     order by civil_day desc, position desc limit %(limit)s)
    union all
    (select * from transfer where from_account = %(account)s
        and (civil_day, position) < (%(day)s, %(position)s)
     order by civil_day desc, position desc limit %(limit)s)
) t
{_JOINS}
order by t.civil_day desc, t.position desc limit %(limit)s
"""


class Reader:
    """The reading side of the book, on one connection."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def holdings(self, account_id: int) -> list[Holding]:
        """What the account holds, one line for each asset; nothing when it never held any."""
        p = t.pocket.c
        query = (
            sa.select(t.asset.c.name, p.balance, p.forgiven, p.version)
            .join(t.asset, t.asset.c.code == p.asset)
            .where(
                p.shard == shard_of(account_id),
                p.account_id == account_id,
                p.kind == PocketKind.AVAILABLE.value,
            )
        )
        return [Holding(*row) for row in self._connection.execute(query)]

    def statement(
        self, account_id: int, limit: int, before: tuple[int, int] | None
    ) -> list[Transfer]:
        """Transfers that touch the account, latest civil day first, before (day, position)."""
        day, position = before or (2**31 - 1, 2**62)
        rows = driver_of(self._connection).execute(
            _STATEMENT,
            {"account": account_id, "day": day, "position": position, "limit": limit},
        )
        return [_transfer(row) for row in rows]

    def feed(self, cursors: Mapping[int, int], per_shard: int) -> list[Transfer]:
        """Transfers after `cursors`, at most so many for each shard, in order."""
        parameters = (
            array("int2", np.array(list(cursors), np.int64)),
            array("int8", np.array(list(cursors.values()), np.int64)),
            per_shard,
        )
        rows = driver_of(self._connection).execute(_FEED, parameters, prepare=True)
        return [_transfer(row) for row in rows]

    def classes(self, codes: Sequence[int]) -> dict[int, sa.RowMapping]:
        """What class codes mean, with the asset's name."""
        query = (
            sa.select(t.asset_class, t.asset.c.name.label("asset_name"))
            .join(t.asset, t.asset.c.code == t.asset_class.c.asset)
            .where(t.asset_class.c.code.in_(codes))
        )
        return {row["code"]: row for row in self._connection.execute(query).mappings()}

    def audits(self) -> list[Audit]:
        """What the auditor last found, one line for each asset."""
        rows = self._connection.execute(
            sa.text(
                "select a.name, sum(u.pockets)::bigint, max(u.difference), sum(u.issued)::bigint,"
                " sum(u.transfer_count)::bigint, min(u.audit_time), count(*)::int"
                " from audit u join asset a on a.code = u.asset group by a.name order by a.name"
            )
        )
        return [Audit(*row) for row in rows]


def _transfer(row: Any) -> Transfer:
    return Transfer(*row)
