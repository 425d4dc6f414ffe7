"""Where facts of one transaction go: dense positions per shard, references that need none.

A fact is written in three places. Its key and its details name it by a *reference*
(batch number and place among the batch's facts of its shard), which is known before the
heads are locked; its position in the feed is first position of the run + place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PLACE_BITS = 15
PLACES_MAX = 1 << PLACE_BITS


def reference(batch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """References of facts at `places` (each < 2**15) of `batch`."""
    return (batch << PLACE_BITS) | places


def split_reference(ref: int) -> tuple[int, int]:
    """Batch number and place of a reference."""
    return ref >> PLACE_BITS, ref & (PLACES_MAX - 1)


@dataclass(frozen=True)
class Layout:
    """Facts ordered by shard: `order` sorts them (stably), `shards` are the distinct shards
    ascending, `counts` their facts, `starts` where each shard's slice begins in the order."""

    order: NDArray[np.int64]
    shards: NDArray[np.int64]
    counts: NDArray[np.int64]
    starts: NDArray[np.int64]

    @staticmethod
    def of(shard: NDArray[np.int64]) -> Layout:
        """The layout of facts of these shards."""
        order = np.argsort(shard, kind="stable")
        shards, starts, counts = np.unique(shard[order], return_index=True, return_counts=True)
        return Layout(order, shards, counts.astype(np.int64), starts.astype(np.int64))


def places_of(shard: NDArray[np.int64], taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each fact among the facts of its shard, after `taken` (64 counts) earlier ones.

    Adds what it hands out to `taken`.
    """
    layout = Layout.of(shard)
    places = np.empty(len(shard), np.int64)
    ranks = np.arange(len(shard)) - np.repeat(layout.starts, layout.counts)
    places[layout.order] = ranks + np.repeat(taken[layout.shards], layout.counts)
    taken[layout.shards] += layout.counts
    return places
