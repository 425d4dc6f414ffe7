"""Positions for facts that are about to commit.

Heads are locked last in a transaction and in shard order, so that two writers can never
wait on each other, and nobody reads a position before every lower one is visible.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from shared.storage.bulk import Ints, array

ADVANCING = """
locked as (
    select h.shard, r.count from feed_head h join run r using (shard)
    order by h.shard for update of h
), head as (
    update feed_head h set position = h.position + l.count from locked l where h.shard = l.shard
    returning h.shard, h.position - l.count + 1 as first
)
"""
"""Part of a statement that adds runs: of `run` (shard, count; distinct shards) it makes `head`
(shard, first), the first position of each shard's new facts, and locks the heads until the
commit. So positions are given in the statement that writes them, and nobody waits for them."""

_ADVANCE = f"""
with run as (select * from unnest(%s::int2[], %s::int4[]) as r (shard, count)), {ADVANCING}
select shard, first from head
"""


def advance_heads(
    connection: psycopg.Connection[Any], shards: Ints, counts: Ints
) -> NDArray[np.int64]:
    """The first position of each shard's new facts; locks the heads until the commit.

    `shards` are distinct and ascending, `counts` (>= 1) how many facts each gets.
    """
    rows = connection.execute(
        _ADVANCE, (array("int2", shards), array("int4", counts)), prepare=True
    ).fetchall()
    first: dict[Any, Any] = dict(rows)
    return np.array([first[int(shard)] for shard in shards], np.int64)
