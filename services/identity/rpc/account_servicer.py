"""AccountService: reads, calls, writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from hashlib import blake2b
from typing import Any, TypeVar

from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as pb_grpc
from carbonaccount.type.v1.cursor_pb2 import ShardCursor

from services.identity.domain.account import Account
from services.identity.domain.scopes import Scope
from services.identity.rpc import messages
from services.identity.storage.register import Register
from services.identity.usecases.accounts import close_account, open_account
from shared.clock import ClockUs
from shared.feed.watch import Signal, check_against_heads, read_cursor_messages
from shared.ids import account_id_of, from_us
from shared.refusal import FieldInvalid, ResourceNotFound
from shared.rpc.caller import caller
from shared.storage.engine import Database

SNAPSHOTS_PER_SHARD = 200
Result = TypeVar("Result")


class AccountServicer(pb_grpc.AccountServiceServicer):
    """Opens, shows, closes and streams accounts."""

    def __init__(
        self,
        *,
        database: Database,
        scopes: Mapping[str, Scope],
        secret: bytes,
        signal: Signal,
        clock: ClockUs,
        heartbeat_ms: int,
    ) -> None:
        self._database = database
        self._scopes = scopes
        self._by_code = {scope.code: scope for scope in scopes.values()}
        self._secret = secret
        self._signal = signal
        self._clock = clock
        self._heartbeat_ms = heartbeat_ms

    async def OpenAccount(
        self, request: pb.OpenAccountRequest, context: Any
    ) -> pb.OpenAccountResponse:
        """One tap: the account and its first consents, in one transaction."""
        now_us = self._clock()
        customer_ref = caller().customer_ref
        if not customer_ref:
            raise FieldInvalid(
                "authorization", "the token names no customer; it must, to open an account"
            )
        asked = messages.read_request(request, "OpenAccount", now_us)
        new = messages.read_new_account(request.account, now_us)
        grants = [messages.read_grant(grant) for grant in request.consents]
        key = self._customer_key(customer_ref)
        account, consents = await self._change(
            lambda register: open_account(
                asked, new, key, grants, register=register, scopes=self._scopes
            )
        )
        now = from_us(now_us)
        return pb.OpenAccountResponse(
            account=messages.write_account(account),
            consents=[messages.write_consent(c, self._by_code, now) for c in consents],
        )

    async def GetAccount(
        self, request: pb.GetAccountRequest, context: Any
    ) -> pb.GetAccountResponse:
        """One account."""
        account = await self._read(account_id_of(request.name), request.name)
        return pb.GetAccountResponse(account=messages.write_account(account))

    async def LookUpAccount(
        self, request: pb.LookUpAccountRequest, context: Any
    ) -> pb.LookUpAccountResponse:
        """The account of a bank customer, for services and operators."""
        key = self._customer_key(request.customer_ref)
        account_id = await self._database.call(lambda c: Register(c).customer_account(key))
        if account_id is None:
            raise ResourceNotFound("an account of that customer")
        account = await self._read(account_id, "accounts/-")
        return pb.LookUpAccountResponse(account=messages.write_account(account))

    async def CloseAccount(
        self, request: pb.CloseAccountRequest, context: Any
    ) -> pb.CloseAccountResponse:
        """Ends an account and every consent of it."""
        account_id = account_id_of(request.name)
        asked = messages.read_request(request, "CloseAccount", self._clock())
        account = await self._change(
            lambda register: close_account(asked, account_id, register=register)
        )
        return pb.CloseAccountResponse(account=messages.write_account(account))

    async def WatchAccounts(
        self, request: pb.WatchAccountsRequest, context: Any
    ) -> AsyncIterator[pb.WatchAccountsResponse]:
        """Snapshots after the cursors; a heartbeat says up to when nothing is missing."""
        cursors = read_cursor_messages(request.cursors)
        await self._database.call(lambda c: check_against_heads(c, cursors))
        while True:
            something_new = self._signal.next()
            # Taken before the read: whatever committed earlier than this moment is in it.
            now_us = self._clock()
            snapshots = await self._database.call(
                lambda c: Register(c).read_snapshots(cursors, SNAPSHOTS_PER_SHARD)
            )
            moved: dict[int, int] = {s.shard: s.position for s in snapshots}
            cursors.update(moved)
            response = pb.WatchAccountsResponse(
                snapshots=[
                    messages.write_snapshot(s, self._by_code, from_us(now_us)) for s in snapshots
                ],
                cursors=[ShardCursor(shard=s, position=p) for s, p in sorted(moved.items())],
            )
            if not snapshots:
                response.complete_time.CopyFrom(messages.write_time(from_us(now_us)))
            yield response
            if not snapshots:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._heartbeat_ms / 1000):
                        await something_new.wait()

    async def _read(self, account_id: int, name: str) -> Account:
        account = await self._database.call(lambda c: Register(c).read_account(account_id))
        if account is None:
            raise ResourceNotFound(name)
        return account

    async def _change(self, change: Callable[[Register], Result]) -> Result:
        result = await self._database.call(lambda c: change(Register(c)))
        self._signal.set()
        return result

    def _customer_key(self, customer_ref: str) -> bytes:
        return blake2b(customer_ref.encode(), key=self._secret[:64], digest_size=16).digest()
