"""A service's worker, against a real identity: whatever breaks, the part is done as a whole."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.ids import account_id_of
from shared.privacy import Erased, File, Item, Kept, Table
from shared.privacy_worker import PrivacyWorker
from shared.rpc.tokens import load_or_make_key, make_token
from shared.storage.embedded import EmbeddedPostgres
from tests.identity.identity_house import served, settings_for
from tests.identity.privacy_world import (
    DONE,
    EXPIRED,
    OTHERS,
    RUNNING,
    Clock,
    Part,
    World,
    ask,
    download,
    erase,
    get,
    moment,
    opened,
    privacy_world,
    records,
    until,
)
from tests.suite import eventually

ACTIVITY = OTHERS[0]


@pytest.fixture(scope="module")
def world(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with privacy_world(postgres, tmp_path_factory.mktemp("keys")) as running:
        yield running


@pytest.fixture
def alone(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[World]:
    with privacy_world(postgres, tmp_path) as running:
        yield running


class Service:
    """A worker of a service on a loop of its own thread, which a test starts and stops."""

    def __init__(
        self,
        world: World,
        *,
        export: Callable[[int], Iterable[Item]] = lambda _account: [],
        erase: Callable[[int], Erased] = lambda _account: Erased(),
        name: str = ACTIVITY,
    ) -> None:
        self._settings = world.house.settings
        self._parts, self._name = (export, erase), name
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Service:
        self._thread.start()
        self._wait(self._start())
        return self

    def __exit__(self, *_exception: object) -> None:
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self) -> None:
        key = load_or_make_key(self._settings.keys_dir)
        export, erase = self._parts
        worker = PrivacyWorker(
            self._settings.listen,
            token=lambda: make_token(key, "service", self._name),
            export=export,
            erase=erase,
        )
        self._task = asyncio.create_task(worker.run())

    async def _stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})


def others_finish(world: World, name: str) -> None:
    for service in OTHERS[1:]:
        Part(world.house, service).finish(name)


def finished(world: World, name: str) -> Any:
    """The operation once every part is done; the worker's is the last."""
    others_finish(world, name)
    return until(world.house, name)


def trips(count: int) -> Table:
    return Table("trips", ("trip", "text"), ((n, f"trip {n} " + "碳" * 40) for n in range(count)))


def test_a_part_of_many_pieces_arrives_as_it_was_read(world: World) -> None:
    person = world.holder()
    with Service(world, export=lambda _: [trips(20_000), File("note.txt", b"hello")]):
        done = finished(world, ask(person).name)
    files = opened(download(person, done.name))
    assert [row["trip"] for row in records(files, "activity/trips")] == list(range(20_000))
    assert files["activity/note.txt"] == b"hello"
    (part,) = [part for part in done.parts if part.service == ACTIVITY]
    assert part.counts == {"trips": 20_000, "files": 1}


def test_an_erasure_is_done_and_says_what_is_kept(world: World) -> None:
    person, seen = world.holder(), []

    def forget(account_id: int) -> Erased:
        seen.append(account_id)
        until_time = world.clock.now.replace(microsecond=7)
        return Erased({"details": 3}, [Kept("a", "law", until_time), Kept("b", "others")])

    person.close()
    with Service(world, erase=forget):
        done = finished(world, erase(person).name)
    (part,) = [part for part in done.parts if part.service == ACTIVITY]
    assert part.counts == {"details": 3}
    assert [(kept.what, kept.HasField("until_time")) for kept in part.kept] == [
        ("a", True), ("b", False),
    ]  # fmt: skip
    assert moment(part.kept[0].until_time).microsecond == 7
    assert len(seen) == 1


def test_a_part_that_fails_is_done_again_and_the_later_attempt_wins_as_a_whole(
    world: World,
) -> None:
    person, attempts = world.holder(), 0

    def export(_account: int) -> Iterator[Item]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            yield trips(20_000)  # several pieces, of which none may be left
            yield File("only-in-the-first.txt", b"x")
            raise OSError("the disk is away")
        yield trips(3)

    with Service(world, export=export):
        done = finished(world, ask(person).name)
    files = opened(download(person, done.name))
    assert len(records(files, "activity/trips")) == 3
    assert "activity/only-in-the-first.txt" not in files
    assert attempts == 2


def test_a_bad_part_never_blocks_the_others(alone: World) -> None:
    bad, good = [alone.holder() for _ in range(5)], [alone.holder() for _ in range(5)]
    names = {person.account: ask(person).name for person in (*bad, *good)}
    failing = {account_id_of(person.account) for person in bad}

    def export(account_id: int) -> list[Item]:
        if account_id in failing:
            raise ValueError("planted-secret-4711")
        return []

    with Service(alone, export=export):
        for person in good:
            finished(alone, names[person.account])
        for person in bad:
            assert get(alone.house, names[person.account]).state == RUNNING
        failing.clear()  # what was wrong is mended, and no restart is needed
        for person in bad:
            finished(alone, names[person.account])


def test_nothing_personal_of_a_fault_is_logged(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    person, failed = world.holder(), threading.Event()

    def export(_account: int) -> list[Item]:
        failed.set()
        raise ValueError("planted-secret-4711")

    with Service(world, export=export):
        ask(person)
        assert failed.wait(5)
        time.sleep(0.2)
    said = "".join(capfd.readouterr())
    assert "privacy.task_failed" in said
    assert "planted-secret" not in said


def test_identity_may_go_away_in_the_middle_and_come_back(
    database_url: str, tmp_path: Path
) -> None:
    halfway, go_on = threading.Event(), threading.Event()
    settings = settings_for(database_url, tmp_path)

    def export(_account: int) -> Iterator[Item]:
        yield File("one.txt", b"1")
        halfway.set()
        assert go_on.wait(20)
        yield File("two.txt", b"2")

    with served(settings) as house:
        before = World(house, Clock())
        person = before.holder()
        name = ask(person).name
        worker = Service(before, export=export)
        worker.__enter__()
        assert halfway.wait(10)
    go_on.set()
    time.sleep(0.5)
    with served(settings) as house:
        done = finished(World(house, Clock()), name)
        files = opened(download(house.customer_like(person), done.name))
        worker.__exit__()
    assert (files["activity/one.txt"], files["activity/two.txt"]) == (b"1", b"2")


def test_what_is_erased_meanwhile_is_given_up(world: World) -> None:
    person, go_on, attempts = world.holder(), threading.Event(), list[int]()

    def export(account_id: int) -> Iterator[Item]:
        if account_id == account_id_of(person.account):
            attempts.append(account_id)
            assert go_on.wait(10)
            yield File("late.txt", b"x")

    with Service(world, export=export):
        copy = ask(person)
        eventually(lambda: bool(attempts))
        person.close()
        erasure = erase(person)
        go_on.set()
        finished(world, erasure.name)
        time.sleep(1)
    assert len(attempts) == 1
    assert get(world.house, copy.name).state == EXPIRED
    query = "select count(*) from privacy_piece where account_id = %s"
    assert world.house.sql(query, account_id_of(person.account)) == [(0,)]


def test_a_stop_waits_for_the_read_under_way_and_closes_what_was_opened(world: World) -> None:
    said: list[str] = []
    reading = threading.Event()

    def export(_account: int) -> Iterator[Item]:
        try:
            reading.set()
            time.sleep(0.5)
            said.append("read")
            yield File("a.txt", b"x" * 3_000_000)
            said.append("read on")
        finally:
            said.append("closed")

    person = world.holder()
    with Service(world, export=export):
        name = ask(person).name
        assert reading.wait(5)
    assert said == ["read", "closed"]
    assert get(world.house, name).state == RUNNING
    with Service(world):
        assert finished(world, name).state == DONE


def test_two_workers_of_a_service_share_what_waits(alone: World) -> None:
    names = [ask(alone.holder()).name for _ in range(30)]
    counts = [0, 0]

    def counting(place: int) -> Callable[[int], Iterable[Item]]:
        def export(_account: int) -> list[Item]:
            counts[place] += 1
            time.sleep(0.05)
            return []

        return export

    with Service(alone, export=counting(0)), Service(alone, export=counting(1)):
        for name in names:
            finished(alone, name)
    assert sum(counts) == 30, "no part was done twice"
    assert min(counts) > 0
