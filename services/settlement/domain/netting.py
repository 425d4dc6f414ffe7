"""Netting a run of assessments: one transfer for each account, class and civil day.

The assessments that a transfer nets are its leaves. A leaf is 24 bytes: position of the
assessment, position of the activity, and delta, each a big-endian int64; a transfer carries
the SHA-256 over its leaves in feed order, so act and transfer can be tied together by anyone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Leaves:
    """Assessments in feed order within each shard; int64 columns of one length."""

    shard: Ints
    position: Ints
    account_id: Ints
    activity_position: Ints
    asset_class: Ints
    civil_day: Ints
    delta: Ints


@dataclass(frozen=True)
class Netted:
    """What a run comes to, ordered by shard, account, class and day; `amount` is never 0."""

    shard: Ints
    account_id: Ints
    asset_class: Ints
    civil_day: Ints
    amount: Ints
    leaf_count: Ints
    leaf_digest: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.amount)


def split(leaves: Leaves, amount: Ints, previous_class: Ints) -> Leaves:
    """Leaves of assessments whose class changed, in two: what comes and, after it, what goes.

    An assessment with a `previous_class` brings its whole `amount` into its class, and what the
    one before it said, which is amount - delta, leaves the previous class.
    """
    moved = previous_class != 0
    comes = replace(leaves, delta=np.where(moved, amount, leaves.delta))
    rows = np.flatnonzero(moved)
    goes = {name: column[rows] for name, column in vars(leaves).items()}
    goes |= {"asset_class": previous_class[rows], "delta": (leaves.delta - amount)[rows]}
    order = np.argsort(np.concatenate([np.arange(len(moved)), rows]), kind="stable")
    return Leaves(
        **{
            name: np.concatenate([column, goes[name]])[order]
            for name, column in vars(comes).items()
        }
    )


def net(leaves: Leaves) -> Netted:
    """One line for each (shard, account, class, civil day) whose deltas do not cancel out."""
    moving = np.flatnonzero(leaves.delta)
    keys = [column[moving] for column in
            (leaves.shard, leaves.account_id, leaves.asset_class, leaves.civil_day)]  # fmt: skip
    order = np.lexsort(keys[::-1])
    keys = [key[order] for key in keys]
    rows = moving[order]
    begins = np.ones(len(rows), np.bool_)
    if len(rows):
        begins[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(rows))
    amounts = np.add.reduceat(leaves.delta[rows], starts) if len(rows) else leaves.delta[:0]
    kept = np.flatnonzero(amounts)
    digests = _digests(leaves, rows, starts[kept], ends[kept])
    first = starts[kept]
    shard, account_id, asset_class, civil_day = (key[first] for key in keys)
    return Netted(
        shard,
        account_id,
        asset_class,
        civil_day,
        amount=amounts[kept],
        leaf_count=(ends - starts)[kept],
        leaf_digest=digests,
    )


def _digests(leaves: Leaves, rows: NDArray[np.intp], starts: Ints, ends: Ints) -> NDArray[np.uint8]:
    data = np.empty((len(rows), 3), ">i8")
    data[:, 0] = leaves.position[rows]
    data[:, 1] = leaves.activity_position[rows]
    data[:, 2] = leaves.delta[rows]
    view = memoryview(data.tobytes())
    digests = b"".join(
        [
            sha256(view[start * 24 : end * 24]).digest()
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
    )
    return np.frombuffer(digests, np.uint8).reshape(-1, 32)
