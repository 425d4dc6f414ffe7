"""The one place where a refusal becomes a google.rpc.Status, and back."""

from __future__ import annotations

import secrets

import grpc
import psycopg
import sqlalchemy as sa
import structlog
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2
from grpc_status import rpc_status

from shared.refusal import Code, DeadlineExceeded, Refusal, RetryLater

DOMAIN = "carbonaccount"
_log = structlog.get_logger()
_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, sa.exc.OperationalError,
         sa.exc.InterfaceError, sa.exc.TimeoutError)  # fmt: skip


class Internal(Refusal):
    """Our fault; the incident id is in our log beside the traceback."""

    code, reason = Code.INTERNAL, "INTERNAL"


def to_status(refusal: Refusal) -> status_pb2.Status:
    """The status of one refusal: ErrorInfo always, BadRequest for a field, RetryInfo to wait."""
    status = status_pb2.Status(code=refusal.code.value, message=refusal.message)
    status.details.add().Pack(
        details.ErrorInfo(
            reason=f"REASON_{refusal.reason}", domain=DOMAIN, metadata=refusal.metadata
        )
    )
    if refusal.field:
        violation = details.BadRequest.FieldViolation(
            field=refusal.field, description=refusal.message
        )
        status.details.add().Pack(details.BadRequest(field_violations=[violation]))
    if refusal.retry_after_ms:
        wait = Duration()
        wait.FromMilliseconds(refusal.retry_after_ms)
        status.details.add().Pack(details.RetryInfo(retry_delay=wait))
    return status


def refusal_of(error: BaseException, method: str) -> Refusal:
    """What a caller is told of any exception; the unexpected is logged under an incident id."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, TimeoutError):
        return DeadlineExceeded(
            f"the deadline passed before {method} was done; a write may have happened, "
            "and repeating it is safe",
            metadata={"method": method},
        )
    if isinstance(error, _AWAY):
        return RetryLater(
            "the database does not answer; call again in a moment",
            cause="database away",
            retry_after_ms=500,
        )
    incident = secrets.token_hex(8)
    _log.error("rpc.incident", incident=incident, method=method, exc_info=error)
    return Internal(
        f"something went wrong here; quote incident {incident} to the operator",
        metadata={"incident": incident},
    )


def reason_of(error: grpc.RpcError | status_pb2.Status) -> str:
    """The Reason, without its prefix, of a failed call or a refused item; "" without one."""
    status = error if isinstance(error, status_pb2.Status) else rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = details.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason).removeprefix("REASON_")
    return ""
