"""Cursors of a follower: moved by compare-and-set in the transaction of the effects.

A worker that lost its lease finds the cursor moved by its successor; its whole
transaction is rolled back, so a run can never take effect twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import psycopg
import sqlalchemy as sa

from shared.storage.bulk import array
from shared.storage.engine import driver_of

_MOVE = """
with step as (
    select shard, before, after
    from unnest(%s::int2[], %s::int8[], %s::int8[]) as s (shard, before, after)
), locked as (
    select c.shard from cursor c join step s using (shard)
    where c.feed = %s and c.position = s.before order by c.shard for update of c
)
update cursor c set position = s.after
from step s join locked l using (shard) where c.feed = %s and c.shard = s.shard
"""


class CursorMoved(Exception):
    """Another worker handled this run first; nothing of ours may commit."""


def read_cursors(connection: sa.Connection, feed: str, shards: Iterable[int]) -> dict[int, int]:
    """The last handled position of each of `shards`; makes missing cursors at 0."""
    wanted = sorted(shards)
    connection.execute(
        sa.text(
            "insert into cursor (feed, shard) select :feed, unnest(cast(:shards as smallint[]))"
            " on conflict do nothing"
        ),
        {"feed": feed, "shards": wanted},
    )
    rows = connection.execute(
        sa.text("select shard, position from cursor where feed = :feed and shard = any(:shards)"),
        {"feed": feed, "shards": wanted},
    )
    return {shard: position for shard, position in rows}


def move_cursors(
    connection: sa.Connection | psycopg.Connection[Any],
    feed: str,
    steps: Mapping[int, tuple[int, int]],
) -> None:
    """Moves each shard's cursor from `before` to `after`; CursorMoved when one is elsewhere."""
    driver = driver_of(connection) if isinstance(connection, sa.Connection) else connection
    shards = sorted(steps)
    moved = driver.execute(
        _MOVE,
        (
            array("int2", np.array(shards, np.int64)),
            array("int8", np.array([steps[shard][0] for shard in shards], np.int64)),
            array("int8", np.array([steps[shard][1] for shard in shards], np.int64)),
            feed,
            feed,
        ),
        prepare=True,
    ).rowcount
    if moved != len(shards):
        raise CursorMoved(f"{len(shards) - moved} of {len(shards)} cursors of {feed} had moved")
