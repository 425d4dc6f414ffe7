"""One wrapper around every RPC: parse, admit, check, time, translate, log."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from shared.refusal import FieldInvalid
from shared.rpc.admission import Admission, check_owner, owned_field
from shared.rpc.contract import Policy, check_of, redacted
from shared.rpc.status import refusal_of, to_status

_log = structlog.get_logger()
Handler = Any  # grpc.RpcMethodHandler, which is generic in the stubs only


class _Unparsable:
    """Stands for bytes that are no message of the contract."""


_UNPARSABLE = _Unparsable()


class _Call:
    """One method with everything that is enforced around it."""

    def __init__(self, admission: Admission, method: MethodDescriptor, policy: Policy) -> None:
        self.policy = policy
        self._admission = admission
        self._check = check_of(method.input_type)
        self._owned = owned_field(method.input_type)

    def admit(self, context: Any) -> tuple[Any, str]:
        """Caller and request id; raises a refusal."""
        metadata = context.invocation_metadata() or ()
        who = self._admission.admit(self.policy, metadata, context.peer())
        request_id = next((v for k, v in metadata if k == "x-request-id"), "")[:64]
        return who, request_id or secrets.token_hex(8)

    def check(self, who: Any, request: Any) -> None:
        """Refuses a request that breaks a stated rule or is about somebody else."""
        if request is _UNPARSABLE:
            raise FieldInvalid("request", "the bytes are no message of this method; see its proto")
        self._check(request)
        if self._owned and who.kind == "customer":
            check_owner(who, self.policy, self._owned, request)


class Wrapper:
    """Wraps handlers; knows the watches that run, so that a stop can end them."""

    def __init__(self, admission: Admission, deadline_default_ms: int) -> None:
        self._admission = admission
        self._deadline_default_s = deadline_default_ms / 1000
        self._watches: set[asyncio.Task[Any]] = set()

    def wrap(self, handler: Handler, method: MethodDescriptor, policy: Policy) -> Handler:
        """The same handler with the contract enforced around it."""
        call = _Call(self._admission, method, policy)
        parse = _parser(handler.request_deserializer)
        serialize = handler.response_serializer
        if handler.response_streaming:
            behaviour = handler.stream_stream or handler.unary_stream
            streamed = self._stream(call, behaviour, handler.request_streaming)
            if handler.request_streaming:
                return grpc.stream_stream_rpc_method_handler(streamed, parse, serialize)
            return grpc.unary_stream_rpc_method_handler(streamed, parse, serialize)
        behaviour = handler.stream_unary or handler.unary_unary
        single = self._single(call, behaviour, handler.request_streaming)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(single, parse, serialize)
        return grpc.unary_unary_rpc_method_handler(single, parse, serialize)

    def end_watches(self) -> None:
        """Ends streams that only read; their followers go on elsewhere from their cursors."""
        for task in self._watches:
            task.cancel()

    def _single(self, call: _Call, behaviour: Any, request_streaming: bool) -> Any:
        async def serve(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started = time.perf_counter_ns()
            try:
                who, request_id = call.admit(context)
                if request_streaming:
                    request = _checked(call, who, request)
                else:
                    call.check(who, request)
                if context.time_remaining() is None:
                    async with asyncio.timeout(self._deadline_default_s):
                        response = await behaviour(request, context)
                else:
                    response = await behaviour(request, context)
            except Exception as error:
                return await _refuse(error, call, request, context, started)
            context.set_trailing_metadata((("x-request-id", request_id),))
            _log.debug(
                "rpc.ok",
                method=call.policy.method,
                caller=who.kind,
                duration_us=(time.perf_counter_ns() - started) // 1000,
                request_id=request_id,
            )
            return response

        return serve

    def _stream(self, call: _Call, behaviour: Any, request_streaming: bool) -> Any:
        async def serve(
            request: Any, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[Any]:
            started = time.perf_counter_ns()
            task = asyncio.current_task()
            assert task is not None
            if call.policy.reads_only:
                self._watches.add(task)
            try:
                who, _ = call.admit(context)
                if request_streaming:
                    request = _checked(call, who, request)
                else:
                    call.check(who, request)
                async for response in behaviour(request, context):
                    yield response
            except Exception as error:
                await _refuse(error, call, request, context, started)
            finally:
                self._watches.discard(task)

        return serve


async def _checked(call: _Call, who: Any, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        call.check(who, request)
        yield request


def _parser(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A parser that hands bad bytes on, so that they are refused with a reason."""

    def parse(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _UNPARSABLE

    return parse


async def _refuse(
    error: Exception,
    call: _Call,
    request: Any,
    context: grpc.aio.ServicerContext[Any, Any],
    started: int,
) -> None:
    """Ends the call with the status of `error`."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    refusal = refusal_of(error, call.policy.method)
    _log.info(
        "rpc.refused",
        method=call.policy.method,
        code=refusal.code.name,
        reason=refusal.reason,
        duration_us=(time.perf_counter_ns() - started) // 1000,
        request=redacted(request) if hasattr(request, "ListFields") else "",
    )
    await context.abort_with_status(rpc_status.to_status(to_status(refusal)))
