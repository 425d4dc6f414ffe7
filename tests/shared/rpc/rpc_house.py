"""A real server with tiny servicers of the real contract, and callers of every kind."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.activity.v1 import activity_service_pb2_grpc as activity_grpc
from carbonaccount.calculation.v1 import methodology_service_pb2_grpc as methodology_grpc
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as account_grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from shared.protogen import PROTOS
from shared.refusal import RetryLater
from shared.rpc.caller import Caller, caller
from shared.rpc.server import Server
from shared.rpc.status import reason_of
from shared.rpc.tokens import VERIFYING_FILE, TokenVerifier, load_or_make_key, make_token

# Typed stubs make these abstract; a servicer may leave methods to its generated base.
_AccountBase: Any = account_grpc.AccountServiceServicer
_ActivityBase: Any = activity_grpc.ActivityServiceServicer
OWN, LONGER = "accounts/0000000000abc", "accounts/0000000000abcd"


def contract_services() -> list[tuple[ServiceDescriptor, Any]]:
    """Every service of the contract and its generated gRPC module."""
    found = []
    for path in sorted(PROTOS.rglob("*_service.proto")):
        module = ".".join(path.relative_to(PROTOS).with_suffix("").parts)
        generated = importlib.import_module(f"{module}_pb2_grpc")
        messages = importlib.import_module(f"{module}_pb2")
        for service in messages.DESCRIPTOR.services_by_name.values():
            found.append((service, generated))
    return found


def contract_methods() -> list[MethodDescriptor]:
    return [method for service, _ in contract_services() for method in service.methods]


class Accounts(_AccountBase):
    """Answers what a test tells it to; remembers who called with what."""

    def __init__(self) -> None:
        self.seen: list[tuple[Caller, Any]] = []
        self.answer: Callable[[Any], Awaitable[Any]] | None = None
        self.watch_ended = False

    async def _served(self, request: Any, response: Any) -> Any:
        self.seen.append((caller(), request))
        return await self.answer(request) if self.answer else response

    async def OpenAccount(self, request: Any, context: Any) -> Any:
        return await self._served(request, account_pb.OpenAccountResponse())

    async def GetAccount(self, request: Any, context: Any) -> Any:
        return await self._served(request, account_pb.GetAccountResponse())

    async def LookUpAccount(self, request: Any, context: Any) -> Any:
        return await self._served(request, account_pb.LookUpAccountResponse())

    async def WatchAccounts(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.seen.append((caller(), request))
        try:
            for _ in range(10_000):
                if self.answer:
                    await self.answer(request)
                yield account_pb.WatchAccountsResponse()
                await asyncio.sleep(0.01)
        finally:
            self.watch_ended = True


class Activities(_ActivityBase):
    """A lane that acknowledges whatever comes."""

    async def RecordActivity(self, request: Any, context: Any) -> Any:
        return activity_pb.RecordActivityResponse()

    async def IngestActivities(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield activity_pb.IngestActivitiesResponse(
                ack=activity_pb.IngestActivitiesResponse.Ack(next_offset=request.append.offset)
            )


class House:
    """A running server and its callers."""

    def __init__(self, keys: Path, **options: Any) -> None:
        self.key = load_or_make_key(keys)
        verifier = TokenVerifier(keys / VERIFYING_FILE)
        self.server = Server("127.0.0.1:0", verifier=verifier, **options)
        self.accounts, self.activities = Accounts(), Activities()
        self.channel: grpc.aio.Channel

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    @property
    def account_stub(self) -> Any:
        return account_grpc.AccountServiceStub(self.channel)

    @property
    def activity_stub(self) -> Any:
        return activity_grpc.ActivityServiceStub(self.channel)

    @property
    def methodology_stub(self) -> Any:
        return methodology_grpc.MethodologyServiceStub(self.channel)

    def call(self, kind: str, name: str, account: str = "", **more: Any) -> dict[str, Any]:
        """Keyword arguments of a call by such a caller."""
        token = make_token(self.key, kind, name, account=account)
        metadata = [("authorization", f"Bearer {token}"), *more.pop("metadata", ())]
        return {"metadata": metadata, "timeout": 10, **more}

    @property
    def service(self) -> dict[str, Any]:
        return self.call("service", "services/activity")

    def customer(self, account: str = OWN) -> dict[str, Any]:
        return self.call("customer", "bank-app", account)

    def raw(self, method: str, shape: str = "unary_unary") -> Any:
        """A call of `method` that sends and receives bytes."""
        return getattr(self.channel, shape)(method)


@asynccontextmanager
async def house(keys: Path, **options: Any) -> AsyncIterator[House]:
    """A served house; stopped without mercy at the end."""
    one = House(keys, **{"grace_ms": 200, **options})
    one.server.add(account_grpc.add_AccountServiceServicer_to_server, one.accounts)
    one.server.add(activity_grpc.add_ActivityServiceServicer_to_server, one.activities)
    for service, generated in contract_services():
        if service.name not in ("AccountService", "ActivityService"):
            add = getattr(generated, f"add_{service.name}Servicer_to_server")
            one.server.add(add, getattr(generated, f"{service.name}Servicer")())
    await one.server.start()
    options_of_channel = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(one.address, options=options_of_channel) as one.channel:
        try:
            yield one
        finally:
            await one.server.stop()


async def refused(call: Any) -> tuple[grpc.StatusCode, str, status_pb2.Status | None]:
    """Code, reason and status of a call that must fail; drains a stream."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code(), reason_of(error), rpc_status.from_call(error)
    raise AssertionError("the call was not refused")


def details_of(status: status_pb2.Status | None, kind: type[Any]) -> Any:
    """The first detail of a kind."""
    assert status is not None
    for detail in status.details:
        found = kind()
        if detail.Unpack(found):
            return found
    raise AssertionError(f"no {kind.__name__} in the status")


def field_of(status: status_pb2.Status | None) -> str:
    return str(details_of(status, error_details_pb2.BadRequest).field_violations[0].field)


def retry_later() -> RetryLater:
    return RetryLater("the shelf is being moved; call again", cause="moving", retry_after_ms=1500)


def message_of(name: str) -> Any:
    return GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))


def lines_of(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if line.startswith("{"):
            yield json.loads(line)
