"""Channels: token, deadline, and retries of what may be repeated."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.activity.v1 import activity_service_pb2_grpc as activity_grpc
from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as account_grpc
from rpc_house import House, contract_methods, contract_services, house, refused, retry_later
from test_rpc_errors import LOOK_UP, watch_request
from test_rpc_life import server_at, sleeping

from shared.rpc.channel import open_channel, service_config
from shared.rpc.tokens import make_token

C = grpc.StatusCode
ACCOUNTS = "carbonaccount.identity.v1.AccountService"


def token_of(h: House, kind: str = "service", name: str = "services/activity") -> Any:
    return lambda: make_token(h.key, kind, name)


def test_a_channel_sends_its_token_with_calls_of_every_shape(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            async with open_channel(h.address, token=token_of(h)) as channel:
                await account_grpc.AccountServiceStub(channel).LookUpAccount(LOOK_UP)
                watch = account_grpc.AccountServiceStub(channel).WatchAccounts(watch_request())
                async for _ in watch:
                    break
                watch.cancel()
            assert [who.name for who, _ in h.accounts.seen] == ["services/activity"] * 2
            source = token_of(h, "source", "sources/bike")
            async with open_channel(h.address, token=source) as channel:
                append = activity_pb.IngestActivitiesRequest()
                append.append.activities.add()
                lane = activity_grpc.ActivityServiceStub(channel).IngestActivities(iter([append]))
                assert [answer.ack.next_offset async for answer in lane] == [0]
            async with open_channel(h.address) as channel:
                stub = account_grpc.AccountServiceStub(channel)
                assert (await refused(stub.LookUpAccount(LOOK_UP)))[1] == "TOKEN_INVALID"

    asyncio.run(run())


def test_a_call_gets_the_channel_s_deadline_unless_it_names_its_own(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            h.accounts.answer = sleeping(0.4, [])
            async with open_channel(
                h.address, token=token_of(h), deadline_default_ms=100
            ) as channel:
                stub = account_grpc.AccountServiceStub(channel)
                assert (await refused(stub.LookUpAccount(LOOK_UP)))[0] == C.DEADLINE_EXCEEDED
                await stub.LookUpAccount(LOOK_UP, timeout=10)

    asyncio.run(run())


def test_only_what_the_contract_calls_repeatable_is_retried() -> None:
    config = service_config([service.full_name for service, _ in contract_services()])
    retried = {f"{one['service']}.{one['method']}" for one in config["methodConfig"][0]["name"]}
    repeatable = {
        method.full_name
        for method in contract_methods()
        if method.GetOptions().idempotency_level != 0
    }
    assert retried == repeatable
    assert "carbonaccount.activity.v1.ActivityService.IngestActivities" not in retried
    assert service_config([]) == {}


def test_a_call_is_repeated_while_the_server_says_retry_later_and_the_contract_allows_it(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:

            async def busy_once(_: Any) -> pb.LookUpAccountResponse:
                if len(h.accounts.seen) < 2:
                    raise retry_later()
                return pb.LookUpAccountResponse()

            h.accounts.answer = busy_once
            async with open_channel(h.address, token=token_of(h)) as channel:
                stub = account_grpc.AccountServiceStub(channel)
                assert (await refused(stub.LookUpAccount(LOOK_UP)))[1] == "RETRY_LATER"
            h.accounts.seen.clear()
            async with open_channel(h.address, token=token_of(h), services=[ACCOUNTS]) as channel:
                await account_grpc.AccountServiceStub(channel).LookUpAccount(LOOK_UP)
            assert len(h.accounts.seen) == 2

    asyncio.run(run())


def test_a_call_waits_for_a_server_that_is_not_there_yet_only_when_asked_to(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        server = server_at("127.0.0.1:0", tmp_path)
        await server.start()
        await server.stop()
        address = f"127.0.0.1:{server.port}"
        async with open_channel(address) as channel:
            stub = account_grpc.AccountServiceStub(channel)
            assert (await refused(stub.LookUpAccount(LOOK_UP)))[0] == C.UNAVAILABLE
        async with open_channel(address, wait_for_ready=True) as channel:
            stub = account_grpc.AccountServiceStub(channel)
            waiting = asyncio.ensure_future(refused(stub.LookUpAccount(LOOK_UP)))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            later = server_at(address, tmp_path)
            await later.start()
            assert (await waiting)[0] == C.UNIMPLEMENTED  # the server is there, bare
            await later.stop()

    asyncio.run(run())
