"""The rights of a data subject: a copy of everything, and the end of everything personal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.identity.domain.account import Event, Happened
from services.identity.domain.account import State as AccountState
from services.identity.domain.operation import (
    ARCHIVES_MAX,
    IDENTITY,
    PARTS,
    RECORDS_KEPT,
    Kind,
    Operation,
    Part,
    SentFile,
    State,
)
from services.identity.usecases.acting import (
    CUSTOMER,
    Register,
    Request,
    actor_of,
    claim,
    decider,
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


class Eraser(Protocol):
    """Ends what is personal in identity's own tables; see `storage.erasure.Eraser`."""

    def erase(self, account_id: int, now: datetime) -> dict[str, int]: ...
    def forget_requests(self, account_id: int) -> int: ...
    def reads_until(self, account_id: int) -> datetime | None: ...


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
    known = claim(request, account_id, register)
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


def erase_account(
    request: Request,
    account_id: int,
    cause: str,
    *,
    register: Register,
    operations: Operations,
    eraser: Eraser,
    clock: ClockUs,
) -> Operation:
    """The erasure of a closed account, of which identity's part is done.

    An erased account has one erasure for ever, and every later call is answered with it.
    STATE_CONFLICT unless closed, GUARDIAN_REQUIRED for a child.
    """
    claim(request, account_id, register)
    account, now = hold(account_id, register, clock)
    if account.state is AccountState.ERASED:
        eraser.forget_requests(account_id)  # this one, which is a digest of what a person sent
        return operations.of_kind(account_id, Kind.ERASURE, State.RUNNING, State.DONE)[0]
    actor = decider(request, account, now, register=register)
    if account.state is not AccountState.CLOSED:
        name, word = account_name(account_id), account.state.name.lower()
        raise StateConflict(
            f"{name} is {word}; only a closed account is erased, so close it first",
            metadata={"resource": name, "state": word, "wanted": "closed"},
        )
    counts = eraser.erase(account_id, now)
    kept = _kept_by_identity(now, eraser.reads_until(account_id))
    number = operations.next_number(account_id)
    parts = [
        Part(service, now, counts, kept) if service == IDENTITY else Part(service)
        for service in PARTS
    ]
    erasure = Operation(account_id, number, Kind.ERASURE, State.RUNNING, now, parts)
    operations.begin(erasure)
    register.set_state(account_id, AccountState.ERASED)
    told = cause if request.kind != CUSTOMER else ""  # the holder's own words go too
    register.note(account_id, [Happened(Event.ERASED, number, told)], actor, now)
    return erasure


def _kept_by_identity(now: datetime, reads_until: datetime | None) -> list[Kept]:
    """What is kept of an account that is erased `now`, all of it under its number only.

    `reads_until` is when the last read in the access log is forgotten; None without reads.
    """
    until = now + RECORDS_KEPT
    kept = [
        Kept(
            "decisions about consents with their notices, and the events of the account",
            "PIPL art. 55 and 56: records of processing are kept for three years at least",
            until,
        ),
        Kept(
            "memberships of households and the shares signed in them",
            "rights of the other members to what was shared out",
        ),
        Kept(
            "the account's number, kind and state, and this record",
            "the ledger names the account, and the erasure can be proved",
        ),
    ]
    if reads_until is not None:
        kept.append(
            Kept(
                "who read personal fields of the account, when and why",
                "PIPL art. 55 and 56: evidence of who looked",
                reads_until,
            )
        )
    return kept


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
