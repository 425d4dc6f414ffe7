"""Between the contract's messages and operations; no rule is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from carbonaccount.identity.v1 import privacy_service_pb2 as pb

from services.identity.domain.operation import Operation, Part, SentFile, Task
from services.identity.rpc.times import read_moment, write_time
from services.identity.storage.access_log import Access
from shared.ids import account_name
from shared.privacy import FILE_NAME, FILE_NAME_RULE, Erased, Kept, Piece
from shared.refusal import FieldInvalid

_TEXT_MAX = 256
_DIGEST_BYTES = 32
_COUNT_MAX = 2**53


def read_piece(request: pb.SendPrivacyFileRequest) -> Piece:
    """A piece of a file."""
    return Piece(_read_file_name(request.file_name, "file_name"), request.piece, request.content)


def read_files(request: pb.FinishPrivacyTaskRequest) -> list[SentFile]:
    """The files of a part, each named once."""
    files = []
    for file in request.files:
        name = _read_file_name(file.file_name, "files")
        if file.pieces < 1:
            raise FieldInvalid("files", f"{name} has {file.pieces} pieces; it has one at least")
        if len(file.digest) != _DIGEST_BYTES:
            raise FieldInvalid(
                "files", f"the digest of {name} has {len(file.digest)} bytes; it must have 32"
            )
        files.append(SentFile(name, file.pieces, file.digest))
    if len({file.name for file in files}) < len(files):
        raise FieldInvalid("files", "files names a file twice; list each once")
    return files


def read_told(request: pb.FinishPrivacyTaskRequest) -> Erased:
    """What a service says of its part."""
    for name, count in request.counts.items():
        if not 0 <= count <= _COUNT_MAX or not 0 < len(name) <= _TEXT_MAX:
            raise FieldInvalid(
                "counts",
                f"counts[{name[:64]!r}] is {count}; a count is 0 or more, its name 1 to "
                f"{_TEXT_MAX} characters",
            )
    return Erased(dict(request.counts), [_read_kept(kept) for kept in request.kept])


def _read_kept(message: pb.Operation.Kept) -> Kept:
    for text in (message.what, message.why):
        if not 0 < len(text) <= _TEXT_MAX:
            raise FieldInvalid(
                "kept", f"what and why must each say something in at most {_TEXT_MAX} characters"
            )
    return Kept(message.what, message.why, read_moment(message, "until_time"))


def _read_file_name(name: str, field: str) -> str:
    if not FILE_NAME.fullmatch(name):
        raise FieldInvalid(field, f"{field} has {name[:64]!r}; a file is named by {FILE_NAME_RULE}")
    return name


def write_operation(operation: Operation) -> pb.Operation:
    """An operation as the contract shows it."""
    message = pb.Operation(
        name=operation.name,
        kind=pb.Operation.Kind.ValueType(operation.kind),
        state=pb.Operation.State.ValueType(operation.state),
        parts=[_write_part(part) for part in operation.parts],
        create_time=write_time(operation.create_time),
        archive_bytes=operation.archive_bytes,
        archive_digest=operation.archive_digest,
    )
    if operation.finish_time is not None:
        message.finish_time.CopyFrom(write_time(operation.finish_time))
    if operation.expire_time is not None:
        message.expire_time.CopyFrom(write_time(operation.expire_time))
    return message


def _write_part(part: Part) -> pb.Operation.Part:
    message = pb.Operation.Part(service=part.service, counts=dict(part.counts))
    if part.finish_time is not None:
        message.finish_time.CopyFrom(write_time(part.finish_time))
    for kept in part.kept:
        row = message.kept.add(what=kept.what, why=kept.why)
        if kept.until_time is not None:
            row.until_time.CopyFrom(write_time(kept.until_time.astimezone(UTC)))
    return message


def write_tasks(tasks: Sequence[Task]) -> pb.WatchPrivacyTasksResponse:
    """Tasks as a service is told of them; empty in a heartbeat."""
    return pb.WatchPrivacyTasksResponse(
        tasks=[
            pb.WatchPrivacyTasksResponse.PrivacyTask(
                operation=_name(task),
                kind=pb.Operation.Kind.ValueType(task.kind),
                account=account_name(task.account_id),
            )
            for task in tasks
        ]
    )


def write_lagging(tasks: Sequence[Task]) -> pb.ListLaggingTasksResponse:
    """Parts that wait, as the contract shows them."""
    return pb.ListLaggingTasksResponse(
        tasks=[
            pb.ListLaggingTasksResponse.LaggingTask(
                operation=_name(task),
                service=task.service,
                create_time=write_time(task.create_time),
            )
            for task in tasks
        ]
    )


def write_accesses(accesses: Sequence[Access]) -> list[Any]:
    """Reads as the contract shows them."""
    return [
        pb.ListAccessLogResponse.Access(
            access_time=write_time(access.access_time),
            actor=access.actor,
            method=access.method,
            purpose=access.purpose,
            fields=access.fields,
        )
        for access in accesses
    ]


def _name(task: Task) -> str:
    return f"{account_name(task.account_id)}/operations/{task.number}"
