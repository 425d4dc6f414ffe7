"""Every end of a call is a status with a reason, and no log line says too much."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
import sqlalchemy as sa
from carbonaccount.errors.v1 import reason_pb2
from carbonaccount.identity.v1 import account_service_pb2 as pb
from google.rpc import error_details_pb2, status_pb2
from rpc_house import details_of, house, lines_of, refused, retry_later

from shared import refusal as refusals
from shared.log import configure_log
from shared.protogen import PROTOS
from shared.refusal import FieldInvalid, Refusal, ResourceNotFound, StateConflict
from shared.rpc.redaction import redacted, without_sensitive
from shared.rpc.status import DOMAIN, MESSAGE_MAX, Internal, reason_of, refusal_of, to_status

C = grpc.StatusCode
SECRET = "bank-ref-4711"
LOOK_UP = pb.LookUpAccountRequest(customer_ref=SECRET, purpose="a test")


def documented() -> dict[str, str]:
    """Each reason of the contract with the code that its comment opens with."""
    text = (PROTOS / "carbonaccount" / "errors" / "v1" / "reason.proto").read_text()
    found = {}
    for comment, name in re.findall(r"((?:  // [^\n]*\n)+)  REASON_(\w+) = \d+;", text):
        found[name] = comment.removeprefix("  // ").partition(".")[0]
    return found


def test_every_reason_has_one_refusal_with_the_documented_code() -> None:
    kinds = [Internal] + [
        kind
        for kind in vars(refusals).values()
        if isinstance(kind, type) and issubclass(kind, Refusal) and kind is not Refusal
    ]
    ours = {kind.reason: kind.code.name for kind in kinds}
    assert len(ours) == len(kinds)
    promised = documented()
    assert set(promised) == {name.removeprefix("REASON_") for name, _ in reason_pb2.Reason.items()}
    del promised["UNSPECIFIED"]  # never sent
    assert ours == promised


def test_a_refusal_says_reason_field_and_wait_in_this_order() -> None:
    refusal = FieldInvalid("name", "name is 'x'; it must be y")
    refusal.retry_after_ms = 1500
    status = to_status(refusal)
    assert [detail.TypeName().rpartition(".")[2] for detail in status.details] == [
        "ErrorInfo", "BadRequest", "RetryInfo",
    ]  # fmt: skip
    info = details_of(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain, dict(info.metadata)) == (
        "REASON_FIELD_INVALID", DOMAIN, {"field": "name"},
    )  # fmt: skip
    assert details_of(status, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 1500
    assert reason_of(status) == "FIELD_INVALID"


def test_a_refusal_without_field_and_wait_says_its_reason_alone() -> None:
    status = to_status(ResourceNotFound("accounts/x"))
    assert len(status.details) == 1
    assert reason_of(status) == "RESOURCE_NOT_FOUND"
    assert reason_of(status_pb2.Status(code=5)) == ""


@pytest.mark.parametrize("text", ["x" * 5_000_000, "低碳" * 3000, "half a pair \ud800 of it"])
def test_a_refusal_with_any_text_arrives(tmp_path: Path, text: str) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:

            async def refuse(_: Any) -> None:
                raise StateConflict(text, field="name", metadata={"name": text, "other": text})

            h.accounts.answer = refuse
            code, reason, status = await refused(h.account_stub.LookUpAccount(LOOK_UP, **h.service))
            assert (code, reason) == (C.FAILED_PRECONDITION, "STATE_CONFLICT")
            assert status is not None
            assert len(status.message) <= MESSAGE_MAX

    asyncio.run(run())


def test_a_servicer_s_refusal_reaches_the_caller_whole(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:

            async def refuse(_: Any) -> None:
                raise retry_later()

            h.accounts.answer = refuse
            for call in (
                h.account_stub.LookUpAccount(LOOK_UP, **h.service),
                h.account_stub.WatchAccounts(watch_request(), **h.service),
            ):
                code, reason, status = await refused(call)
                assert (code, reason) == (C.UNAVAILABLE, "RETRY_LATER")
                wait = details_of(status, error_details_pb2.RetryInfo)
                assert wait.retry_delay.ToMilliseconds() == 1500

    asyncio.run(run())


def watch_request() -> pb.WatchAccountsRequest:
    request = pb.WatchAccountsRequest()
    request.cursors.add(shard=1)
    return request


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (psycopg.OperationalError("server closed the connection"), "database away"),
        (psycopg.InterfaceError("the connection is closed"), "database away"),
        (psycopg.errors.DiskFull("could not extend file"), "disk full"),
        (sa.exc.OperationalError("insert", {}, psycopg.errors.DeadlockDetected()), "collision"),
        (sa.exc.TimeoutError("pool"), "database away"),
    ],
)
def test_a_database_that_is_away_is_worth_a_retry(error: Exception, cause: str) -> None:
    refusal = refusal_of(error, "/x/Y")
    assert (refusal.reason, refusal.metadata) == ("RETRY_LATER", {"cause": cause})
    assert refusal.retry_after_ms > 0


def test_a_fault_of_our_statement_is_not_worth_a_retry() -> None:
    assert refusal_of(sa.exc.DataError("insert", {}, Exception()), "/x/Y").reason == "INTERNAL"
    assert refusal_of(psycopg.errors.UniqueViolation(), "/x/Y").reason == "INTERNAL"


def test_a_refusal_in_a_group_of_failures_is_what_the_caller_is_told() -> None:
    group = ExceptionGroup("tasks", [ValueError("x"), ExceptionGroup("more", [retry_later()])])
    assert refusal_of(group, "/x/Y").reason == "RETRY_LATER"
    assert refusal_of(ExceptionGroup("tasks", [ValueError("x")]), "/x/Y").reason == "INTERNAL"


def served_with(keys: Path, answer: Any, level: str = "info", calls: int = 1) -> list[Any]:
    """How calls of LookUpAccount end whose servicer does `answer`."""

    async def run() -> list[Any]:
        configure_log("identity", level)
        async with house(keys) as h:
            h.accounts.answer = answer
            call = {**h.service, "metadata": [*h.service["metadata"], ("x-request-id", "trace-7")]}
            return [
                await refused(h.account_stub.LookUpAccount(LOOK_UP, **call)) for _ in range(calls)
            ]

    return asyncio.run(run())


async def stumble(request: Any) -> None:
    raise RuntimeError(f"cannot handle {request.customer_ref!r}")


async def stumble_in_sql(request: Any) -> None:
    raise sa.exc.IntegrityError("insert", {"ref": request.customer_ref}, Exception(SECRET))


@pytest.mark.parametrize("answer", [stumble, stumble_in_sql])
def test_an_unknown_exception_is_an_incident_and_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], answer: Any
) -> None:
    ((code, reason, status),) = served_with(tmp_path, answer)
    assert (code, reason) == (C.INTERNAL, "INTERNAL")
    incident = details_of(status, error_details_pb2.ErrorInfo).metadata["incident"]
    assert status.message == f"something went wrong here; quote incident {incident} to the operator"
    text = capfd.readouterr().err
    (line,) = [line for line in lines_of(text) if line["event"] == "rpc.incident"]
    assert line["incident"] == incident
    assert line["request_id"] == "trace-7"
    assert answer.__name__ in line["exception"]  # its frame in the traceback
    assert SECRET not in text


def test_a_call_is_one_line_without_payload(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def refuse(_: Any) -> None:
        raise ResourceNotFound("accounts/x")

    served_with(tmp_path, refuse, calls=2)
    text = capfd.readouterr().err
    lines = [line for line in lines_of(text) if line["event"] == "rpc.call"]
    assert len(lines) == 2
    assert lines[0].pop("duration_us") >= 0
    assert lines[0].pop("timestamp")
    assert lines[0] == {
        "event": "rpc.call", "level": "info", "service": "identity", "request_id": "trace-7",
        "method": "/carbonaccount.identity.v1.AccountService/LookUpAccount", "code": "NOT_FOUND",
        "reason": "RESOURCE_NOT_FOUND", "caller": "service", "caller_name": "services/activity",
    }  # fmt: skip
    assert SECRET not in text


def test_a_line_at_debug_shows_the_request_without_what_is_sensitive(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def refuse(_: Any) -> None:
        raise ResourceNotFound("accounts/x")

    served_with(tmp_path, refuse, level="debug")
    text = capfd.readouterr().err
    (line,) = [line for line in lines_of(text) if line["event"] == "rpc.call"]
    assert line["request"] == {"customer_ref": "[redacted]", "purpose": "[redacted]"}
    assert SECRET not in text


def test_no_line_is_written_for_a_call_at_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def refuse(_: Any) -> None:
        raise ResourceNotFound("accounts/x")

    served_with(tmp_path, refuse, level="warning")
    assert "rpc.call" not in capfd.readouterr().err


def test_sensitive_fields_are_hidden_at_any_depth_and_others_shown() -> None:
    request = pb.OpenAccountRequest(request_id="r-1")
    request.account.display_name, request.account.region_code = "王小明", "440300"
    assert redacted(request) == {
        "account": {"display_name": "[redacted]", "region_code": "[redacted]"}, "request_id": "r-1",
    }  # fmt: skip
    text = without_sensitive("the name 王小明 of r-1 in 440300", request)
    assert text == "the name [redacted] of r-1 in [redacted]"
    request.account.display_name = "a"
    assert without_sensitive("has a name 'a'", request) == "has [redacted] name '[redacted]'"
    request.account.display_name = "it's \n"
    assert "it's" not in without_sensitive(f"{request.account.display_name!r}", request)
