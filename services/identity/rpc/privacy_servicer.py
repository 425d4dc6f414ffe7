"""PrivacyService: reads, calls, writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

from carbonaccount.identity.v1 import privacy_service_pb2 as pb
from carbonaccount.identity.v1 import privacy_service_pb2_grpc as pb_grpc

from services.identity.domain.free_text import check_free_text
from services.identity.domain.operation import IDENTITY, LAGGING_AFTER, PARTS, Operation
from services.identity.domain.sealing import KeyDestroyed
from services.identity.rpc import messages
from services.identity.rpc import privacy_messages as own
from services.identity.rpc.desk import Desk
from services.identity.storage.access_log import note_access, read_page
from services.identity.storage.archive import Copy
from services.identity.storage.erasure import Eraser, RoomEraser
from services.identity.storage.households import HouseholdStore
from services.identity.storage.privacy import LEASE, Operations
from services.identity.storage.register import Register
from services.identity.storage.vault import Vault
from services.identity.usecases import privacy as use
from services.identity.usecases.acting import CUSTOMER, Request, read_for
from services.identity.usecases.erase_accounts import erase_account
from shared.feed.watch import Signal
from shared.ids import account_id_of, from_us
from shared.refusal import CallerNotAllowed, FieldInvalid, StateConflict
from shared.rpc.caller import caller

TASKS_PER_LOOK = 16
TASKS_HELD_MAX = 1_000
"""Tasks that one stream may have been told of and not have finished."""
_LOOK_S = 1.0  # what another worker of identity was asked waits so long at the most
_HEARTBEAT_US = 5_000_000
_RENEW_US = LEASE // timedelta(microseconds=3)  # three times in each lease
Result = TypeVar("Result")


class PrivacyServicer(pb_grpc.PrivacyServiceServicer):
    """Copies, erases, and shows who looked; hands out the parts of the other services.

    `tasks` wakes those who wait for tasks, in this process; `rooms` erase what each room keeps.
    """

    def __init__(
        self, desk: Desk, *, vault: Vault, rooms: Sequence[RoomEraser], tasks: Signal
    ) -> None:
        self._desk = desk
        self._vault = vault
        self._rooms = rooms
        self._tasks = tasks

    async def ExportAccountData(
        self, request: pb.ExportAccountDataRequest, context: Any
    ) -> pb.ExportAccountDataResponse:
        """Asks for a copy of everything."""
        desk, account_id = self._desk, account_id_of(request.name)
        asked = messages.read_request(request, "ExportAccountData", desk.secret)
        operation = await self._change(
            lambda register: use.ask_export(
                asked, account_id, register=register,
                operations=Operations(register.connection), clock=desk.clock,
            )
        )  # fmt: skip
        return pb.ExportAccountDataResponse(operation=own.write_operation(operation))

    async def EraseAccountData(
        self, request: pb.EraseAccountDataRequest, context: Any
    ) -> pb.EraseAccountDataResponse:
        """Destroys what identifies the holder of a closed account."""
        desk, account_id = self._desk, account_id_of(request.name)
        by_staff = caller().kind != CUSTOMER
        check_free_text("cause", request.cause, required=by_staff)
        asked = messages.read_request(request, "EraseAccountData", desk.secret)
        operation = await self._change(
            lambda register: erase_account(
                asked, account_id, request.cause, register=register,
                operations=Operations(register.connection),
                eraser=Eraser(register.connection, self._vault, self._rooms),
                households=HouseholdStore(register.connection), clock=desk.clock,
            )
        )  # fmt: skip
        return pb.EraseAccountDataResponse(operation=own.write_operation(operation))

    async def GetOperation(
        self, request: pb.GetOperationRequest, context: Any
    ) -> pb.GetOperationResponse:
        """How far one operation has come."""
        account_id, number = messages.read_numbered_name(request.name, "operations")
        operation = await self._desk.database.read(
            lambda c: use.read_operation(Operations(c), account_id, number)
        )
        return pb.GetOperationResponse(operation=own.write_operation(operation))

    async def ListOperations(
        self, request: pb.ListOperationsRequest, context: Any
    ) -> pb.ListOperationsResponse:
        """A page of an account's operations, newest first."""
        page, token = await self._desk.page(
            request,
            "ListOperations",
            lambda register, account_id, after, limit: Operations(register.connection).read_page(
                account_id, after[0] if after else None, limit
            ),
            lambda operation: (operation.number,),
        )
        return pb.ListOperationsResponse(
            operations=[own.write_operation(one) for one in page], next_page_token=token
        )

    async def ListLaggingTasks(
        self, request: pb.ListLaggingTasksRequest, context: Any
    ) -> pb.ListLaggingTasksResponse:
        """Parts that have waited for too long."""
        if request.waiting_seconds < 0:
            said = f"waiting_seconds is {request.waiting_seconds}; it must be 0 or more"
            raise FieldInvalid("waiting_seconds", said)
        waiting = timedelta(seconds=request.waiting_seconds) or LAGGING_AFTER
        before = from_us(self._desk.clock()) - waiting
        tasks = await self._desk.database.read(lambda c: Operations(c).lagging(before))
        return own.write_lagging(tasks)

    async def DownloadArchive(
        self, request: pb.DownloadArchiveRequest, context: Any
    ) -> AsyncIterator[pb.DownloadArchiveResponse]:
        """The archive, piece by piece; one that is deleted meanwhile ends with a refusal."""
        account_id, number = messages.read_numbered_name(request.name, "operations")
        asked = messages.read_reader("DownloadArchive")
        operation = await self._desk.database.call(
            lambda c: self._opened(self._desk.register(c), asked, account_id, number)
        )
        sent = piece = 0
        while sent < operation.archive_bytes:
            content = await self._read_piece(account_id, number, piece)
            if content is None:
                raise StateConflict(
                    f"{operation.name} was deleted in the middle; ask for a new export",
                    metadata={"resource": operation.name, "state": "expired", "wanted": "done"},
                )
            yield pb.DownloadArchiveResponse(content=content)
            piece, sent = piece + 1, sent + len(content)

    async def ListAccessLog(
        self, request: pb.ListAccessLogRequest, context: Any
    ) -> pb.ListAccessLogResponse:
        """A page of who looked, newest first."""
        page, token = await self._desk.page(
            request,
            "ListAccessLog",
            lambda register, account_id, after, limit: read_page(
                register.connection, account_id, after[0] if after else None, limit
            ),
            lambda access: (access.number,),
        )
        return pb.ListAccessLogResponse(accesses=own.write_accesses(page), next_page_token=token)

    async def WatchPrivacyTasks(
        self, request: pb.WatchPrivacyTasksRequest, context: Any
    ) -> AsyncIterator[pb.WatchPrivacyTasksResponse]:
        """The calling service's tasks; those of a stream that ended go to the next one."""
        service, owner, database = _service("WatchPrivacyTasks"), uuid4(), self._desk.database
        renewed_us = sent_us = held = 0
        try:
            while True:
                something_new = self._tasks.next()
                now_us = self._desk.clock()
                now = from_us(now_us)
                if not 0 <= now_us - renewed_us < _RENEW_US:
                    held = await database.call(lambda c: Operations(c).renew(service, owner, now))  # noqa: B023 - awaited here
                    renewed_us = now_us
                room = min(TASKS_PER_LOOK, TASKS_HELD_MAX - held)
                tasks = await database.call(
                    lambda c: Operations(c).claim(service, owner, now, room)  # noqa: B023 - awaited here
                )
                held += len(tasks)
                if tasks or not 0 <= now_us - sent_us < _HEARTBEAT_US:
                    yield own.write_tasks(tasks)
                    sent_us = now_us
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await something_new.wait()
        finally:
            await database.call(lambda c: Operations(c).release(service, owner))

    async def SendPrivacyFile(
        self, request: pb.SendPrivacyFileRequest, context: Any
    ) -> pb.SendPrivacyFileResponse:
        """Takes a piece of a file."""
        account_id, number = messages.read_numbered_name(request.name, "operations")
        service, piece = _service("SendPrivacyFile"), own.read_piece(request)
        await self._desk.database.call(
            lambda c: use.take_piece(
                account_id, number, service, piece,
                operations=Operations(c), copy=Copy(c, self._vault, account_id, number),
            )
        )  # fmt: skip
        return pb.SendPrivacyFileResponse()

    async def FinishPrivacyTask(
        self, request: pb.FinishPrivacyTaskRequest, context: Any
    ) -> pb.FinishPrivacyTaskResponse:
        """Notes a part as done."""
        account_id, number = messages.read_numbered_name(request.name, "operations")
        service = _service("FinishPrivacyTask")
        told, files = own.read_told(request), own.read_files(request)
        await self._desk.database.call(
            lambda c: use.finish_part(
                account_id, number, service, told, files, clock=self._desk.clock,
                operations=Operations(c), copy=Copy(c, self._vault, account_id, number),
            )
        )  # fmt: skip
        self._tasks.set()
        return pb.FinishPrivacyTaskResponse()

    async def _change(self, change: Callable[[Register], Result]) -> Result:
        result = await self._desk.change(change)
        self._tasks.set()
        return result

    def _opened(
        self, register: Register, asked: Request, account_id: int, number: int
    ) -> Operation:
        """The operation with its archive; a guardian's download is logged."""
        now = from_us(self._desk.clock())
        _, actor = read_for(asked, account_id, register=register, clock=self._desk.clock)
        operation = use.read_operation(Operations(register.connection), account_id, number)
        use.require_archive(operation, now)
        if actor != CUSTOMER:
            note_access(register.connection, account_id, now, actor, asked.method, "", ["archive"])
        return operation

    async def _read_piece(self, account_id: int, number: int, piece: int) -> bytes | None:
        try:
            return await self._desk.database.read(
                lambda c: Copy(c, self._vault, account_id, number).read_archive(piece)
            )
        except KeyDestroyed:
            return None


def _service(method: str) -> str:
    """The calling service, as the part that it does is called."""
    name = caller().name
    if name not in PARTS or name == IDENTITY:
        raise CallerNotAllowed(
            f"this token is of {name[:64]}, which has no part to do here",
            metadata={"caller": name, "method": method},
        )
    return name
