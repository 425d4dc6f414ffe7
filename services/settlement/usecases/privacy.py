"""Settlement's part of copies and erasures: the account's pages of the book."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from services.settlement.domain.pockets import Kind, Pocket, PocketKind
from services.settlement.domain.statement import Holding, Transfer
from shared.ids import day_to_date
from shared.privacy import Erased, Item, Kept, Table


class Statement(Protocol):
    """What a copy needs of storage; see `storage.privacy.Statement`."""

    def holdings(self, account_id: int) -> list[Holding]: ...
    def transfers(self, account_id: int) -> Iterator[Transfer]: ...
    def class_of(self, code: int) -> Mapping[str, object]: ...


_CLASS = ("methodology_version", "programme", "scene_approval", "region_code", "gas_scope",
          "vintage_month")  # fmt: skip
_ENTRY = (
    "transfer", "kind", "civil_date", "post_time", "asset", "delta", "from_pocket", "to_pocket",
    *_CLASS, "leaf_count", "leaf_digest", "cause",
)  # fmt: skip


def export_account(account_id: int, *, statement: Statement) -> Iterator[Item]:
    """The account's balances, and every entry of its statement, latest civil day first."""
    holdings = [
        (one.asset, one.balance, one.forgiven, one.version)
        for one in statement.holdings(account_id)
    ]
    yield Table("balances", ("asset", "available", "forgiven", "version"), holdings)
    yield Table("entries", _ENTRY, _entries(account_id, statement))


def erase_account(_account_id: int) -> Erased:
    """Deletes nothing: the book names accounts by number, and that number points to nobody."""
    return Erased(
        kept=[
            Kept(
                "pockets, transfers and their leaf digests under the account's number",
                "the book's sums and the proofs of other accounts rest on them",
            ),
            Kept(
                "causes of transfers, as keyed by the services that asked for them",
                "the same cause acts once, for ever",
            ),
        ]
    )


def _entries(account_id: int, statement: Statement) -> Iterator[tuple[object, ...]]:
    known: dict[int, Mapping[str, object]] = {0: {}}
    for one in statement.transfers(account_id):
        if one.asset_class not in known:
            known[one.asset_class] = statement.class_of(one.asset_class)
        meaning = known[one.asset_class]
        source = Pocket(one.shard, one.from_account, PocketKind(one.from_kind), 0)
        target = Pocket(one.shard, one.to_account, PocketKind(one.to_kind), 0)
        yield (
            f"transfers/{one.shard}-{one.position}", Kind(one.kind).name.lower(),
            day_to_date(one.civil_day), one.post_time, one.asset,
            one.amount if one.to_account == account_id else -one.amount,
            source.name, target.name, *(meaning.get(name) for name in _CLASS), one.leaf_count,
            one.leaf_digest, one.cause or f"runs/{one.shard}-{one.first}-{one.last}",
        )  # fmt: skip
