"""Columns of the book: what pockets gain, transfers to add, keys of causes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from services.settlement.domain.judge import Post
from services.settlement.domain.pockets import Kind
from shared.storage.bulk import Array, array

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Changes:
    """What pockets gain or lose, one element each, distinct pockets; `forgiven` adds up."""

    shard: Ints
    account_id: Ints
    kind: Ints
    asset: Ints
    change: Ints
    transfers: Ints
    forgiven: Ints


@dataclass(frozen=True)
class Transfers:
    """Transfers to add, in shard order; int64 columns, digests of shape (n, 32)."""

    shard: Ints
    kind: Ints
    from_account: Ints
    from_kind: Ints
    to_account: Ints
    to_kind: Ints
    asset: Ints
    amount: Ints
    asset_class: Ints
    civil_day: Ints
    leaf_count: Ints
    leaf_digest: NDArray[np.uint8]


def moves(posts: Sequence[Post]) -> Transfers:
    """Accepted posts as transfers of kind MOVE, in shard order."""
    size = len(posts)
    zeros = np.zeros(size, np.int64)
    # The leaf of a move is its cause; the digest is SHA-256 like that of any transfer.
    leaves = b"".join(sha256(post.cause.encode()).digest() for post in posts)
    return Transfers(
        shard=np.array([post.from_pocket.shard for post in posts], np.int64),
        kind=zeros + Kind.MOVE,
        from_account=np.array([post.from_pocket.account_id for post in posts], np.int64),
        from_kind=np.array([post.from_pocket.kind for post in posts], np.int64),
        to_account=np.array([post.to_pocket.account_id for post in posts], np.int64),
        to_kind=np.array([post.to_pocket.kind for post in posts], np.int64),
        asset=np.array([post.from_pocket.asset for post in posts], np.int64),
        amount=np.array([post.amount for post in posts], np.int64),
        asset_class=zeros,
        civil_day=np.array([post.civil_day for post in posts], np.int64),
        leaf_count=zeros + 1,
        leaf_digest=np.frombuffer(leaves, np.uint8).reshape(-1, 32),
    )


def key_arrays(posts: Sequence[Post]) -> tuple[Array, Array]:
    """Shards and keys of the causes of `posts`, as parameters."""
    keys = np.frombuffer(b"".join(post.key for post in posts), np.uint8).reshape(-1, 16)
    return array("int2", keys[:, 0].astype(np.int64) & 63), array("uuid", keys)
