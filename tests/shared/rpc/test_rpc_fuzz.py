"""Whatever bytes arrive, no method of the contract answers INTERNAL or UNKNOWN."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rpc_house import House, contract_methods, house

from shared.rpc.contract import policy_of
from shared.rpc.status import reason_of

C = grpc.StatusCode
TAKEN = (C.OK, C.UNIMPLEMENTED)  # it reached the servicer, which the house may not have
REFUSED = {
    C.INVALID_ARGUMENT: "FIELD_INVALID",
    C.PERMISSION_DENIED: "CALLER_NOT_ALLOWED",
    C.RESOURCE_EXHAUSTED: "LIMIT_REACHED",
}
Result = TypeVar("Result")


class _Loop:
    """One house on one loop for all examples of a test."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._keys = tempfile.TemporaryDirectory()
        self._house = house(Path(self._keys.name))
        self.house: House = self.run(self._house.__aenter__())

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self._house.__aexit__(None, None, None))
        self._runner.close()
        self._keys.cleanup()


@pytest.fixture(scope="module")
def loop() -> Any:
    one = _Loop()
    yield one
    one.close()


async def ends(h: House, method: MethodDescriptor, data: bytes) -> tuple[grpc.StatusCode, str]:
    """How a call with these bytes by an allowed caller ends."""
    kind = sorted(policy_of(method).callers - {"public"} or {"service"})[0]
    path = f"/{method.containing_service.full_name}/{method.name}"
    shape = ("stream" if method.client_streaming else "unary") + (
        "_stream" if method.server_streaming else "_unary"
    )
    sent: Any = iter([data]) if method.client_streaming else data
    call = h.raw(path, shape)(sent, **h.call(kind, f"{kind}s/x"))
    try:
        if method.server_streaming:
            async for _ in call:
                call.cancel()
                return C.OK, ""
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code(), reason_of(error)
    return C.OK, ""


def check(loop: _Loop, data: bytes, methods: list[MethodDescriptor]) -> None:
    async def run() -> None:
        ended = await asyncio.gather(*(ends(loop.house, one, data) for one in methods))
        for method, (code, reason) in zip(methods, ended, strict=True):
            assert code in TAKEN or REFUSED.get(code) == reason, (method.full_name, code, reason)

    loop.run(run())


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=200))
def test_random_bytes_are_served_or_refused_with_a_reason(loop: _Loop, data: bytes) -> None:
    check(loop, data, contract_methods())


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), cut=st.integers(0, 200))
def test_messages_cut_or_flipped_anywhere_are_served_or_refused_with_a_reason(
    loop: _Loop, seed: int, cut: int
) -> None:
    chance = random.Random(seed)
    for method in contract_methods():
        message = GetMessageClass(method.input_type)()
        for field in method.input_type.fields:
            if field.type == field.TYPE_STRING and not field.is_repeated:
                setattr(message, field.name, "accounts/0000000000abc")
            elif field.message_type is not None and not field.is_repeated:
                getattr(message, field.name).SetInParent()
        data = bytearray(message.SerializeToString())
        if data:
            data[chance.randrange(len(data))] = chance.randrange(256)
        check(loop, bytes(data[: cut or None]), [method])
