"""Restatements in the database: what was asked, how far each shard is, what changed for whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from services.calculation.usecases.assess_events import month_of
from services.calculation.usecases.publish_library import RestatementOrder
from services.calculation.usecases.restate import Changes, Unit
from shared.ids import SHARDS
from shared.storage.bulk import pack, unpack

Ints = NDArray[np.int64]
ACCOUNTS_A_ROW = 4096

_BEGIN = """
insert into restatement (create_time, first_month, last_month, requester, reason_zh, reason_en,
    request_id)
values (now(), :first_month, :last_month, :requester, :zh, :en, :request_id)
on conflict (request_id) do nothing returning restatement
"""
_NEXT = """
select s.restatement, s.shard, s.month, s.slice, s.slices, r.last_month
from restatement_shard s join restatement r using (restatement)
where s.shard = any(:shards) and s.month <= r.last_month
order by s.restatement, s.shard limit 1 for update of s skip locked
"""
_ADVANCE = """
update restatement_shard set month = :month, slice = :slice, slices = :slices, acts = acts + :acts,
    changed = changed + :changed, gained = gained + :gained, lost = lost + :lost,
    update_time = now()
where restatement = :restatement and shard = :shard
"""
_PROGRESS = """
select r.restatement, r.create_time, r.first_month, r.last_month, r.requester, r.reason_zh,
    r.reason_en, r.request_id, max(s.update_time) as update_time,
    count(*) filter (where s.month > r.last_month) as shards_done,
    sum(s.acts)::bigint as acts, sum(s.changed)::bigint as changed,
    sum(s.gained)::bigint as gained, sum(s.lost)::bigint as lost
from restatement r join restatement_shard s using (restatement)
where (cast(:only as bigint) is null or restatement = :only)
    and (cast(:before as bigint) is null or restatement < :before)
group by r.restatement order by r.restatement desc limit :size
"""
_FOR_ACCOUNT = """
select m.restatement, m.month, m.asset, m.account_id, m.acts, m.delta, r.reason_zh, r.reason_en,
    r.create_time
from restated_month m join restatement r using (restatement)
where m.shard = :shard and m.account_first <= :account and m.account_last >= :account
order by m.restatement desc, m.month desc
"""


@dataclass(frozen=True)
class Progress:
    """A restatement and how far it is; gained and lost are positive, in the unit of each asset."""

    restatement: int
    create_time: datetime
    first_month: int
    last_month: int
    requester: str
    reason_zh: str
    reason_en: str
    request_id: UUID
    update_time: datetime
    shards_done: int
    acts: int
    changed: int
    gained: int
    lost: int

    @property
    def done(self) -> bool:
        """Whether every shard has been gone over."""
        return self.shards_done == SHARDS


@dataclass(frozen=True)
class AccountChange:
    """What one restatement changed for one account in one month."""

    restatement: int
    month: int
    asset: str
    acts: int
    delta: int
    reason_zh: str
    reason_en: str
    create_time: datetime


class Restatements:
    """Restatements of one connection, inside one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def begin(self, order: RestatementOrder) -> int:
        """The restatement of that request: a new one, or the one that it began before."""
        first = order.first_month
        if first is None:
            day = self._one("select min(day_first) from assessment_run")
            first = order.last_month if day is None else month_of(day)
        told = {
            "first_month": min(first, order.last_month),
            "last_month": order.last_month,
            "requester": order.requester,
            "zh": order.reason.zh,
            "en": order.reason.en,
            "request_id": order.request_id,
        }
        number = self._one(_BEGIN, **told)
        if number is None:
            known = "select restatement from restatement where request_id = :request_id"
            number = self._one(known, request_id=order.request_id)
            assert number is not None
            return number
        self._connection.execute(
            sa.text(
                "insert into restatement_shard"
                " select :number, shard, :month, 0, 1, 0, 0, 0, 0, now()"
                " from generate_series(0, :last) as shard"
            ),
            {"number": number, "month": told["first_month"], "last": SHARDS - 1},
        )
        return number

    def next_unit(self, shards: Sequence[int]) -> Unit | None:
        """What waits in one of these shards, locked until the transaction ends."""
        row = self._connection.execute(sa.text(_NEXT), {"shards": list(shards)}).one_or_none()
        return None if row is None else Unit(*row)

    def advance(self, unit: Unit, onward: Unit, acts: int, changes: Changes) -> None:
        """The shard goes on at `onward`; what changed is kept for whom it changed."""
        for asset, accounts, counts, deltas in changes.by_asset():
            for start in range(0, len(accounts), ACCOUNTS_A_ROW):
                some = slice(start, start + ACCOUNTS_A_ROW)
                self._keep(unit, asset, accounts[some], counts[some], deltas[some])
        self._connection.execute(
            sa.text(_ADVANCE),
            {
                "restatement": unit.restatement,
                "shard": unit.shard,
                "month": onward.month,
                "slice": onward.slice,
                "slices": onward.slices,
                "acts": acts,
                "changed": changes.count,
                "gained": changes.gained,
                "lost": changes.lost,
            },
        )

    def _keep(self, unit: Unit, asset: str, accounts: Ints, counts: Ints, deltas: Ints) -> None:
        size = np.array([len(accounts)])
        self._connection.execute(
            sa.text(
                "insert into restated_month values (:restatement, :shard, :month, :first, :last,"
                " :asset, :account_id, :acts, :delta)"
            ),
            {"restatement": unit.restatement, "shard": unit.shard, "month": unit.month,
             "first": int(accounts[0]), "last": int(accounts[-1]), "asset": asset,
             "account_id": pack(accounts, 8, size)[0], "acts": pack(counts, 4, size)[0],
             "delta": pack(deltas, 8, size)[0]},
        )  # fmt: skip

    def page(self, size: int, before: int | None = None, only: int | None = None) -> list[Progress]:
        """Restatements, the newest first, of numbers below `before`; or one alone."""
        told = {"size": size, "before": before, "only": only}
        return [Progress(*row) for row in self._connection.execute(sa.text(_PROGRESS), told)]

    def of_account(self, shard: int, account_id: int) -> list[AccountChange]:
        """What restatements changed for one account, the newest first."""
        rows = self._connection.execute(
            sa.text(_FOR_ACCOUNT), {"shard": shard, "account": account_id}
        )
        found = []
        for row in rows:
            size = len(row.account_id) // 8
            accounts = unpack([row.account_id], [size], 8)
            place = int(np.searchsorted(accounts, account_id))
            if place == size or accounts[place] != account_id:
                continue
            acts, delta = unpack([row.acts], [size], 4), unpack([row.delta], [size], 8)
            found.append(
                AccountChange(
                    row.restatement,
                    row.month,
                    row.asset,
                    int(acts[place]),
                    int(delta[place]),
                    row.reason_zh,
                    row.reason_en,
                    row.create_time,
                )
            )
        return found

    def _one(self, statement: str, **told: object) -> int | None:
        value = self._connection.execute(sa.text(statement), told).scalar()
        return None if value is None else int(value)
