"""A gRPC server that enforces the contract before a servicer is reached.

Every RPC is wrapped once at registration: bytes that do not parse, callers that the contract
does not list, requests that break stated rules, other people's accounts, too many calls and
passed deadlines are refused here, and every exception leaves as a google.rpc.Status with a
Reason. Messages above 8 MiB never arrive: gRPC itself answers a bare RESOURCE_EXHAUSTED.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from shared.rpc.address import PortInUse, check_port, unusable
from shared.rpc.admission import Admission
from shared.rpc.contract import policy_of
from shared.rpc.plain import wrap_plain
from shared.rpc.tokens import TokenVerifier
from shared.rpc.wrapper import Wrapper

__all__ = ["MESSAGE_MAX_BYTES", "PortInUse", "Server", "check_port"]

MESSAGE_MAX_BYTES = 8 * 1024 * 1024
_HEALTH_WORD_S = 0.02  # for the word that we stop to reach those who watch our health
_HEALTH = "grpc.health.v1.Health"
_log = structlog.get_logger()

Register = Callable[[Any, Any], None]
"""A generated `add_...Servicer_to_server`."""
Handlers = Mapping[str, Any]


class _Collector:
    """Stands in for a server while generated code registers, and keeps what it registers.

    Generated code says each method twice, to `add_generic_rpc_handlers` and to
    `add_registered_method_handlers`; the second says it in a form that can be wrapped.
    """

    def __init__(self) -> None:
        self.services: dict[str, Handlers] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        pass

    def add_registered_method_handlers(self, service: str, handlers: Handlers) -> None:
        self.services[service] = handlers


class Server:
    """Servicers behind one address; several workers may share it. Needs a running loop.

    `listen` is "127.0.0.1:50051", "[::1]:50051" or "unix:/path"; port 0 picks a free one,
    which `port` then says.
    """

    def __init__(
        self,
        listen: str,
        *,
        verifier: TokenVerifier,
        deadline_default_ms: int = 30_000,
        grace_ms: int = 5_000,
        with_reflection: bool = True,
    ) -> None:
        self.port = 0
        self._listen = listen
        self._grace_ms = grace_ms
        self._with_reflection = with_reflection
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
                ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
                ("grpc.so_reuseport", 1),
                # A peer that vanished is noticed within 80 s, also while its watch is silent.
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ]
        )
        self._wrapper = Wrapper(Admission(verifier), deadline_default_ms)
        self._health = health.HealthServicer()
        self._names: list[str] = []

    def add(self, register: Register, servicer: Any) -> None:
        """Serves `servicer`; `register` is the generated function of its service.

        A method that the servicer leaves to its generated base is answered UNIMPLEMENTED.
        """
        for service, handlers in _collect(register, servicer).items():
            methods = descriptor_pool.Default().FindServiceByName(service).methods_by_name
            wrapped = {
                name: self._wrapper.wrap(handler, methods[name], policy_of(methods[name]))
                for name, handler in handlers.items()
            }
            self._register(service, wrapped)
            self._names.append(service)

    async def start(self) -> None:
        """Listens and reports itself healthy; raises PortInUse or SettingsInvalid."""
        self._add_plain(health_pb2_grpc.add_HealthServicer_to_server, self._health)
        if self._with_reflection:
            names = (*self._names, _HEALTH, reflection.SERVICE_NAME)
            servicer = reflection.aio.ReflectionServicer(names)
            self._add_plain(reflection_pb2_grpc.add_ServerReflectionServicer_to_server, servicer)
        try:
            self._listen_there()
        except BaseException:
            await self._server.stop(None)
            raise
        await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        _log.info("server.listening", listen=self._listen, port=self.port)

    async def run_until_signal(self) -> None:
        """Serves until SIGTERM or SIGINT, then stops."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await stopping.wait()
        await self.stop()

    async def stop(self) -> None:
        """Takes no new call, ends streams, lets calls under way finish within the grace.

        Watches and the reading of lanes end with RETRY_LATER; a lane's appends that were
        read are acknowledged first.
        """
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(_HEALTH_WORD_S)
        self._wrapper.stopping.begin()
        await self._server.stop(self._grace_ms / 1000)
        self._wrapper.journal.flush()
        _log.info("server.stopped", listen=self._listen)

    def _listen_there(self) -> None:
        check_port(self._listen, shared=True)
        try:
            self.port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:  # somebody was faster since the check
            raise unusable(self._listen, str(error)) from error

    def _add_plain(self, register: Register, servicer: Any) -> None:
        """Serves what is not of our contract and open to everyone."""
        for service, handlers in _collect(register, servicer).items():
            plain = {
                name: wrap_plain(handler, self._wrapper.stopping)
                for name, handler in handlers.items()
            }
            self._register(service, plain)

    def _register(self, service: str, handlers: dict[str, Any]) -> None:
        generic = grpc.method_handlers_generic_handler(service, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_registered_method_handlers(service, handlers)


def _collect(register: Register, servicer: Any) -> dict[str, Handlers]:
    collector = _Collector()
    register(servicer, collector)
    return collector.services
