"""AccountService: reads, calls, writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as pb_grpc

from services.identity.domain.account import Account, Person
from services.identity.domain.free_text import check_free_text
from services.identity.rpc import messages
from services.identity.rpc.consent_messages import read_grants
from services.identity.rpc.desk import Desk
from services.identity.rpc.tickets import Tickets
from services.identity.rpc.times import read_moment
from services.identity.storage.access_log import note_access
from services.identity.storage.register import Register
from services.identity.storage.snapshots import read_snapshots
from services.identity.usecases import accounts as use
from services.identity.usecases.acting import CUSTOMER, Request, actor_of, read_or_refuse
from services.identity.usecases.wards import open_ward_account
from shared.feed.watch import check_against_heads, read_cursor_messages
from shared.ids import account_id_of, civil_day, from_us, to_us
from shared.refusal import CallerNotAllowed, ResourceNotFound
from shared.rpc.caller import caller

# Snapshots of one message: about 3 MB with ten scopes decided about, of the 8 MiB that travel.
SNAPSHOTS_MAX = 1_600
_PERSONAL = ["display_name", "region_code", "preferences"]
_LINK = ["customer_ref"]


class AccountServicer(pb_grpc.AccountServiceServicer):
    """Opens, shows, changes, ends and streams accounts."""

    def __init__(self, desk: Desk, *, tickets: Tickets, poll_ms: int, heartbeat_ms: int) -> None:
        self._desk = desk
        self._tickets = tickets
        self._wait_s = min(poll_ms, heartbeat_ms) / 1000
        # A look too early is sent, for the next one would be too late.
        self._quiet_us = max(0, heartbeat_ms - poll_ms) * 1000

    async def OpenAccount(
        self, request: pb.OpenAccountRequest, context: Any
    ) -> pb.OpenAccountResponse:
        """One tap: the account and its first consents, in one transaction."""
        desk, now_us, who = self._desk, self._desk.clock(), caller()
        if not who.customer_ref:
            raise CallerNotAllowed(
                "this token names no customer of the bank; an account is opened with one that does",
                metadata={"caller": who.kind, "method": "OpenAccount"},
            )
        asked = messages.read_request(request, "OpenAccount", desk.secret)
        new = messages.read_new_account(
            request.account, now_us, who.customer_kind, who.own_from_day
        )
        grants = read_grants(request.consents)
        keys = messages.customer_keys(desk.secret, who.customer_ref, who.person_ref)
        opened = await desk.change(
            lambda register: use.open_account(
                asked, new, keys, grants, register=register, scopes=desk.scopes
            )
        )
        consents, outcomes = messages.write_outcomes(opened, desk.by_code, from_us(now_us))
        return pb.OpenAccountResponse(
            account=messages.write_account(opened.account, civil_day(now_us)),
            consents=consents,
            outcomes=outcomes,
        )

    async def OpenWardAccount(
        self, request: pb.OpenWardAccountRequest, context: Any
    ) -> pb.OpenWardAccountResponse:
        """A child's account, by the guardian whom the bank names."""
        desk, now_us = self._desk, self._desk.clock()
        guardian_id = account_id_of(request.parent, "parent")
        asked = messages.read_request(request, "OpenWardAccount", desk.secret)

        def reopen(register: Register) -> use.Opened | None:
            known = use.opened_before(asked, register=register, clock=desk.clock)
            if known is not None:
                self._note_sight(asked, known.account, register)
            return known

        # A retry is answered as long as the guardian is one; the ticket was good for two minutes.
        opened = await desk.database.call(lambda c: reopen(desk.register(c)))
        if opened is None:
            opened = await self._open_ward(request, asked, guardian_id, now_us)
        consents, outcomes = messages.write_outcomes(opened, desk.by_code, from_us(now_us))
        return pb.OpenWardAccountResponse(
            account=messages.write_account(opened.account, civil_day(now_us)),
            consents=consents,
            outcomes=outcomes,
        )

    async def GetAccount(
        self, request: pb.GetAccountRequest, context: Any
    ) -> pb.GetAccountResponse:
        """One account, as it stands or as it stood."""
        account_id = account_id_of(request.name)
        as_of = read_moment(request, "read_time")
        account = await self._shown(account_id, "GetAccount", request.purpose, _PERSONAL, as_of)
        return pb.GetAccountResponse(account=self._written(account, as_of))

    async def LookUpAccount(
        self, request: pb.LookUpAccountRequest, context: Any
    ) -> pb.LookUpAccountResponse:
        """The account of a bank customer, for services and operators."""
        check_free_text("purpose", request.purpose)
        key = messages.customer_keys(self._desk.secret, request.customer_ref, "")[0]
        account_id = await self._desk.read(lambda register: register.customer_account(key))
        if account_id is None:
            raise ResourceNotFound("an account of that customer")
        fields = [*_LINK, *_PERSONAL]
        account = await self._shown(account_id, "LookUpAccount", request.purpose, fields, None)
        return pb.LookUpAccountResponse(account=self._written(account))

    async def UpdateAccount(
        self, request: pb.UpdateAccountRequest, context: Any
    ) -> pb.UpdateAccountResponse:
        """Changes what the mask names."""
        account_id = account_id_of(request.account.name, "account.name")
        asked = messages.read_request(request, "UpdateAccount", self._desk.secret)
        change = messages.read_change(request.account, request.update_mask.paths)

        def update(register: Register) -> Account:
            account = use.update_account(
                asked, account_id, change, request.account.etag, register=register,
                clock=self._desk.clock,
            )  # fmt: skip
            self._note_sight(asked, account, register)
            return account

        return pb.UpdateAccountResponse(account=self._written(await self._desk.change(update)))

    async def SuspendAccount(
        self, request: pb.SuspendAccountRequest, context: Any
    ) -> pb.SuspendAccountResponse:
        """Stops collection."""
        account_id, asked, cause = self._named(request, "SuspendAccount", cause_required=True)
        account = await self._desk.change(
            lambda register: use.suspend_account(
                asked, account_id, cause, register=register, clock=self._desk.clock
            )
        )
        return pb.SuspendAccountResponse(account=self._changed(account))

    async def ReinstateAccount(
        self, request: pb.ReinstateAccountRequest, context: Any
    ) -> pb.ReinstateAccountResponse:
        """Undoes a suspension."""
        account_id, asked, cause = self._named(request, "ReinstateAccount", cause_required=True)
        account = await self._desk.change(
            lambda register: use.reinstate_account(
                asked, account_id, cause, register=register, clock=self._desk.clock
            )
        )
        return pb.ReinstateAccountResponse(account=self._changed(account))

    async def CloseAccount(
        self, request: pb.CloseAccountRequest, context: Any
    ) -> pb.CloseAccountResponse:
        """Ends an account and every consent of it."""
        by_staff = caller().kind != CUSTOMER
        account_id, asked, cause = self._named(request, "CloseAccount", cause_required=by_staff)
        account = await self._desk.change(
            lambda register: use.close_account(
                asked, account_id, cause, register=register, clock=self._desk.clock,
                also_end=self._desk.ending(register).with_account,
            )
        )  # fmt: skip
        return pb.CloseAccountResponse(account=self._changed(account))

    async def ListAccountEvents(
        self, request: pb.ListAccountEventsRequest, context: Any
    ) -> pb.ListAccountEventsResponse:
        """A page of what happened, newest first; the holder's own words to the holder alone."""
        asked = messages.read_reader("ListAccountEvents")
        page, token = await self._desk.page(
            request,
            "ListAccountEvents",
            lambda register, account_id, after, limit: register.read_events(
                account_id,
                before=after[0] if after else None,
                limit=limit,
                words=asked.by == account_id,
            ),
            lambda event: (event.position,),
        )
        account_id = account_id_of(request.parent, "parent")
        return pb.ListAccountEventsResponse(
            events=[messages.write_event(account_id, event) for event in page],
            next_page_token=token,
        )

    async def WatchAccounts(
        self, request: pb.WatchAccountsRequest, context: Any
    ) -> AsyncIterator[pb.WatchAccountsResponse]:
        """Snapshots after the cursors; a heartbeat says up to when nothing is missing."""
        desk, cursors = self._desk, read_cursor_messages(request.cursors)
        by_code = desk.by_code
        await desk.reads.read(lambda c: check_against_heads(c, cursors))
        per_shard = SNAPSHOTS_MAX // len(cursors)
        complete_us = sent_us = 0
        while True:
            something_new = desk.signal.next()
            # Taken before the read: whatever committed earlier than this moment is in it.
            now_us = desk.clock()
            snapshots = await desk.reads.read(lambda c: read_snapshots(c, cursors, per_shard))
            counts = Counter(snapshot.shard for snapshot in snapshots)
            whole = max(counts.values(), default=0) < per_shard
            if whole:
                complete_us = max(complete_us, now_us)
            if snapshots or now_us - sent_us >= self._quiet_us or now_us < sent_us:
                moved = {s.shard: s.position for s in snapshots}
                cursors.update(moved)
                yield messages.write_watch(snapshots, moved, complete_us, by_code, now_us)
                sent_us = now_us
            if whole:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._wait_s):
                        await something_new.wait()

    async def _open_ward(
        self, request: pb.OpenWardAccountRequest, asked: Request, guardian_id: int, now_us: int
    ) -> use.Opened:
        desk = self._desk
        ticket = self._tickets.verify(request.bank_ticket, from_us(now_us))
        child = messages.read_new_account(
            request.account, now_us, ticket.customer_kind, ticket.own_from_day(civil_day(now_us))
        )
        grants = read_grants(request.consents)
        keys = messages.customer_keys(desk.secret, ticket.customer_ref, ticket.person_ref)
        guardian_key = None
        if ticket.guardian_ref:
            guardian_key = messages.customer_keys(desk.secret, ticket.guardian_ref, "")[0]

        def change(register: Register) -> use.Opened:
            self._tickets.use(register.connection, ticket, asked.key)
            return open_ward_account(
                asked, guardian_id, child, keys, guardian_key, grants,
                register=register, scopes=desk.scopes, clock=desk.clock,
            )  # fmt: skip

        return await desk.change(change)

    def _named(
        self, request: Any, method: str, *, cause_required: bool
    ) -> tuple[int, Request, str]:
        check_free_text("cause", request.cause, required=cause_required)
        asked = messages.read_request(request, method, self._desk.secret)
        return account_id_of(request.name), asked, request.cause

    async def _shown(
        self, account_id: int, method: str, purpose: str, fields: list[str], as_of: datetime | None
    ) -> Account:
        """The account; a read by anybody but the holder is logged before it is answered."""
        who, now = caller(), from_us(self._desk.clock())
        check_free_text("purpose", purpose, required=who.kind != CUSTOMER)
        if who.kind == CUSTOMER and account_id_of(who.account) == account_id:
            return await self._desk.read(lambda r: read_or_refuse(r, account_id, as_of=as_of))
        asked = messages.read_reader(method)

        def read(register: Register) -> Account:
            account = read_or_refuse(register, account_id, as_of=as_of)
            actor = actor_of(asked, account, now, register=register)
            note_access(register.connection, account_id, now, actor, method, purpose, fields)
            return account

        return await self._desk.database.call(lambda c: read(self._desk.register(c)))

    def _note_sight(self, asked: Request, account: Account, register: Register) -> None:
        """Logs that the answer of a change shows the person to somebody but the holder."""
        if asked.by != account.account_id:
            now = from_us(self._desk.clock())
            actor = actor_of(asked, account, now, register=register)
            note_access(
                register.connection, account.account_id, now, actor, asked.method, "", _PERSONAL
            )

    def _written(self, account: Account, as_of: datetime | None = None) -> Any:
        moment_us = self._desk.clock() if as_of is None else to_us(as_of)
        return messages.write_account(account, civil_day(moment_us))

    def _changed(self, account: Account) -> Any:
        """What ends an account is answered with: the holder alone sees the person."""
        who = caller()
        if who.kind != CUSTOMER or account_id_of(who.account) != account.account_id:
            kept = Person(own_from_day=account.person.own_from_day)  # whether it is guarded
            account = replace(account, person=kept)
        return self._written(account)
