"""Deadlines, cancelled calls, starting and stopping."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.identity.v1 import account_service_pb2 as pb
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from rpc_house import House, details_of, house, refused
from test_rpc_errors import LOOK_UP, watch_request

from shared.rpc.server import PortInUse, Server, check_port
from shared.rpc.tokens import VERIFYING_FILE, TokenVerifier, load_or_make_key
from shared.settings import SettingsInvalid

C = grpc.StatusCode


def sleeping(seconds: float, log: list[str]) -> Any:
    async def answer(_: Any) -> pb.LookUpAccountResponse:
        log.append("begun")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        log.append("done")
        return pb.LookUpAccountResponse()

    return answer


async def until(true: Any) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


def test_a_call_without_a_deadline_gets_the_default_one(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, deadline_default_ms=100) as h:
            log: list[str] = []
            h.accounts.answer = sleeping(5, log)
            call = h.account_stub.LookUpAccount(LOOK_UP, **{**h.service, "timeout": None})
            code, reason, status = await refused(call)
            assert (code, reason) == (C.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
            info = details_of(status, error_details_pb2.ErrorInfo)
            assert info.metadata["method"].endswith("/LookUpAccount")
            assert log == ["begun", "cancelled"]
            h.accounts.answer = sleeping(0.01, log)
            await h.account_stub.LookUpAccount(LOOK_UP, **{**h.service, "timeout": None})

    asyncio.run(run())


def test_a_call_with_a_longer_deadline_than_the_default_keeps_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, deadline_default_ms=50) as h:
            h.accounts.answer = sleeping(0.2, [])
            await h.account_stub.LookUpAccount(LOOK_UP, **h.service)

    asyncio.run(run())


def test_a_watch_outlives_the_default_deadline(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, deadline_default_ms=50) as h:
            watch = h.account_stub.WatchAccounts(watch_request(), **{**h.service, "timeout": None})
            begun = time.monotonic()
            async for _ in watch:
                if time.monotonic() - begun > 0.2:
                    break
            watch.cancel()
            await until(lambda: h.accounts.watch_ended)

    asyncio.run(run())


@pytest.mark.parametrize("how", ["deadline", "cancel"])
def test_work_ends_when_its_caller_has_gone(tmp_path: Path, how: str) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            log: list[str] = []
            h.accounts.answer = sleeping(5, log)
            timeout = 0.1 if how == "deadline" else 10
            call = h.account_stub.LookUpAccount(LOOK_UP, **{**h.service, "timeout": timeout})
            await until(lambda: log)
            if how == "cancel":
                call.cancel()
            await until(lambda: log == ["begun", "cancelled"])
            h.accounts.answer = None
            await h.account_stub.LookUpAccount(LOOK_UP, **h.service)

    asyncio.run(run())


@pytest.mark.parametrize("given", ["trace-7", ""])
def test_a_request_id_goes_back_with_answers_and_refusals(tmp_path: Path, given: str) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            sent = [("x-request-id", given)] if given else []
            with_id = h.call("service", "services/activity", metadata=sent)
            call = h.account_stub.LookUpAccount(LOOK_UP, **with_id)
            await call
            answered = dict(await call.trailing_metadata())["x-request-id"]
            call = h.account_stub.LookUpAccount(pb.LookUpAccountRequest(), **with_id)
            await refused(call)
            told = dict(await call.trailing_metadata())["x-request-id"]
            assert (answered == told == given) if given else (len(answered) == len(told) == 16)

    asyncio.run(run())


def test_a_stop_lets_the_call_under_way_finish_and_takes_no_new_one(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, grace_ms=5_000) as h:
            log: list[str] = []
            h.accounts.answer = sleeping(0.3, log)
            under_way = asyncio.ensure_future(h.account_stub.LookUpAccount(LOOK_UP, **h.service))
            await until(lambda: log)
            stop = asyncio.create_task(h.server.stop())
            await asyncio.sleep(0.1)
            late = h.account_stub.LookUpAccount(LOOK_UP, **h.service)
            assert (await refused(late))[0] == C.UNAVAILABLE
            await under_way
            await stop
            assert log == ["begun", "done"]

    asyncio.run(run())


def test_a_stop_waits_for_its_grace_and_not_longer(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, grace_ms=100) as h:
            log: list[str] = []
            h.accounts.answer = sleeping(30, log)
            under_way = h.account_stub.LookUpAccount(LOOK_UP, **h.service)
            await until(lambda: log)
            begun = time.monotonic()
            await h.server.stop()
            assert time.monotonic() - begun < 3
            assert (await refused(under_way))[0] in (C.UNAVAILABLE, C.CANCELLED)

    asyncio.run(run())


async def open_streams(h: House) -> tuple[Any, Any, Any]:
    """A watch, a lane with one acknowledged append, and a watch of health."""
    watch = h.account_stub.WatchAccounts(watch_request(), **h.service)
    await watch.read()
    lane = h.activity_stub.IngestActivities(**h.call("source", "sources/bike"))
    append = activity_pb.IngestActivitiesRequest()
    append.append.offset = 7
    append.append.activities.add()
    await lane.write(append)
    assert (await lane.read()).ack.next_offset == 7
    health = health_pb2_grpc.HealthStub(h.channel).Watch(
        health_pb2.HealthCheckRequest(), timeout=10
    )
    assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
    return watch, lane, health


async def drained(call: Any) -> Any:
    while await call.read() is not grpc.aio.EOF:
        pass


def test_a_stop_ends_idle_streams_at_once_with_retry_later(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path, grace_ms=20_000) as h:
            watch, lane, health = await open_streams(h)
            begun = time.monotonic()
            stop = asyncio.create_task(h.server.stop())
            assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            for call in (watch, lane):
                assert (await refused(drained(call)))[:2] == (C.UNAVAILABLE, "RETRY_LATER")
            assert (await refused(drained(health)))[0] == C.UNAVAILABLE
            await stop
            assert time.monotonic() - begun < 5
            assert h.accounts.watch_ended

    asyncio.run(run())


def test_health_knows_each_service_and_reflection_lists_them(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            stub = health_pb2_grpc.HealthStub(h.channel)
            for name in ("", "carbonaccount.identity.v1.AccountService"):
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            nobody = stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
            assert (await refused(nobody))[0] == C.NOT_FOUND
            mirror = reflection_pb2_grpc.ServerReflectionStub(h.channel)
            asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
            async for answer in mirror.ServerReflectionInfo(iter(asked), timeout=10):
                listed = {service.name for service in answer.list_services_response.service}
            assert {"carbonaccount.identity.v1.AccountService", "grpc.health.v1.Health"} <= listed

    asyncio.run(run())


def server_at(listen: str, keys: Path) -> Server:
    load_or_make_key(keys)
    return Server(listen, verifier=TokenVerifier(keys / VERIFYING_FILE), grace_ms=0)


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            listen = f"127.0.0.1:{other.getsockname()[1]}"
            with pytest.raises(PortInUse, match=r"stop what runs there or choose another"):
                await server_at(listen, tmp_path).start()
        server = server_at(listen, tmp_path)
        await server.start()
        await server.stop()

    asyncio.run(run())


def test_workers_share_a_port_and_the_first_starter_finds_what_an_earlier_run_left(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        first = server_at("127.0.0.1:0", tmp_path)
        await first.start()
        listen = f"127.0.0.1:{first.port}"
        second = server_at(listen, tmp_path)
        await second.start()
        with pytest.raises(PortInUse):
            check_port(listen, shared=False)
        await second.stop()
        await first.stop()
        check_port(listen, shared=False)

    asyncio.run(run())


def test_a_socket_file_is_listened_on_and_not_taken_from_a_living_server(tmp_path: Path) -> None:
    async def run() -> None:
        listen = f"unix:{tmp_path / 's'}"
        first = server_at(listen, tmp_path)
        await first.start()
        async with grpc.aio.insecure_channel(listen) as channel:
            await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=10
            )
        with pytest.raises(PortInUse):
            await server_at(listen, tmp_path).start()
        await first.stop()

    asyncio.run(run())


@pytest.mark.parametrize("listen", ["", "here", "127.0.0.1", "127.0.0.1:", ":1", "h:99999", "h:x"])
def test_what_is_no_address_is_a_wrong_setting(listen: str) -> None:
    with pytest.raises(SettingsInvalid, match="must be host:port"):
        check_port(listen)
