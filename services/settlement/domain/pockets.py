"""Pockets: the places mass lies in, and the floors they may not fall below."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from shared.ids import SHARDS, account_id_of, account_name, shard_of
from shared.refusal import FieldInvalid


class PocketKind(IntEnum):
    """What a pocket is for. A shard's own pockets have account number 0."""

    AVAILABLE = 1  # an account's free reductions or points
    ISSUE = 2  # where reductions come from: as far below zero as has been issued
    BUFFER = 3  # pays what withdrawn acts took back and accounts no longer held
    POOL = 4  # the bank's own


class Kind(IntEnum):
    """Why a transfer moves; the numbers are those of the contract."""

    EARN = 1
    REVERSE = 2
    FORGIVE = 3
    MOVE = 4


REDUCTION = 1
"""Code of the asset "reduction"; points of schemes have later codes."""

NO_FLOOR = -(2**62)
FLOORS = {
    PocketKind.AVAILABLE: 0,
    PocketKind.ISSUE: NO_FLOOR,
    # Until a buffer is funded by a programme, what it pays is shown as its own debt.
    PocketKind.BUFFER: NO_FLOOR,
    PocketKind.POOL: 0,
}


class Pocket(NamedTuple):
    """One pocket; the order is the order in which pockets are locked."""

    shard: int
    account_id: int
    kind: PocketKind
    asset: int

    @property
    def floor(self) -> int:
        """What the balance may not fall below."""
        return FLOORS[self.kind]

    @property
    def name(self) -> str:
        """accounts/{account}/available or shards/{shard}/{issue, buffer, pool}."""
        if self.account_id:
            return f"{account_name(self.account_id)}/{self.kind.name.lower()}"
        return f"shards/{self.shard}/{self.kind.name.lower()}"


def parse_pocket(name: str, asset: int, field: str) -> Pocket:
    """The pocket of a name; FieldInvalid when it is none."""
    owner, _, last = name.rpartition("/")
    if owner.startswith("accounts/") and last == "available":
        account_id = account_id_of(owner, field)
        return Pocket(shard_of(account_id), account_id, PocketKind.AVAILABLE, asset)
    shard = owner.removeprefix("shards/")
    kinds = {kind.name.lower(): kind for kind in (PocketKind.BUFFER, PocketKind.POOL)}
    if shard.isascii() and shard.isdigit() and int(shard) < SHARDS and last in kinds:
        return Pocket(int(shard), 0, kinds[last], asset)
    raise FieldInvalid(
        field,
        f"{field} is {name[:64]!r}; it must be accounts/{{account}}/available or "
        "shards/{shard}/pool or /buffer; reductions leave shards/{shard}/issue by assessments only",
    )
