"""Which worker handles which shards: leases in the database, renewed every second.

Each worker writes that it lives, counts who else does, keeps a fair share of the 64 shards
and takes what nobody holds. A dead worker's leases run out after `ttl_s`. A lease is only
for efficiency: what must not happen twice is guarded by the cursors.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
import structlog

from shared.ids import SHARDS
from shared.log import in_short
from shared.storage.engine import Database

_log = structlog.get_logger()

_LIVE = """
insert into worker values (:feed, :owner, now() + :ttl * interval '1 s')
on conflict (feed, owner) do update set expire_time = excluded.expire_time
"""
_KEEP = """
with mine as (
    select shard, row_number() over (order by shard) as rank
    from lease where feed = :feed and owner = :owner
)
update lease l set
    owner = case when m.rank <= :share then :owner else '' end,
    expire_time = case when m.rank <= :share then now() + :ttl * interval '1 s'
                       else '-infinity' end
from mine m where l.feed = :feed and l.shard = m.shard and l.owner = :owner
returning l.shard, l.owner
"""
_TAKE = """
with free as (
    select shard from lease where feed = :feed and expire_time < now() and owner <> :owner
    order by shard limit :wanted for update skip locked
)
update lease l set owner = :owner, expire_time = now() + :ttl * interval '1 s'
from free f where l.feed = :feed and l.shard = f.shard returning l.shard
"""


class LeaseKeeper:
    """Keeps this worker's share of the shards of one followed feed.

    `shards` is what it holds now; `changed` is set whenever that set became another one.
    """

    def __init__(self, database: Database, feed: str, *, ttl_s: int = 4) -> None:
        self.owner = secrets.token_hex(8)
        self.shards: frozenset[int] = frozenset()
        self.changed = asyncio.Event()
        self._database = database
        self._feed = feed
        self._ttl_s = ttl_s

    async def run(self) -> None:
        """Renews for ever; when the database is away, holds nothing until it is back."""
        while True:
            try:
                held = await self._database.call(self._renew)
            except Exception as error:
                _log.warning("lease.renewal_failed", feed=self._feed, error=in_short(error))
                held = frozenset()
            if held != self.shards:
                _log.info("lease.changed", feed=self._feed, shards=len(held))
                self.shards = held
                self.changed.set()
            await asyncio.sleep(self._ttl_s / 4)

    async def release(self) -> None:
        """Gives every shard back at once, so that a successor need not wait."""
        await self._database.call(self._give_back)

    def _renew(self, connection: sa.Connection) -> frozenset[int]:
        key: dict[str, object] = {"feed": self._feed, "owner": self.owner, "ttl": self._ttl_s}
        run = self._runner(connection, key)
        run(
            "insert into lease (feed, shard) select :feed, generate_series(0, 63)"
            " on conflict do nothing"
        )
        run(_LIVE)
        run("delete from worker where feed = :feed and expire_time < now()")
        workers = run("select count(*) from worker where feed = :feed").scalar_one()
        share = -(-SHARDS // workers)
        rows = run(_KEEP, share=share)
        held = {row.shard for row in rows if row.owner}
        held.update(row.shard for row in run(_TAKE, wanted=share - len(held)))
        return frozenset(held)

    def _give_back(self, connection: sa.Connection) -> None:
        run = self._runner(connection, {"feed": self._feed, "owner": self.owner})
        run("delete from worker where feed = :feed and owner = :owner")
        run(
            "update lease set owner = '', expire_time = '-infinity'"
            " where feed = :feed and owner = :owner"
        )

    @staticmethod
    def _runner(
        connection: sa.Connection, key: dict[str, object]
    ) -> Callable[..., sa.CursorResult[Any]]:
        def run(statement: str, **more: object) -> sa.CursorResult[Any]:
            wanted = {**key, **more}
            used = {name: value for name, value in wanted.items() if f":{name}" in statement}
            return connection.execute(sa.text(statement), used)

        return run
