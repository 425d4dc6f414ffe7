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
from services.calculation.usecases.publish_library import RestatementOrder, request_reused
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
_WAITING = """
select s.restatement, s.shard, s.month, s.slice, s.slices, r.last_month
from restatement_shard s join restatement r using (restatement)
where s.shard = any(:shards) and s.month <= r.last_month
order by s.restatement, s.month, s.shard for update of s skip locked
"""
_ADVANCE = """
update restatement_shard set month = :month, slice = :slice, slices = :slices, update_time = now()
where restatement = :restatement and shard = :shard
"""
_NOTE = """
update restatement_shard set acts = acts + :acts, changed = changed + :changed,
    gained = gained + :gained, lost = lost + :lost
where restatement = :restatement and shard = :shard
"""
_KEEP = """
insert into restated_month (restatement, shard, month, account_first, account_last, asset,
    account_id, acts, delta)
values (:restatement, :shard, :month, :first, :last, :asset, :account_id, :acts, :delta)
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

    def under_way(self) -> int | None:
        """The oldest restatement that is not done; None when all are."""
        return self._one(
            "select min(restatement) from restatement_shard s join restatement r"
            " using (restatement) where s.month <= r.last_month"
        )

    def begin(self, order: RestatementOrder) -> int:
        """The restatement of that request: a new one, or the one that it began before.

        RequestIdReused when that one was asked for by others, for another reason or month.
        """
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
            return self._same(order, told["first_month"])
        self._connection.execute(
            sa.text(
                "insert into restatement_shard"
                " select :number, shard, :month, 0, 1, 0, 0, 0, 0, now()"
                " from generate_series(0, :last) as shard"
            ),
            {"number": number, "month": told["first_month"], "last": SHARDS - 1},
        )
        return number

    def _same(self, order: RestatementOrder, first_month: object) -> int:
        number = self.begun_by(order.request_id)
        assert number is not None
        (known,) = self.page(1, only=number)
        reason = known.reason_zh, known.reason_en
        # Where no month was asked for, what is on record decides, and that may begin earlier now.
        if (known.requester, *reason) != (order.requester, order.reason.zh, order.reason.en) or (
            order.first_month is not None and known.first_month != first_month
        ):
            raise request_reused("RestateActivities")
        return number

    def begun_by(self, request_id: UUID) -> int | None:
        """The restatement that a request began."""
        query = "select restatement from restatement where request_id = :request_id"
        return self._one(query, request_id=request_id)

    def waiting(self, shards: Sequence[int]) -> list[Unit]:
        """What is next in these shards, of one restatement and month; locked until the end.

        One restatement after the other, and months in order.
        """
        rows = self._connection.execute(sa.text(_WAITING), {"shards": list(shards)})
        units = [Unit(*row) for row in rows]
        first = units[:1]
        return [
            unit
            for unit in units
            if (unit.restatement, unit.month) == (first[0].restatement, first[0].month)
        ]

    def advance(self, units: Sequence[Unit], onward: Sequence[Unit]) -> None:
        """Each shard goes on at `onward`."""
        self._connection.execute(
            sa.text(_ADVANCE),
            [
                {
                    "restatement": unit.restatement, "shard": unit.shard, "month": to.month,
                    "slice": to.slice, "slices": to.slices,
                }
                for unit, to in zip(units, onward, strict=True)
            ],
        )  # fmt: skip

    def note(self, unit: Unit, acts: int, changes: Changes) -> None:
        """Adds up what a piece went over, and keeps what changed for whom it changed."""
        rows = [
            self._row(
                unit, shard, asset, *(column[start : start + ACCOUNTS_A_ROW] for column in of)
            )
            for shard, asset, *of in changes.parts()
            for start in range(0, len(of[0]), ACCOUNTS_A_ROW)
        ]
        if rows:
            self._connection.execute(sa.text(_KEEP), rows)
        self._connection.execute(
            sa.text(_NOTE),
            {
                "restatement": unit.restatement, "shard": unit.shard, "acts": acts,
                "changed": changes.count, "gained": changes.gained, "lost": changes.lost,
            },
        )  # fmt: skip

    @staticmethod
    def _row(
        unit: Unit, shard: int, asset: str, accounts: Ints, acts: Ints, delta: Ints
    ) -> dict[str, object]:
        size = np.array([len(accounts)])
        return {
            "restatement": unit.restatement, "shard": shard, "month": unit.month,
            "first": int(accounts[0]), "last": int(accounts[-1]), "asset": asset,
            "account_id": pack(accounts, 8, size)[0], "acts": pack(acts, 4, size)[0],
            "delta": pack(delta, 8, size)[0],
        }  # fmt: skip

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
