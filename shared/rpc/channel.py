"""Channels to siblings: retries as the contract allows, a token on every call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pool

from shared.rpc.server import MESSAGE_MAX_BYTES

_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def open_channel(
    address: str, *, token: Callable[[], str] | None = None, services: Sequence[str] = ()
) -> grpc.aio.Channel:
    """A channel to `address`; `token()` is asked for each call.

    Methods of `services` that the contract calls idempotent or without side effects wait for
    the server and are retried while it is unavailable.
    """
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
            ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.service_config", json.dumps(service_config(services))),
        ],
        interceptors=_interceptors(token) if token else None,
    )


def service_config(services: Sequence[str]) -> dict[str, Any]:
    """gRPC's service config with the retry policy of `services`."""
    names = [
        {"service": service, "method": method.name}
        for service in services
        for method in descriptor_pool.Default().FindServiceByName(service).methods
        if method.GetOptions().idempotency_level in (1, 2)
    ]
    one = {"name": names, "retryPolicy": _RETRY, "waitForReady": True}
    return {"methodConfig": [one]} if names else {}


def _interceptors(token: Callable[[], str]) -> list[grpc.aio.ClientInterceptor]:
    """One interceptor for each shape of call; grpc.aio takes an object for one shape only."""

    async def with_token(continuation: Any, details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or ()), ("authorization", f"Bearer {token()}")]
        return await continuation(details._replace(metadata=grpc.aio.Metadata(*metadata)), request)

    class UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return await with_token(continuation, details, request)

    class UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(
            self, continuation: Any, details: Any, request: Any
        ) -> Any:
            return await with_token(continuation, details, request)

    class StreamStream(grpc.aio.StreamStreamClientInterceptor):
        async def intercept_stream_stream(
            self, continuation: Any, details: Any, request: Any
        ) -> Any:
            return await with_token(continuation, details, request)

    return [UnaryUnary(), UnaryStream(), StreamStream()]
