"""The one place where a refusal becomes a google.rpc.Status, and back."""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Iterator

import grpc
import psycopg
import sqlalchemy as sa
import structlog
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc_status import rpc_status

from shared.refusal import Code, DeadlineExceeded, Refusal, RetryLater
from shared.rpc.redaction import without_sensitive

DOMAIN = "carbonaccount"
# A status travels in trailing metadata, of which peers take 8 KiB; one Chinese character is
# nine bytes there in the message and four in the details.
MESSAGE_MAX = 300
_VALUE_MAX = 200
_log = structlog.get_logger()
_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, sa.exc.OperationalError,
         sa.exc.InterfaceError, sa.exc.TimeoutError)  # fmt: skip
_CAUSES = {"53100": "disk full", "40001": "collision", "40P01": "collision", "57014": "cancelled"}


class Internal(Refusal):
    """Our fault; the incident id is in our log beside the traceback."""

    code, reason = Code.INTERNAL, "INTERNAL"


def to_status(refusal: Refusal) -> status_pb2.Status:
    """The status of one refusal: ErrorInfo always, BadRequest for a field, RetryInfo to wait.

    Texts are cut to what the trailing metadata of a call can carry.
    """
    message = _clean(refusal.message, MESSAGE_MAX)
    status = status_pb2.Status(code=refusal.code.value, message=message)
    metadata = {key: _clean(value, _VALUE_MAX) for key, value in refusal.metadata.items()}
    status.details.add().Pack(
        details.ErrorInfo(reason=f"REASON_{refusal.reason}", domain=DOMAIN, metadata=metadata)
    )
    if refusal.field:
        violation = details.BadRequest.FieldViolation(
            field=_clean(refusal.field, _VALUE_MAX), description=message
        )
        status.details.add().Pack(details.BadRequest(field_violations=[violation]))
    if refusal.retry_after_ms:
        wait = Duration()
        wait.FromMilliseconds(refusal.retry_after_ms)
        status.details.add().Pack(details.RetryInfo(retry_delay=wait))
    return status


def _clean(text: str, longest: int) -> str:
    """`text` as protobuf takes it: no lone surrogates, not longer than `longest`."""
    if len(text) > longest:
        text = text[: longest - 3] + "..."
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def refusal_of(
    error: BaseException, method: str, request: object = None, request_id: str = ""
) -> Refusal:
    """What a caller is told of any exception; the unexpected is logged under an incident id.

    `request` is what was being served; none of its sensitive values reaches the log.
    """
    if isinstance(error, BaseExceptionGroup):
        return refusal_of(_first(error), method, request, request_id)
    if isinstance(error, Refusal):
        return error
    if isinstance(error, TimeoutError):
        return DeadlineExceeded(
            f"the deadline passed before {method} was done; a write may have happened, "
            "and repeating it is safe",
            metadata={"method": method},
        )
    if isinstance(error, _AWAY):
        return _database_away(error, method, request_id)
    if isinstance(error, grpc.RpcError) and _code_of(error) in _UPSTREAM_AWAY:
        _log.warning("rpc.upstream_away", method=method, request_id=request_id)
        return RetryLater(
            "a service behind this one does not answer; call again in a moment",
            cause="upstream away",
            retry_after_ms=500,
        )
    incident = secrets.token_hex(8)
    _log.error(
        "rpc.incident",
        incident=incident,
        method=method,
        request_id=request_id,
        exception=_account_of(error, request),
    )
    return Internal(
        f"something went wrong here; quote incident {incident} to the operator",
        metadata={"incident": incident},
    )


_UPSTREAM_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def _code_of(error: grpc.RpcError) -> grpc.StatusCode | None:
    code = getattr(error, "code", None)
    return code() if callable(code) else None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The refusal in a group of failures, else its first failure."""
    leaves = list(_leaves(group))
    return next((leaf for leaf in leaves if isinstance(leaf, Refusal)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _database_away(error: BaseException, method: str, request_id: str) -> RetryLater:
    """The error's own text stays out of the log, because it may hold rows and passwords."""
    state = _sqlstate(error)
    cause = _CAUSES.get(state, "database away")
    _log.warning(
        "rpc.database_away",
        method=method,
        request_id=request_id,
        error=type(error).__name__,
        sqlstate=state,
        cause=cause,
    )
    return RetryLater(
        "the database cannot do this now; call again in a moment", cause=cause, retry_after_ms=500
    )


def _sqlstate(error: BaseException) -> str:
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def _account_of(error: BaseException, request: object) -> str:
    """The traceback as a log may hold it.

    Database errors quote rows, also those of other calls of the same gathered write, and a
    stream's messages are gone: of these only the place and the kind are kept.
    """
    quotes_rows = any(
        isinstance(link, psycopg.Error | sa.exc.SQLAlchemyError) for link in _chain(error)
    )
    if isinstance(request, Message) and not quotes_rows:
        return without_sensitive("".join(traceback.format_exception(error)), request)
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"{frames}{type(error).__name__} {_sqlstate(error)}".rstrip()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from, as far as a traceback shows it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def reason_of(error: grpc.RpcError | status_pb2.Status) -> str:
    """The Reason, without its prefix, of a failed call or a refused item; "" without one."""
    status = error if isinstance(error, status_pb2.Status) else rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = details.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason).removeprefix("REASON_")
    return ""
