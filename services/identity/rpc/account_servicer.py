"""AccountService: reads, calls, writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as pb_grpc

from services.identity.domain.account import Account
from services.identity.domain.digest import CUSTOMER, keyed_digest
from services.identity.domain.scopes import Scope
from services.identity.rpc import messages
from services.identity.storage.register import Register
from services.identity.usecases.accounts import close_account, open_account
from shared.clock import ClockUs
from shared.feed.watch import Signal, check_against_heads, read_cursor_messages
from shared.ids import account_id_of, from_us
from shared.refusal import CallerNotAllowed, ResourceNotFound
from shared.rpc.caller import caller
from shared.storage.engine import Database

# Snapshots of one message: about 3 MB with every scope consented to, of the 8 MiB that travel.
SNAPSHOTS_MAX = 3_200
Result = TypeVar("Result")


class AccountServicer(pb_grpc.AccountServiceServicer):
    """Opens, shows, closes and streams accounts."""

    def __init__(
        self,
        *,
        database: Database,
        reads: Database,
        scopes: Mapping[str, Scope],
        secret: bytes,
        signal: Signal,
        clock: ClockUs,
        poll_ms: int,
        heartbeat_ms: int,
    ) -> None:
        self._database = database
        # Watches read on threads of their own: a crowd of writers never delays a heartbeat.
        self._reads = reads
        self._scopes = scopes
        self._by_code = {scope.code: scope for scope in scopes.values()}
        self._secret = secret
        self._signal = signal
        self._clock = clock
        self._wait_s = min(poll_ms, heartbeat_ms) / 1000
        # A look too early is sent, for the next one would be too late.
        self._quiet_us = max(0, heartbeat_ms - poll_ms) * 1000

    async def OpenAccount(
        self, request: pb.OpenAccountRequest, context: Any
    ) -> pb.OpenAccountResponse:
        """One tap: the account and its first consents, in one transaction."""
        now_us = self._clock()
        who = caller()
        if not who.customer_ref:
            raise CallerNotAllowed(
                "this token names no customer of the bank; an account is opened with one that does",
                metadata={"caller": who.kind, "method": "OpenAccount"},
            )
        asked = messages.read_request(request, "OpenAccount", self._secret)
        new = messages.read_new_account(request.account, now_us)
        grants = [messages.read_grant(grant) for grant in request.consents]
        key = self._customer_key(who.customer_ref)
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
        account_id = await self._database.read(lambda c: Register(c).customer_account(key))
        if account_id is None:
            raise ResourceNotFound("an account of that customer")
        account = await self._read(account_id, "an account of that customer")
        return pb.LookUpAccountResponse(account=messages.write_account(account))

    async def CloseAccount(
        self, request: pb.CloseAccountRequest, context: Any
    ) -> pb.CloseAccountResponse:
        """Ends an account and every consent of it."""
        account_id = account_id_of(request.name)
        asked = messages.read_request(request, "CloseAccount", self._secret)
        account = await self._change(
            lambda register: close_account(asked, account_id, register=register, clock=self._clock)
        )
        return pb.CloseAccountResponse(account=messages.write_account(account))

    async def WatchAccounts(
        self, request: pb.WatchAccountsRequest, context: Any
    ) -> AsyncIterator[pb.WatchAccountsResponse]:
        """Snapshots after the cursors; a heartbeat says up to when nothing is missing."""
        cursors = read_cursor_messages(request.cursors)
        await self._reads.read(lambda c: check_against_heads(c, cursors))
        per_shard = SNAPSHOTS_MAX // len(cursors)
        complete_us = sent_us = 0
        while True:
            something_new = self._signal.next()
            # Taken before the read: whatever committed earlier than this moment is in it.
            now_us = self._clock()
            snapshots = await self._reads.read(
                lambda c: Register(c).read_snapshots(cursors, per_shard)
            )
            counts = Counter(snapshot.shard for snapshot in snapshots)
            whole = max(counts.values(), default=0) < per_shard
            if whole:
                complete_us = max(complete_us, now_us)
            if snapshots or now_us - sent_us >= self._quiet_us or now_us < sent_us:
                moved = {s.shard: s.position for s in snapshots}
                cursors.update(moved)
                yield messages.write_watch(snapshots, moved, complete_us, self._by_code, now_us)
                sent_us = now_us
            if whole:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._wait_s):
                        await something_new.wait()

    async def _read(self, account_id: int, name: str) -> Account:
        account = await self._database.read(lambda c: Register(c).read_account(account_id))
        if account is None:
            raise ResourceNotFound(name)
        return account

    async def _change(self, change: Callable[[Register], Result]) -> Result:
        result = await self._database.call(lambda c: change(Register(c)))
        self._signal.set()
        return result

    def _customer_key(self, customer_ref: str) -> bytes:
        return keyed_digest(self._secret, CUSTOMER, customer_ref)
