"""Channels to siblings: retries as the contract allows, a token and a deadline on every call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf import descriptor_pool

from shared.rpc.server import MESSAGE_MAX_BYTES

DEADLINE_DEFAULT_MS = 30_000
_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def open_channel(
    address: str,
    *,
    token: Callable[[], str] | None = None,
    services: Sequence[str] = (),
    deadline_default_ms: int = DEADLINE_DEFAULT_MS,
    wait_for_ready: bool = False,
) -> grpc.aio.Channel:
    """A channel to `address`; `token()` is asked for each call.

    Methods of `services` that the contract calls idempotent or without side effects wait for
    the server and are retried while it is unavailable. A call with one response gets the default
    deadline unless it names its own. With `wait_for_ready` every other
    call waits for the server too.
    """
    channel = grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
            ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
            # What does not fit into this buffer is sent once and never again.
            ("grpc.per_rpc_retry_buffer_size", 2 * MESSAGE_MAX_BYTES),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.service_config", json.dumps(service_config(services))),
        ],
    )
    return _Channel(channel, token, deadline_default_ms / 1000, wait_for_ready)


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


class _Channel(grpc.aio.Channel):
    """A channel whose calls carry a token and a deadline.

    A wrapper and no interceptor: grpc.aio wants one interceptor for each shape of call and
    runs each call through two more tasks; call credentials are refused without TLS.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        token: Callable[[], str] | None,
        deadline_s: float,
        wait_for_ready: bool,
    ) -> None:
        self._channel = channel
        self._token = token
        self._deadline_s = deadline_s
        self._wait_for_ready = wait_for_ready

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        return self._unary(self._channel.unary_unary(*args, **options), self._deadline_s)

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        return self._unary(self._channel.unary_stream(*args, **options), None)

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        return self._streaming(self._channel.stream_unary(*args, **options), self._deadline_s)

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        return self._streaming(self._channel.stream_stream(*args, **options), None)

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._channel.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    def _unary(self, start: Any, deadline_s: float | None) -> Any:
        def call(request: Any, **options: Any) -> Any:
            return start(request, **self._with_defaults(options, deadline_s))

        return call

    def _streaming(self, start: Any, deadline_s: float | None) -> Any:
        def call(requests: Any = None, **options: Any) -> Any:
            return start(requests, **self._with_defaults(options, deadline_s))

        return call

    def _with_defaults(self, options: dict[str, Any], deadline_s: float | None) -> dict[str, Any]:
        if options.get("timeout") is None:
            options["timeout"] = deadline_s
        if options.get("wait_for_ready") is None:
            options["wait_for_ready"] = self._wait_for_ready or None
        if self._token is not None:
            authorization = ("authorization", f"Bearer {self._token()}")
            options["metadata"] = (*(options.get("metadata") or ()), authorization)
        return options
