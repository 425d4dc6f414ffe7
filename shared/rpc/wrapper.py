"""One wrapper around every RPC: parse, admit, check, time, translate, log.

One function a method, made at registration, instead of a stack of interceptors: a call
pays for each policy once and for no layers between them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from shared.refusal import FieldInvalid
from shared.rpc.admission import Admission, check_owner, owned_fields
from shared.rpc.contract import Policy, check_of
from shared.rpc.journal import Entry, Journal
from shared.rpc.status import refusal_of, to_status
from shared.rpc.stopping import Stopping, refusal

_REQUEST_ID_MAX = 64
Handler = Any  # grpc.RpcMethodHandler, which is generic in the stubs only
Context = Any  # grpc.aio.ServicerContext, likewise


class Unparsable:
    """Stands for bytes that are no message of the contract."""


UNPARSABLE = Unparsable()


class _Unimplemented(Exception):
    """The servicer leaves this method to its generated base class."""


class _Method:
    """One method with everything that is enforced around it."""

    def __init__(self, admission: Admission, method: MethodDescriptor, policy: Policy) -> None:
        self.policy = policy
        self._admission = admission
        self._check = check_of(method.input_type)
        # What is public is nobody's: a customer may read it with a token as well as without.
        self._owned = () if policy.is_public else owned_fields(method.input_type)

    def admit(self, context: Context, entry: Entry) -> None:
        """Learns caller and request id; raises a refusal. The id goes back in any case."""
        authorization = request_id = ""
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                authorization = value
            elif key == "x-request-id":
                request_id = value[:_REQUEST_ID_MAX]
        entry.request_id = request_id or f"{random.getrandbits(64):016x}"
        context.set_trailing_metadata((("x-request-id", entry.request_id),))
        # Before it is judged: the log names also those who are turned away.
        entry.caller = self._admission.identify(self.policy, authorization)
        self._admission.admit(self.policy, entry.caller, context.peer)

    def check(self, entry: Entry, request: Any) -> None:
        """Refuses a request that breaks a stated rule or is about somebody else."""
        if request is UNPARSABLE:
            raise FieldInvalid("request", "request is no message of this method; see its proto")
        self._check(request)
        if self._owned and entry.caller.kind == "customer":
            check_owner(entry.caller, self.policy, self._owned, request)


class Wrapper:
    """Wraps handlers of one server; needs a running loop."""

    def __init__(self, admission: Admission, deadline_default_ms: int) -> None:
        self._admission = admission
        self._deadline_default_s = deadline_default_ms / 1000
        self.journal = Journal()
        self.stopping = Stopping()

    def wrap(self, handler: Handler, method: MethodDescriptor, policy: Policy) -> Handler:
        """The same handler with the contract enforced around it."""
        enforced = _Method(self._admission, method, policy)
        parse = parser(handler.request_deserializer)
        behaviour = _behaviour_of(handler)
        if behaviour.__module__.endswith("_pb2_grpc"):
            behaviour = _unimplemented
        incoming, serialize = handler.request_streaming, handler.response_serializer
        # Responses are serialised inside the wrapper, so that one which cannot be is refused
        # like any other fault of ours and not with the library's UNKNOWN.
        if handler.response_streaming:
            streamed = self._stream(enforced, behaviour, serialize, incoming)
            if incoming:
                return grpc.stream_stream_rpc_method_handler(streamed, parse, None)
            return grpc.unary_stream_rpc_method_handler(streamed, parse, None)
        if incoming:
            gathered = self._gathered(enforced, behaviour, serialize)
            return grpc.stream_unary_rpc_method_handler(gathered, parse, None)
        single = self._single(enforced, behaviour, serialize)
        return grpc.unary_unary_rpc_method_handler(single, parse, None)

    def _single(self, method: _Method, behaviour: Any, serialize: Any) -> Any:
        name, journal, deadline_s = method.policy.method, self.journal, self._deadline_default_s

        async def serve(request: Any, context: Context) -> Any:
            entry = Entry(name)
            try:
                method.admit(context, entry)
                method.check(entry, request)
                if context.time_remaining() is None:
                    async with asyncio.timeout(deadline_s):
                        response = await behaviour(request, context)
                else:
                    response = await behaviour(request, context)
                data = serialize(response)
            except asyncio.CancelledError:
                journal.cancelled(entry, context)
                raise
            except Exception as error:
                await self._refuse(error, entry, request, context)
            else:
                journal.done(entry, request)
                return data

        return serve

    def _gathered(self, method: _Method, behaviour: Any, serialize: Any) -> Any:
        async def read(requests: Any, context: Context) -> Any:
            entry = Entry(method.policy.method)
            try:
                method.admit(context, entry)
                timeout = self._deadline_default_s if context.time_remaining() is None else None
                async with asyncio.timeout(timeout):
                    data = serialize(await behaviour(self._read(method, entry, requests), context))
                if self.stopping.begun and not entry.read_to_end:
                    raise refusal()
            except asyncio.CancelledError:
                self.journal.cancelled(entry, context)
                raise
            except Exception as error:
                await self._refuse(error, entry, None, context)
            else:
                self.journal.done(entry)
                return data

        return read

    def _stream(self, method: _Method, behaviour: Any, serialize: Any, incoming: bool) -> Any:
        reads_only = method.policy.reads_only and not incoming

        async def serve(request: Any, context: Context) -> AsyncIterator[Any]:
            entry = Entry(method.policy.method)
            life: AbstractContextManager[None] = nullcontext()
            if reads_only:
                life = self.stopping.watch()
            try:
                with life:
                    method.admit(context, entry)
                    if incoming:
                        request = self._read(method, entry, request)
                    else:
                        method.check(entry, request)
                    async with aclosing(behaviour(request, context)) as responses:
                        async for response in responses:
                            yield serialize(response)
                if incoming and self.stopping.begun and not entry.read_to_end:
                    raise refusal()
            except asyncio.CancelledError:
                self.journal.cancelled(entry, context)
                raise
            except Exception as error:
                await self._refuse(error, entry, None if incoming else request, context)
            else:
                self.journal.done(entry)

        return serve

    async def _read(self, method: _Method, entry: Entry, requests: Any) -> AsyncIterator[Any]:
        async for request in self.stopping.until_begun(requests):
            method.check(entry, request)
            yield request
        entry.read_to_end = not self.stopping.begun

    async def _refuse(self, error: Exception, entry: Entry, request: Any, context: Context) -> None:
        """Ends the call with the status of `error`."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if isinstance(error, _Unimplemented):
            self.journal.ended(entry, "UNIMPLEMENTED", "", None)
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not served here yet")
        told = refusal_of(error, entry.method, request, entry.request_id)
        shown = request if hasattr(request, "ListFields") else None
        self.journal.ended(entry, told.code.name, told.reason, shown)
        status: Any = rpc_status.to_status(to_status(told))
        trailing = (*status.trailing_metadata, ("x-request-id", entry.request_id))
        await context.abort(status.code, status.details, trailing)


def parser(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A parser that hands bad bytes on, so that they are refused with a reason."""

    def parse(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return UNPARSABLE

    return parse


def _behaviour_of(handler: Handler) -> Any:
    return (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )


def _unimplemented(_request: Any, _context: Context) -> Any:
    raise _Unimplemented
