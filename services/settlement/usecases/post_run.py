"""Posting a run of assessments: netted, covered or forgiven, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.settlement.domain.netting import Netted
from services.settlement.domain.pockets import Kind, Pocket, PocketKind

Ints = NDArray[np.int64]


class Ledger(Protocol):
    """What posting needs of storage; see `storage.ledger.Ledger`."""

    def lock(self, pockets: list[Pocket]) -> dict[Pocket, int]: ...


def cover(netted: Netted, assets: Ints, *, ledger: Ledger) -> Ints:
    """For each line, how much the buffer must pay so that no account falls below its floor.

    Zero where a line earns. Lines of one account are taken in order; what the run earns the
    account is available to what the run takes back.
    """
    forgiven = np.zeros(len(netted), np.int64)
    losing = np.flatnonzero(netted.amount < 0)
    if not len(losing):
        return forgiven
    accounts = np.isin(netted.account_id, netted.account_id[losing])
    left: dict[tuple[int, int], int] = {}
    pockets = [
        Pocket(shard, account, PocketKind.AVAILABLE, asset)
        for shard, account, asset in zip(
            netted.shard[losing].tolist(),
            netted.account_id[losing].tolist(),
            assets[losing].tolist(),
            strict=True,
        )
    ]
    for pocket, balance in ledger.lock(pockets).items():
        left[pocket.account_id, pocket.asset] = balance
    for row in np.flatnonzero(accounts & (netted.amount > 0)).tolist():
        key = (int(netted.account_id[row]), int(assets[row]))
        left[key] = left.get(key, 0) + int(netted.amount[row])
    for row in losing.tolist():
        key = (int(netted.account_id[row]), int(assets[row]))
        owed, available = -int(netted.amount[row]), max(left.get(key, 0), 0)
        forgiven[row] = max(owed - available, 0)
        left[key] = available - (owed - int(forgiven[row]))
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
