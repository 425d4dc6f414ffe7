"""One PostgreSQL and one process per service, kept alive until the supervisor ends.

Children end with the supervisor, even when it is killed; a child that dies is started anew
after a moment. Everything is started from the main thread, because a child's death signal is
tied to the thread that forked it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.launch.layout import CHECKOUT, SERVICES, Layout
from shared.child import command
from shared.rpc.server import check_port
from shared.rpc.tokens import load_or_make_key
from shared.settings import StartRefused
from shared.storage.embedded import EmbeddedPostgres, default_home

START_S = 60
RESTART_S = 0.5
STOP_S = 20


class StartFailed(StartRefused):
    """A service does not start; the text is what it said."""


class Supervisor:
    """The running suite of one checkout."""

    def __init__(
        self,
        layout: Layout,
        *,
        workers: int = 1,
        services: Sequence[str] = SERVICES,
        postgres_settings: Mapping[str, str] | None = None,
    ) -> None:
        self.layout = layout
        self.postgres: EmbeddedPostgres | None = None
        self._services = services
        self._workers = workers
        self._postgres_settings = postgres_settings
        self._children: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
        self._restart_at: dict[tuple[str, int], float] = {}

    def start(self) -> None:
        """Returns when every service reports itself healthy."""
        self._check_ports()
        load_or_make_key(self.layout.keys)
        self.layout.logs.mkdir(parents=True, exist_ok=True)
        if any(self.layout.database_url(service) is None for service in self._services):
            self._start_postgres()
        for service in self._services:
            for worker in range(self._workers):
                self._spawn(service, worker)
        for service in self._services:
            self._wait_healthy(service)

    def _check_ports(self) -> None:
        """Workers of one service share its port, so two services of one would answer each other's
        calls, and no system call would fail."""
        named: dict[str, str] = {}
        for service in self._services:
            address = self.layout.listen(service)
            if address in named:
                raise StartRefused(
                    f"CARBONACCOUNT_{named[address].upper()}_LISTEN and "
                    f"CARBONACCOUNT_{service.upper()}_LISTEN are both {address}; give each "
                    "service a port of its own"
                )
            named[address] = service
            check_port(address, shared=False)

    def watch(self) -> None:
        """Starts anew what has died; call it several times a second."""
        if self.postgres is not None and not self.postgres.running():
            self.postgres.start()
        for key, child in list(self._children.items()):
            if child.poll() is None:
                continue
            due = self._restart_at.setdefault(key, time.monotonic() + RESTART_S)
            if time.monotonic() >= due:
                del self._restart_at[key]
                self._spawn(*key)

    def stop(self) -> None:
        """Ends the services, callers first, each after its work under way; then PostgreSQL."""
        for service in reversed(self._services):
            ending = [child for (name, _), child in self._children.items() if name == service]
            for child in ending:
                if child.poll() is None:
                    child.terminate()
            for child in ending:
                try:
                    child.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        self._children.clear()
        if self.postgres is not None:
            self.postgres.stop()

    def pids(self) -> dict[str, int]:
        """Process ids by service, for tests and operators."""
        return {f"{name}-{worker}": c.pid for (name, worker), c in self._children.items()}

    def _start_postgres(self) -> None:
        home = default_home(CHECKOUT, self.layout.environment)
        self.postgres = EmbeddedPostgres(home, self._postgres_settings)
        self.postgres.start()
        link = self.layout.var / "postgres"
        if home != link and not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(home)
        for service in self._services:
            if self.layout.database_url(service) is None:
                self.postgres.create_database(service)

    def _spawn(self, service: str, worker: int) -> None:
        url = self.layout.database_url(service)
        if url is None:
            assert self.postgres is not None
            url = self.postgres.url(service)
        with (self.layout.logs / f"{service}.log").open("ab") as log:
            self._children[service, worker] = subprocess.Popen(
                command([sys.executable, "-m", f"services.{service}"], end_with=signal.SIGTERM),
                cwd=CHECKOUT,
                env=self.layout.service_environment(service, url),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C reaches the supervisor alone, which ends them in order
            )

    def _wait_healthy(self, service: str) -> None:
        deadline = time.monotonic() + START_S
        with grpc.insecure_channel(self.layout.listen(service)) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < deadline:
                child = self._children[service, 0]
                if child.poll() is not None:
                    raise StartFailed(f"{service} does not start: {self._last_words(service)}")
                try:
                    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
                except grpc.RpcError:
                    time.sleep(0.05)
                    continue
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
        raise StartFailed(f"{service} is not healthy after {START_S} s; see {self.layout.logs}")

    def _last_words(self, service: str) -> str:
        text = (self.layout.logs / f"{service}.log").read_text(errors="replace").strip()
        return text.splitlines()[-1][:500] if text else "it said nothing"
