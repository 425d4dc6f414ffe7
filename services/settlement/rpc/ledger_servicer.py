"""LedgerService: reads, calls, writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from carbonaccount.settlement.v1 import ledger_service_pb2 as pb
from carbonaccount.settlement.v1 import ledger_service_pb2_grpc as pb_grpc
from carbonaccount.type.v1.cursor_pb2 import ShardCursor

from services.settlement.domain.statement import Transfer
from services.settlement.rpc import messages
from services.settlement.storage.reader import Reader
from services.settlement.usecases.post_transfers import Order, Posted
from shared.clock import ClockUs
from shared.feed.watch import Signal, read_cursor_messages, watch
from shared.gather import Gatherer
from shared.ids import account_id_of, civil_day, shard_of
from shared.refusal import CallerNotAllowed, FieldInvalid, Refusal
from shared.rpc.caller import caller
from shared.rpc.paging import PageTokens, page_size_of
from shared.storage.engine import Database

TRANSFERS_PER_SHARD = 500
REDUCTION = "reduction"


@dataclass(frozen=True)
class _Row:
    """A transfer as a feed row of its own."""

    transfer: Transfer
    count: int = 1

    @property
    def shard(self) -> int:
        return self.transfer.shard

    @property
    def position(self) -> int:
        return self.transfer.position


class LedgerServicer(pb_grpc.LedgerServiceServicer):
    """Shows the book, and posts what siblings ask for."""

    def __init__(
        self,
        *,
        database: Database,
        gatherer: Gatherer[Order, list[Posted | Refusal]],
        page_tokens: PageTokens,
        signal: Signal,
        clock: ClockUs,
        poll_ms: int,
    ) -> None:
        self._database = database
        self._gatherer = gatherer
        self._page_tokens = page_tokens
        self._signal = signal
        self._clock = clock
        self._poll_ms = poll_ms
        self._assets: dict[str, int] = {}

    async def GetBalance(
        self, request: pb.GetBalanceRequest, context: Any
    ) -> pb.GetBalanceResponse:
        """What one account holds; zero of everything when it never held anything."""
        account_id = messages.read_balance_name(request.name)
        holdings = await self._database.read(lambda c: Reader(c).holdings(account_id))
        free = {holding.asset: holding for holding in holdings}
        reductions = free.pop(REDUCTION, None)
        return pb.GetBalanceResponse(
            balance=pb.Balance(
                name=request.name,
                available_mg=reductions.balance if reductions else 0,
                forgiven_mg=reductions.forgiven if reductions else 0,
                points={asset: holding.balance for asset, holding in free.items()},
                version=sum(holding.version for holding in holdings),
            )
        )

    async def ListEntries(
        self, request: pb.ListEntriesRequest, context: Any
    ) -> pb.ListEntriesResponse:
        """A page of one account's statement, latest civil day first."""
        account_id = account_id_of(request.parent, "parent")
        size = page_size_of(request.page_size)
        opened = self._page_tokens.open(request.page_token, "ListEntries", request.parent)
        before = (opened[0], opened[1]) if opened else None
        page, classes = await self._database.read(
            lambda c: _with_classes(c, Reader(c).statement(account_id, size + 1, before))
        )
        token = ""
        if len(page) > size:
            page = page[:size]
            last = (page[-1].civil_day, page[-1].position)
            token = self._page_tokens.seal(last, "ListEntries", request.parent)
        entries = [
            pb.Entry(
                transfer=messages.write_transfer(transfer, classes),
                delta=transfer.amount if transfer.to_account == account_id else -transfer.amount,
            )
            for transfer in page
        ]
        return pb.ListEntriesResponse(entries=entries, next_page_token=token)

    async def PostTransfers(
        self, request: pb.PostTransfersRequest, context: Any
    ) -> pb.PostTransfersResponse:
        """Posts transfers; durable when this returns."""
        if any(item.asset not in self._assets for item in request.transfers):
            self._assets = await self._database.read(_read_assets)
        order = messages.read_order(request, self._assets, civil_day(self._clock()))
        answers = await self._gatherer.submit(order, weight=order.size)
        return pb.PostTransfersResponse(outcomes=map(messages.write_outcome, answers))

    async def WatchTransfers(
        self, request: pb.WatchTransfersRequest, context: Any
    ) -> AsyncIterator[pb.WatchTransfersResponse]:
        """Transfers after the cursors; a customer sees those of the own account only."""
        cursors = read_cursor_messages(request.cursors)
        account_id = account_id_of(request.account, "account") if request.account else 0
        if account_id and set(cursors) != {shard_of(account_id)}:
            raise FieldInvalid("cursors", f"cursors must name shard {shard_of(account_id)} alone")
        if caller().kind == "customer" and not account_id:
            raise CallerNotAllowed(
                "account is not set; a customer follows the own account",
                metadata={"caller": caller().name, "method": "WatchTransfers"},
            )
        async for rows in watch(
            self._database, cursors, read=_read_rows, signal=self._signal, poll_ms=self._poll_ms
        ):
            mine = [
                row.transfer
                for row in rows
                if not account_id
                or account_id in (row.transfer.from_account, row.transfer.to_account)
            ]
            classes = await self._database.read(lambda c: _with_classes(c, mine)[1])  # noqa: B023 - awaited here
            yield pb.WatchTransfersResponse(
                transfers=[messages.write_transfer(transfer, classes) for transfer in mine],
                cursors=[ShardCursor(shard=s, position=p) for s, p in sorted(cursors.items())],
            )

    async def GetAudit(self, request: pb.GetAuditRequest, context: Any) -> pb.GetAuditResponse:
        """What the standing auditor last found."""
        audits = await self._database.read(lambda c: Reader(c).audits())
        response = pb.GetAuditResponse(
            sums=[
                pb.GetAuditResponse.Sum(
                    asset=audit.asset,
                    pockets=audit.pockets,
                    difference=audit.difference,
                    issued=audit.issued,
                )
                for audit in audits
            ],
            halted=any(audit.pockets or audit.difference for audit in audits),
            transfer_count=sum(audit.transfer_count for audit in audits),
        )
        if audits:
            response.audit_time.FromDatetime(min(audit.audit_time for audit in audits))
        return response


def _read_rows(connection: sa.Connection, cursors: Mapping[int, int]) -> list[_Row]:
    return [_Row(transfer) for transfer in Reader(connection).feed(cursors, TRANSFERS_PER_SHARD)]


def _with_classes(
    connection: sa.Connection, transfers: list[Transfer]
) -> tuple[list[Transfer], dict[int, sa.RowMapping]]:
    codes = {transfer.asset_class for transfer in transfers} - {0}
    return transfers, Reader(connection).classes(sorted(codes)) if codes else {}


def _read_assets(connection: sa.Connection) -> dict[str, int]:
    return {
        name: code for code, name in connection.execute(sa.text("select code, name from asset"))
    }
