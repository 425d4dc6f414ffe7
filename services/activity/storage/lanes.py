"""Lanes: how far each stream of a source has come, and which stream has it now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import psycopg

from services.activity.usecases.commit_submissions import LaneKey
from shared.storage.bulk import array

_LOCK_LANES = """
select l.source, l.lane, l.next_offset, l.epoch
from lane l join unnest(%s::int2[], %s::int2[], %s::text[]) as w (shard, source, lane)
    using (shard, source, lane)
order by l.shard, l.source, l.lane for update of l
"""
_MOVE_LANES = """
update lane l set next_offset = w.next_offset
from unnest(%s::int2[], %s::int2[], %s::text[], %s::int8[])
    as w (shard, source, lane, next_offset)
where l.shard = w.shard and l.source = w.source and l.lane = w.lane
"""
_OPEN_LANE = """
insert into lane as l (shard, source, lane, next_offset, epoch) values (%s, %s, %s, 0, 1)
on conflict (shard, source, lane) do update set epoch = l.epoch + 1
returning next_offset, epoch
"""


class Lanes:
    """The lanes, on one connection inside one transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def open_lane(self, source: int, lane: str) -> tuple[int, int]:
        """Where the lane goes on and the epoch that now owns it; earlier streams are over."""
        row = self._connection.execute(_OPEN_LANE, (_lane_shard(lane), source, lane)).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    def lock_lanes(self, lanes: Sequence[LaneKey]) -> dict[LaneKey, tuple[int, int]]:
        """Next offset and epoch of each lane, held until the commit."""
        rows = self._connection.execute(_LOCK_LANES, _lane_arrays(lanes), prepare=True)
        return {(source, lane): (offset, epoch) for source, lane, offset, epoch in rows}

    def move_lanes(self, offsets: Mapping[LaneKey, int]) -> None:
        """Sets where each lane goes on."""
        if offsets:
            positions = array("int8", np.array(list(offsets.values()), np.int64))
            self._connection.execute(
                _MOVE_LANES, (*_lane_arrays(list(offsets)), positions), prepare=True
            )


def _lane_shard(lane: str) -> int:
    return blake2b(lane.encode(), digest_size=1).digest()[0] & 63


def _lane_arrays(lanes: Sequence[LaneKey]) -> tuple[Any, Any, Any]:
    return (
        array("int2", np.array([_lane_shard(lane) for _, lane in lanes], np.int64)),
        array("int2", np.array([source for source, _ in lanes], np.int64)),
        array("text", [lane for _, lane in lanes]),
    )
