"""The rights of a data subject: a copy of everything, and the end of everything personal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.identity.domain.account import Event, Happened
from services.identity.domain.account import State as AccountState
from services.identity.domain.operation import (
    ARCHIVES_MAX,
    PARTS,
    Kind,
    Operation,
    Part,
    SentFile,
    State,
)
from services.identity.usecases.acting import (
    Register,
    Request,
    actor_of,
    claim,
    hold,
)
from shared.clock import ClockUs
from shared.ids import account_name, from_us
from shared.privacy import Erased, Kept, Piece
from shared.refusal import (
    AccountNotOpen,
    FieldInvalid,
    LimitReached,
    ResourceNotFound,
    StateConflict,
)

PIECES_MAX = 1024
"""Pieces of one file: a gibibyte."""


class Operations(Protocol):
    """What these use cases need of storage; see `storage.privacy.Operations`."""

    def begin(self, operation: Operation) -> None: ...
    def next_number(self, account_id: int) -> int: ...
    def read(self, account_id: int, number: int, *, lock: bool = False) -> Operation | None: ...
    def read_page(self, account_id: int, before: int | None, limit: int) -> list[Operation]: ...
    def of_kind(self, account_id: int, kind: Kind, *states: State) -> list[Operation]: ...
    def finish_task(
        self,
        account_id: int,
        number: int,
        service: str,
        now: datetime,
        counts: Mapping[str, int],
        kept: Sequence[Kept],
    ) -> None: ...
    def complete(self, account_id: int, number: int, now: datetime) -> None: ...


class Copy(Protocol):
    """The files of one copy; see `storage.archive.Copy`."""

    def put(self, service: str, piece: Piece) -> None: ...
    def fault(self, service: str, files: Sequence[SentFile]) -> str: ...


def ask_export(
    request: Request,
    account_id: int,
    *,
    register: Register,
    operations: Operations,
    clock: ClockUs,
) -> Operation:
    """The copy, asked for; while one is under way it is that one.

    A child may ask for itself. ACCOUNT_NOT_OPEN once erased, LIMIT_REACHED while ARCHIVES_MAX
    archives of the account are kept.
    """
    known = claim(request, account_id, register, clock)
    account, now = hold(account_id, register, clock)
    if known is not None:
        return read_operation(operations, account_id, known)
    actor = actor_of(request, account, now, register=register)
    if account.state is AccountState.ERASED:
        name = account_name(account_id)
        raise AccountNotOpen(
            f"{name} is erased; nothing is left to copy",
            metadata={"account": name, "state": "erased"},
        )
    kept = operations.of_kind(account_id, Kind.EXPORT, State.RUNNING, State.DONE)
    for copy in kept:
        if copy.state is State.RUNNING:
            register.answer_request(request.key, copy.number)
            return copy
    if len(kept) >= ARCHIVES_MAX:
        raise LimitReached(
            f"{len(kept)} archives of the account are kept; download one of them, or ask again "
            "when the oldest has expired",
            metadata={"limit": "archives", "value": ARCHIVES_MAX},
        )
    number = operations.next_number(account_id)
    parts = [Part(service) for service in PARTS]
    copy = Operation(account_id, number, Kind.EXPORT, State.RUNNING, now, parts)
    operations.begin(copy)
    register.answer_request(request.key, number)
    register.note(account_id, [Happened(Event.EXPORT_ASKED, number)], actor, now)
    return copy


def take_piece(
    account_id: int, number: int, service: str, piece: Piece, *, operations: Operations, copy: Copy
) -> None:
    """Keeps a piece of a service's part; once the part is done nothing changes any more.

    RESOURCE_NOT_FOUND when the service has no such part, or no longer.
    """
    if not 0 <= piece.piece < PIECES_MAX:
        raise FieldInvalid("piece", f"piece is {piece.piece}; it must be 0 to {PIECES_MAX - 1}")
    operation, part = _part(operations, account_id, number, service)
    if operation.kind is not Kind.EXPORT:
        raise StateConflict(
            f"{operation.name} is an erasure and takes no files; erase, and finish the part",
            metadata={"resource": operation.name, "state": "erasure", "wanted": "export"},
        )
    if part.finish_time is None:
        copy.put(service, piece)


def finish_part(
    account_id: int,
    number: int,
    service: str,
    told: Erased,
    files: Sequence[SentFile],
    *,
    operations: Operations,
    copy: Copy,
    clock: ClockUs,
) -> None:
    """Notes a service's part as done, and the operation with the last one.

    Finishing again changes nothing. STATE_CONFLICT when a file is not whole.
    """
    operation, part = _part(operations, account_id, number, service)
    if part.finish_time is not None:
        return
    fault = copy.fault(service, files) if operation.kind is Kind.EXPORT else ""
    if fault:
        raise StateConflict(
            f"{fault}; send the whole part of {operation.name} again",
            metadata={"resource": operation.name, "state": "incomplete", "wanted": "whole"},
        )
    now = max(from_us(clock()), operation.create_time)
    operations.finish_task(account_id, number, service, now, told.counts, told.kept)
    operations.complete(account_id, number, now)


def require_archive(operation: Operation, now: datetime) -> None:
    """STATE_CONFLICT unless the operation has an archive that can be downloaded now."""
    state = operation.state.name.lower()
    if operation.kind is not Kind.EXPORT:
        state = "erasure"
    elif operation.expire_time is not None and operation.expire_time <= now:
        state = "expired"
    if state != "done":
        raise StateConflict(
            f"{operation.name} is {state} and has no archive; "
            + ("wait until it is done" if state == "running" else "ask for a new export"),
            metadata={"resource": operation.name, "state": state, "wanted": "done"},
        )


def read_operation(
    operations: Operations, account_id: int, number: int, *, lock: bool = False
) -> Operation:
    """One operation; RESOURCE_NOT_FOUND without it."""
    operation = operations.read(account_id, number, lock=lock)
    if operation is None:
        raise ResourceNotFound(f"{account_name(account_id)}/operations/{number}")
    return operation


def _part(
    operations: Operations, account_id: int, number: int, service: str
) -> tuple[Operation, Part]:
    """The operation, held, and the service's part of it."""
    operation = read_operation(operations, account_id, number, lock=True)
    for part in operation.parts:
        if part.service == service:
            return operation, part
    raise ResourceNotFound(operation.name, f"{service} has no part in it, or no longer")
