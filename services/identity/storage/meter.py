"""The meter of consent checks: how many each caller asked on each civil day.

Checks are metered and not logged. Sums are kept in memory and written about once a second,
never on the path of a check. A process that is killed loses what it counted since its last
flush: about a second. A flush whose commit was cut off by a lost connection is written again,
so that second may count twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects import postgresql as pg

from services.identity.storage.vault_tables import consent_meter
from shared.ids import SHARDS
from shared.log import in_short
from shared.storage.engine import Database

FLUSH_MS = 1_000
_AWAY = (psycopg.Error, sa.exc.SQLAlchemyError)
_log = structlog.get_logger()


@dataclass(frozen=True)
class Metered:
    """What one caller asked on one civil day; `refused` are the checks that nothing covered."""

    caller: str
    civil_day: int
    checks: int
    refused: int


class Meter:
    """Counts on the loop's thread; `run` beside the server, `close` before the database's."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sums: dict[tuple[str, int], tuple[int, int]] = {}
        self._flushing: asyncio.Task[None] | None = None

    def count(self, caller: str, civil_day: int, checks: int, refused: int) -> None:
        """Adds `checks` that `caller` asked on that civil day; `refused` were not covered."""
        before = self._sums.get((caller, civil_day), (0, 0))
        self._sums[caller, civil_day] = (before[0] + checks, before[1] + refused)

    async def run(self) -> None:
        """Flushes every second, until cancelled; what cannot be written waits."""
        while True:
            await asyncio.sleep(FLUSH_MS / 1000)
            # Shielded: sums that are on their way are neither lost nor written twice by a stop.
            self._flushing = asyncio.create_task(self._flush())
            await asyncio.shield(self._flushing)

    async def close(self) -> None:
        """Writes what was counted; says in the log what could not be."""
        if self._flushing is not None:
            await self._flushing
        await self._flush()
        if self._sums:
            lost = sum(checks for checks, _ in self._sums.values())
            _log.error("meter.lost", checks=lost)

    async def _flush(self) -> None:
        sums, self._sums = self._sums, {}
        if not sums:
            return
        try:
            await self._database.call(lambda connection: add_sums(connection, sums))
        except _AWAY as error:
            _log.warning("meter.postponed", error=in_short(error))
            for key, counted in sums.items():
                self.count(*key, *counted)


def add_sums(connection: sa.Connection, sums: Mapping[tuple[str, int], tuple[int, int]]) -> None:
    """Adds sums (checks, refused) by caller and civil day to the table."""
    rows = [
        {"shard": _shard(caller), "caller": caller, "civil_day": day, "checks": checks,
         "refused": refused}
        for (caller, day), (checks, refused) in sums.items()
    ]  # fmt: skip
    # One order for all workers, so that two of them can never wait on each other.
    rows.sort(key=lambda row: (row["shard"], row["caller"], row["civil_day"]))
    insert = pg.insert(consent_meter)
    added = {name: consent_meter.c[name] + insert.excluded[name] for name in ("checks", "refused")}
    keys = ["shard", "caller", "civil_day"]
    for row in rows:
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=added), row)


def read_meters(
    connection: sa.Connection, after: tuple[int, str] | None, limit: int
) -> list[Metered]:
    """At most `limit` meters, newest day first, by caller within a day: those that follow the
    civil day and caller of `after`."""
    meter = consent_meter.c
    query = (
        sa.select(meter.caller, meter.civil_day, meter.checks, meter.refused)
        .order_by(meter.civil_day.desc(), meter.caller)
        .limit(limit)
    )
    if after is not None:
        day, caller = after
        same_day = sa.and_(meter.civil_day == day, meter.caller > caller)
        query = query.where(sa.or_(meter.civil_day < day, same_day))
    return [Metered(*row) for row in connection.execute(query)]


def _shard(caller: str) -> int:
    return hashlib.sha256(caller.encode()).digest()[0] % SHARDS
