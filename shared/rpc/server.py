"""A gRPC server that enforces the contract before a servicer is reached.

Every RPC is wrapped once at registration: bytes that do not parse, callers that the contract
does not list, requests that break stated rules, other people's accounts, too many calls and
passed deadlines are refused here, and every exception leaves as a google.rpc.Status with a
Reason. Messages above 8 MiB never arrive: gRPC itself answers a bare RESOURCE_EXHAUSTED.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from shared.rpc.admission import Admission
from shared.rpc.contract import policy_of
from shared.rpc.tokens import TokenVerifier
from shared.rpc.wrapper import Wrapper

MESSAGE_MAX_BYTES = 8 * 1024 * 1024
_log = structlog.get_logger()

Register = Callable[[Any, Any], None]
"""A generated `add_...Servicer_to_server`."""


class PortInUse(Exception):
    """Something else listens on the address."""


class _Collector:
    """Stands in for a server while generated code registers, and keeps what it registers."""

    def __init__(self) -> None:
        self.handlers: dict[str, Mapping[str, grpc.RpcMethodHandler[Any, Any]]] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Ignored: the registered methods below say the same in a form that can be wrapped."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        self.handlers[service] = handlers


class Server:
    """Servicers behind one address, e.g. "127.0.0.1:50051"; several workers may share it."""

    def __init__(
        self,
        listen: str,
        *,
        verifier: TokenVerifier,
        deadline_default_ms: int = 30_000,
        grace_ms: int = 5_000,
        with_reflection: bool = True,
    ) -> None:
        self._listen = listen
        self._grace_ms = grace_ms
        self._with_reflection = with_reflection
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
                ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
                ("grpc.so_reuseport", 1),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ]
        )
        self._wrapper = Wrapper(Admission(verifier), deadline_default_ms)
        self._health = health.HealthServicer()
        self._names: list[str] = []

    def add(self, register: Register, servicer: Any) -> None:
        """Serves `servicer`; `register` is the generated function of its service."""
        collector = _Collector()
        register(servicer, collector)
        for service, handlers in collector.handlers.items():
            methods = descriptor_pool.Default().FindServiceByName(service).methods_by_name
            wrapped = {
                name: self._wrapper.wrap(handler, methods[name], policy_of(methods[name]))
                for name, handler in handlers.items()
            }
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, wrapped),)
            )
            self._server.add_registered_method_handlers(service, wrapped)
            self._names.append(service)

    async def start(self) -> None:
        """Listens and reports itself healthy; raises PortInUse."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self._with_reflection:
            names = (*self._names, "grpc.health.v1.Health", reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        check_port(self._listen)
        self._server.add_insecure_port(self._listen)
        await self._server.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        _log.info("server.listening", listen=self._listen)

    async def run_until_signal(self) -> None:
        """Serves until SIGTERM or SIGINT, then stops."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await stopping.wait()
        await self.stop()

    async def stop(self) -> None:
        """Takes no new call, ends watches, lets calls under way finish within the grace."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._wrapper.end_watches()
        await self._server.stop(self._grace_ms / 1000)
        _log.info("server.stopped", listen=self._listen)

    async def _set_health(self, state: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", *self._names):
            await self._health.set(name, state)


def check_port(listen: str, *, shared: bool = True) -> None:
    """PortInUse when another program holds the address.

    Workers of one service share it by SO_REUSEPORT; with `shared` off, such a worker (of this
    suite or another checkout's) counts as another program too.
    """
    host, _, port = listen.rpartition(":")
    with suppress(ValueError), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise PortInUse(
                f"{listen} cannot be listened on ({error.strerror}); stop what runs there or "
                "choose another address in CARBONACCOUNT_<SERVICE>_LISTEN"
            ) from error
