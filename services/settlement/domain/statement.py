"""What readers of the book see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Holding:
    """What one account holds of one asset."""

    asset: str
    balance: int
    forgiven: int
    version: int


@dataclass(frozen=True)
class Transfer:
    """A transfer of the book; `first` to `last` are the assessments of its run, 0 for moves."""

    shard: int
    position: int
    kind: int
    from_account: int
    from_kind: int
    to_account: int
    to_kind: int
    asset: str
    amount: int
    asset_class: int
    civil_day: int
    leaf_count: int
    leaf_digest: bytes
    first: int
    last: int
    cause: str
    post_time: datetime


@dataclass(frozen=True)
class Audit:
    """What the auditor last found, summed over shards; all is well when both sums are 0."""

    asset: str
    pockets: int
    difference: int
    issued: int
    transfer_count: int
    audit_time: datetime
    shards: int
