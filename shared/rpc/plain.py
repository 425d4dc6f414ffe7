"""Health and reflection: open to everyone, with the same manners about bytes and stopping."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from shared.refusal import RetryLater
from shared.rpc.stopping import Stopping
from shared.rpc.wrapper import UNPARSABLE, parser

_BAD_BYTES = (grpc.StatusCode.INVALID_ARGUMENT, "the bytes are no message of this method")


def wrap_plain(handler: Any, stopping: Stopping) -> Any:
    """The handler, refusing bytes that do not parse, and ended when the server stops."""
    parse, serialize = parser(handler.request_deserializer), handler.response_serializer
    if handler.unary_unary:
        single = _single(handler.unary_unary)
        return grpc.unary_unary_rpc_method_handler(single, parse, serialize)
    if handler.unary_stream:
        written = _written(handler.unary_stream, stopping)
        return grpc.unary_stream_rpc_method_handler(written, parse, serialize)
    answered = _answered(handler.stream_stream, stopping)
    return grpc.stream_stream_rpc_method_handler(answered, parse, serialize)


def _single(behaviour: Any) -> Any:
    async def serve(request: Any, context: Any) -> Any:
        if request is UNPARSABLE:
            await context.abort(*_BAD_BYTES)
        return await behaviour(request, context)

    return serve


def _written(behaviour: Any, stopping: Stopping) -> Any:
    """Health's Watch, which writes to its context instead of yielding, and never ends."""

    async def serve(request: Any, context: Any) -> None:
        if request is UNPARSABLE:
            await context.abort(*_BAD_BYTES)
        try:
            with stopping.watch():
                await behaviour(request, context)
        except RetryLater as refusal:
            await context.abort(grpc.StatusCode.UNAVAILABLE, refusal.message)

    return serve


def _answered(behaviour: Any, stopping: Stopping) -> Any:
    async def checked(requests: Any, context: Any) -> AsyncIterator[Any]:
        async for request in stopping.until_begun(requests):
            if request is UNPARSABLE:
                await context.abort(*_BAD_BYTES)
            yield request

    async def serve(requests: Any, context: Any) -> AsyncIterator[Any]:
        async for response in behaviour(checked(requests, context), context):
            yield response

    return serve
