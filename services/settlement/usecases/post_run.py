"""Posting a run of assessments: netted, covered or forgiven, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.settlement.domain.netting import Netted
from services.settlement.domain.pockets import Kind, PocketKind

Ints = NDArray[np.int64]


class Ledger(Protocol):
    """What posting needs of storage; see `storage.ledger.Ledger`."""

    def balances(self, shard: Ints, account_id: Ints, kind: Ints, asset: Ints) -> Ints: ...


def cover(netted: Netted, assets: Ints, *, ledger: Ledger) -> Ints:
    """For each line, how much the buffer must pay so that no account falls below its floor.

    Zero where a line earns. What the run earns an account is available to what the run takes
    back; where both and the balance do not suffice, the account's last lines lack.
    """
    forgiven = np.zeros(len(netted), np.int64)
    if not (netted.amount < 0).any():
        return forgiven
    order = np.lexsort((assets, netted.account_id, netted.shard))
    keys = [column[order] for column in (netted.shard, netted.account_id, assets)]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    starts, pocket = np.flatnonzero(begins), np.cumsum(begins) - 1
    amount = netted.amount[order]
    change = np.add.reduceat(amount, starts)
    # A pocket holds nothing below its floor, so only one that falls can lack.
    falls = np.flatnonzero(change < 0)
    if not len(falls):
        return forgiven
    shard, account, asset = (key[starts[falls]] for key in keys)
    kind = np.full(len(falls), PocketKind.AVAILABLE)
    lacking = np.zeros(len(starts), np.int64)
    lacking[falls] = np.maximum(-(ledger.balances(shard, account, kind, asset) + change[falls]), 0)
    owed = np.maximum(-amount, 0)
    so_far = np.cumsum(owed)
    owed_later = (so_far[np.append(starts[1:], len(owed)) - 1])[pocket] - so_far
    forgiven[order] = np.clip(lacking[pocket] - owed_later, 0, owed)
    return forgiven


def lines_of(netted: Netted, assets: Ints, forgiven: Ints) -> Mapping[str, NDArray[Any]]:
    """Transfers of a run, in shard order: the buffer's gifts first, then earnings and reversals.

    EARN goes from the shard's issue pocket to the account, REVERSE back, and FORGIVE from the
    shard's buffer to the account, which then gives back in full.
    """
    gifts = np.flatnonzero(forgiven)
    rows = np.concatenate([gifts, np.arange(len(netted))])
    is_gift = np.arange(len(rows)) < len(gifts)
    earns = is_gift | (netted.amount[rows] > 0)
    account = netted.account_id[rows]
    house = np.where(is_gift, PocketKind.BUFFER, PocketKind.ISSUE)
    order = np.lexsort((~is_gift, netted.shard[rows]))
    columns: dict[str, NDArray[Any]] = {
        "shard": netted.shard[rows],
        "kind": np.where(is_gift, Kind.FORGIVE, np.where(earns, Kind.EARN, Kind.REVERSE)),
        "from_account": np.where(earns, 0, account),
        "from_kind": np.where(earns, house, PocketKind.AVAILABLE),
        "to_account": np.where(earns, account, 0),
        "to_kind": np.where(earns, PocketKind.AVAILABLE, house),
        "asset": assets[rows],
        "amount": np.where(is_gift, forgiven[rows], np.abs(netted.amount[rows])),
        "asset_class": netted.asset_class[rows],
        "civil_day": netted.civil_day[rows],
        "leaf_count": np.where(is_gift, 0, netted.leaf_count[rows]),
        "leaf_digest": netted.leaf_digest[rows],
    }
    return {name: column[order] for name, column in columns.items()}


def changes_of(lines: Mapping[str, NDArray[Any]]) -> Mapping[str, Ints]:
    """What every pocket of `lines` gains or loses, netted, in locking order."""
    shard = np.concatenate([lines["shard"]] * 2)
    account = np.concatenate([lines["from_account"], lines["to_account"]])
    kind = np.concatenate([lines["from_kind"], lines["to_kind"]])
    asset = np.concatenate([lines["asset"]] * 2)
    change = np.concatenate([-lines["amount"], lines["amount"]])
    given = np.where(lines["kind"] == Kind.FORGIVE, lines["amount"], 0)
    forgiven = np.concatenate([np.zeros_like(given), given])
    order = np.lexsort((asset, kind, account, shard))
    keys = [column[order] for column in (shard, account, kind, asset)]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    starts = np.flatnonzero(begins)
    return {
        **dict(
            zip(("shard", "account_id", "kind", "asset"), (k[starts] for k in keys), strict=True)
        ),
        "change": np.add.reduceat(change[order], starts),
        "transfers": np.diff(np.append(starts, len(order))),
        "forgiven": np.add.reduceat(forgiven[order], starts),
    }
