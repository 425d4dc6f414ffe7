"""Between the contract's messages and settlement's own types; no rule is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import sqlalchemy as sa
from carbonaccount.calculation.v1 import assessment_service_pb2 as calculation_pb
from carbonaccount.settlement.v1 import ledger_service_pb2 as pb
from google.type import date_pb2

from services.settlement.domain.judge import Post
from services.settlement.domain.pockets import Pocket, PocketKind, parse_pocket
from services.settlement.domain.statement import Transfer
from services.settlement.usecases.post_transfers import Order, Posted
from shared.ids import account_id_of, day_to_date
from shared.refusal import FieldInvalid, Refusal
from shared.rpc.status import to_status

_CAUSE_MAX = 64
_AMOUNT_MAX = 2**53


def read_order(request: pb.PostTransfersRequest, assets: Mapping[str, int], today: int) -> Order:
    """The posts of a request; a malformed one becomes a refusal of that item."""
    posts, refused = [], {}
    for index, item in enumerate(request.transfers):
        try:
            posts.append((index, _read_post(item, assets, today)))
        except Refusal as refusal:
            refused[index] = refusal
    return Order(posts, len(request.transfers), refused, request.all_or_none)


def _read_post(item: pb.PostTransfersRequest.Post, assets: Mapping[str, int], today: int) -> Post:
    if not 0 < len(item.cause) <= _CAUSE_MAX or not item.cause.isprintable():
        raise FieldInvalid("cause", f"cause has {len(item.cause)} characters; 1 to {_CAUSE_MAX}")
    if not 0 < item.amount <= _AMOUNT_MAX:
        raise FieldInvalid("amount", f"amount is {item.amount}; it must be 1 to {_AMOUNT_MAX}")
    asset = assets.get(item.asset)
    if asset is None:
        known = ", ".join(sorted(assets))
        raise FieldInvalid("asset", f"asset is {item.asset[:64]!r}; the book holds {known}")
    source = parse_pocket(item.from_pocket, asset, "from_pocket")
    target = parse_pocket(item.to_pocket, asset, "to_pocket")
    if source.shard != target.shard or source == target:
        raise FieldInvalid(
            "to_pocket",
            f"to_pocket is in shard {target.shard} and from_pocket in {source.shard}; a transfer "
            "moves between two pockets of one shard",
        )
    content = f"{item.from_pocket}\0{item.to_pocket}\0{item.asset}\0{item.amount}".encode()
    key = blake2b(item.cause.encode(), digest_size=16).digest()
    body = int.from_bytes(blake2b(content, digest_size=8).digest(), "big", signed=True)
    return Post(item.cause, key, body, source, target, item.amount, today)


def write_outcome(answer: Posted | Refusal) -> pb.PostTransfersResponse.Outcome:
    """What became of one transfer."""
    if isinstance(answer, Refusal):
        return pb.PostTransfersResponse.Outcome(refusal=to_status(answer))
    return pb.PostTransfersResponse.Outcome(
        transfer=f"transfers/{answer.shard}-{answer.position}", repeated_cause=answer.repeated
    )


def write_transfer(transfer: Transfer, classes: Mapping[int, sa.RowMapping]) -> pb.Transfer:
    """A transfer as the contract shows it."""
    cause = transfer.cause or f"runs/{transfer.shard}-{transfer.first}-{transfer.last}"
    message = pb.Transfer(
        name=f"transfers/{transfer.shard}-{transfer.position}",
        kind=pb.Kind.ValueType(transfer.kind),
        from_pocket=_pocket_name(transfer.shard, transfer.from_account, transfer.from_kind),
        to_pocket=_pocket_name(transfer.shard, transfer.to_account, transfer.to_kind),
        asset=transfer.asset,
        amount=transfer.amount,
        civil_date=write_day(transfer.civil_day),
        leaf_count=transfer.leaf_count,
        leaf_digest=transfer.leaf_digest,
        cause=cause,
    )
    message.post_time.FromDatetime(transfer.post_time)
    row = classes.get(transfer.asset_class)
    if row is not None:
        message.asset_class.CopyFrom(_write_class(row))
    return message


def _write_class(row: sa.RowMapping) -> calculation_pb.AssetClass:
    return calculation_pb.AssetClass(
        code=row["code"],
        asset=row["asset_name"],
        methodology_version=row["methodology_version"],
        methodology_digest=row["methodology_digest"],
        programme=row["programme"],
        scene_approval=row["scene_approval"],
        region_code=row["region_code"],
        gas_scope=row["gas_scope"],
        vintage_month=row["vintage_month"],
    )


def write_day(day: int) -> date_pb2.Date:
    """A civil day as a date."""
    value = day_to_date(day)
    return date_pb2.Date(year=value.year, month=value.month, day=value.day)


def read_balance_name(name: str) -> int:
    """The account number of accounts/{account}/balance."""
    if not name.endswith("/balance"):
        raise FieldInvalid(
            "name", f"name is {name[:64]!r}; it must be accounts/{{account}}/balance"
        )
    return account_id_of(name.removesuffix("/balance"))


def _pocket_name(shard: int, account_id: int, kind: int) -> str:
    return Pocket(shard, account_id, PocketKind(kind), 0).name
