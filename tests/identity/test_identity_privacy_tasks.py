"""Parts of copies and erasures as other services see them: told once, sent in pieces, finished."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from carbonaccount.identity.v1 import privacy_service_pb2 as pb

from services.identity.domain.account import Event, Happened
from services.identity.domain.operation import PARTS, Kind, Operation, Part, State
from services.identity.storage.privacy import Operations
from services.identity.storage.register import Register
from services.identity.storage.vault import Vault
from services.identity.upstream.key_management import FileKeyManagement
from shared.ids import account_id_of
from shared.privacy import PIECE_BYTES_MAX
from shared.storage.embedded import EmbeddedPostgres
from shared.storage.engine import Database
from tests.identity.identity_house import refused
from tests.identity.privacy_world import (
    DONE,
    ERASURE,
    EXPORT,
    IDENTITY,
    OTHERS,
    RUNNING,
    World,
    all_done,
    ask,
    download,
    erase,
    get,
    opened,
    privacy_world,
    sent,
    until,
)
from tests.identity.privacy_world import Part as Service

ACTIVITY, CALCULATION, SETTLEMENT = OTHERS


@pytest.fixture(scope="module")
def world(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with privacy_world(postgres, tmp_path_factory.mktemp("keys")) as running:
        yield running


@pytest.fixture
def alone(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[World]:
    """A service on which nobody else waits for anything."""
    with privacy_world(postgres, tmp_path) as running:
        yield running


class Watching:
    """What a service is told of on one stream, as it comes."""

    def __init__(self, service: Service) -> None:
        self.told: list[Any] = []
        self._stream = service.watch()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for response in self._stream:
                self.told += response.tasks
        except grpc.RpcError:
            pass

    def until(self, count: int, seconds: float = 6) -> list[str]:
        deadline = time.monotonic() + seconds
        while len(self.told) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return [task.operation for task in self.told]

    def close(self) -> None:
        self._stream.cancel()
        self._thread.join(5)


def test_a_fact_that_is_rolled_back_leaves_no_task(world: World) -> None:
    person = world.holder()
    settings, account_id = world.house.settings, account_id_of(person.account)
    vault = Vault(FileKeyManagement(settings.keys_dir / "wrapping"))
    database = Database(settings.database_url)

    def asked(fail: bool) -> None:
        with database.transaction() as connection:
            parts = [Part(service) for service in PARTS]
            now = world.clock.now
            operation = Operation(account_id, 1, Kind.EXPORT, State.RUNNING, now, parts)
            Operations(connection).begin(operation)
            register = Register(connection, vault)
            register.note(account_id, [Happened(Event.EXPORT_ASKED, 1)], "customer", now)
            if fail:
                raise ConnectionError("the writer dies before its commit")

    def counted() -> tuple[int, int, int]:
        return tuple(
            world.house.sql(query, account_id)[0][0]
            for query in (
                "select count(*) from operation where account_id = %s",
                "select count(*) from privacy_task where account_id = %s",
                "select count(*) from event where kind = 19 and account_id = %s",
            )
        )  # type: ignore[return-value]  # fmt: skip

    with pytest.raises(ConnectionError):
        asked(fail=True)
    assert counted() == (0, 0, 0)
    asked(fail=False)
    assert counted() == (1, len(PARTS), 1)
    database.close()


def test_each_service_is_told_of_its_own_part_what_waits_longest_first(alone: World) -> None:
    first, second = alone.holder(), alone.holder()
    second.close()
    copy, erasure = ask(first), erase(second)
    for service in OTHERS:
        watching = Watching(Service(alone.house, service))
        assert watching.until(2) == [copy.name, erasure.name]
        kinds = [(task.kind, task.account) for task in watching.told]
        assert kinds == [(EXPORT, first.account), (ERASURE, second.account)]
        watching.close()


def test_a_task_comes_at_once_and_an_empty_message_shows_that_the_stream_lives(
    alone: World,
) -> None:
    stream = Service(alone.house, ACTIVITY).watch(seconds=10)
    assert list(next(stream).tasks) == []
    began = time.monotonic()
    name = ask(alone.holder()).name
    assert [task.operation for task in next(stream).tasks] == [name]
    assert time.monotonic() - began < 3
    stream.cancel()


def test_of_two_streams_of_a_service_one_is_told_and_the_other_when_it_ends(alone: World) -> None:
    service = Service(alone.house, ACTIVITY)
    one, other = Watching(service), Watching(service)
    name = ask(alone.holder()).name
    time.sleep(1.5)
    assert sorted([one.until(0), other.until(0)]) == [[], [name]]
    told, waiting = (one, other) if one.told else (other, one)
    told.close()
    assert waiting.until(1) == [name]
    waiting.close()


def test_what_a_killed_identity_told_of_is_told_again_after_the_lease(alone: World) -> None:
    name = ask(alone.holder()).name
    alone.house.sql(
        "update privacy_task set owner = gen_random_uuid(), claim_until = now() + interval '15 s' "
        "where service = %s returning 1",
        ACTIVITY,
    )
    watching = Watching(Service(alone.house, ACTIVITY))
    assert watching.until(1, seconds=1.5) == []
    alone.clock.go_on(seconds=15)
    assert watching.until(1) == [name]
    watching.close()


def test_a_stream_that_lives_keeps_what_it_was_told_of(alone: World) -> None:
    name = ask(alone.holder()).name
    service = Service(alone.house, ACTIVITY)
    one = Watching(service)
    assert one.until(1) == [name]
    other = Watching(service)
    for _ in range(4):
        alone.clock.go_on(seconds=10)
        time.sleep(1.2)  # each stream looks at least once
    assert (len(one.told), len(other.told)) == (1, 0)
    one.close()
    other.close()


def test_a_file_comes_whole_whatever_pieces_were_sent_twice(world: World) -> None:
    person = world.holder()
    asked, service = ask(person), Service(world.house, ACTIVITY)
    pieces = [bytes([65 + n]) * size for n, size in enumerate((PIECE_BYTES_MAX, 1000, 1))]
    for number in (0, 1, 1, 0, 2, 1):
        service.send(asked.name, "activities.json", pieces[number], number)
    service.finish(asked.name, {"activities.json": pieces}, counts={"activities": 3})
    done = all_done(world.house, asked.name)
    files = opened(download(person, asked.name))
    assert files["activity/activities.json"] == b"".join(pieces)
    (part,) = [part for part in done.parts if part.service == ACTIVITY]
    assert part.counts == {"activities": 3}


def test_what_an_earlier_attempt_sent_more_is_dropped(world: World) -> None:
    person = world.holder()
    asked, service = ask(person), Service(world.house, ACTIVITY)
    for number in range(3):
        service.send(asked.name, "activities.json", b"old", number)
    service.send(asked.name, "gone.json", b"old")
    service.send(asked.name, "activities.json", b"new", 0)
    service.finish(asked.name, {"activities.json": [b"new"]})
    all_done(world.house, asked.name)
    files = opened(download(person, asked.name))
    assert files["activity/activities.json"] == b"new"
    assert "activity/gone.json" not in files


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ([b"one", b"two", b"more"], "piece 2 of a.json is missing"),
        ([b"one", b"other"], "a.json has not the digest that was told"),
    ],
)
def test_a_part_that_is_not_whole_is_refused_and_can_be_sent_again(
    world: World, told: list[bytes], fault: str
) -> None:
    asked, service = ask(world.holder()), Service(world.house, ACTIVITY)
    for number, content in enumerate((b"one", b"two")):
        service.send(asked.name, "a.json", content, number)
    with refused("STATE_CONFLICT") as error:
        service.finish(asked.name, {"a.json": told})
    assert fault in error.value.details()
    assert not get(world.house, asked.name).parts[0].HasField("finish_time")
    for number, content in enumerate(told):
        service.send(asked.name, "a.json", content, number)
    service.finish(asked.name, {"a.json": told})
    assert get(world.house, asked.name).parts[0].HasField("finish_time")


def test_a_missing_file_is_noticed_and_an_empty_one_is_a_file(world: World) -> None:
    person = world.holder()
    asked, service = ask(person), Service(world.house, ACTIVITY)
    service.send(asked.name, "empty.json", b"")
    with refused("STATE_CONFLICT"):
        service.finish(asked.name, {"empty.json": [b""], "never-sent.json": [b""]})
    service.send(asked.name, "empty.json", b"")
    service.finish(asked.name, {"empty.json": [b""]})
    all_done(world.house, asked.name)
    assert opened(download(person, asked.name))["activity/empty.json"] == b""


def test_finishing_again_and_sending_late_change_nothing(world: World) -> None:
    person = world.holder()
    asked, service = ask(person), Service(world.house, ACTIVITY)
    service.do(asked.name, activities=b"first")
    before = get(world.house, asked.name)
    service.send(asked.name, "activities.json", b"second")
    service.finish(asked.name, {"activities.json": [b"second"]}, counts={"x": 1})
    assert get(world.house, asked.name) == before
    all_done(world.house, asked.name)
    assert opened(download(person, asked.name))["activity/activities.json"] == b"first"
    service.finish(asked.name)
    assert get(world.house, asked.name).state == DONE


def test_two_services_that_finish_at_once_complete_an_erasure(world: World) -> None:
    for _ in range(5):
        person = world.holder()
        person.close()
        name = erase(person).name
        threads = [
            threading.Thread(target=Service(world.house, service).finish, args=(name,))
            for service in OTHERS
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert get(world.house, name).state == DONE


def test_an_erasure_takes_no_files(world: World) -> None:
    person = world.holder()
    person.close()
    name = erase(person).name
    with refused("STATE_CONFLICT") as error:
        Service(world.house, ACTIVITY).send(name, "a.json", b"")
    assert "is an erasure and takes no files" in error.value.details()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("file_name", "../a.json"), ("file_name", "A.json"), ("file_name", ".a"),
        ("file_name", "a b"), ("file_name", ""), ("file_name", "x" * 65), ("file_name", "a\n"),
        ("piece", -1), ("piece", 1024), ("content", b"x" * (PIECE_BYTES_MAX + 1)),
        ("name", "accounts/1/operations/1"), ("name", ""),
    ],
)  # fmt: skip
def test_a_piece_that_breaks_a_rule_is_refused(world: World, field: str, value: Any) -> None:
    asked = ask(world.holder())
    good: dict[str, Any] = {
        "name": asked.name, "file_name": "x" * 64, "piece": 1023, "content": b"x",
    }  # fmt: skip
    call = Service(world.house, ACTIVITY).call
    with refused("FIELD_INVALID"):
        world.house.privacy.SendPrivacyFile(
            pb.SendPrivacyFileRequest(**{**good, field: value}), **call
        )
    world.house.privacy.SendPrivacyFile(pb.SendPrivacyFileRequest(**good), **call)


@pytest.mark.parametrize(
    "more",
    [
        {"counts": {"rows": -1}}, {"counts": {"": 1}}, {"counts": {"x" * 257: 1}},
        {"counts": {str(n): n for n in range(101)}},
        {"kept": [pb.Operation.Kept(what="", why="law")]},
        {"kept": [pb.Operation.Kept(what="rows", why="x" * 257)]},
        {"files": [sent("a.json", [b""]), sent("a.json", [b""])]},
        {"files": [sent("A.json", [b""])]}, {"files": [sent("a.json", [])]},
        {"files": [pb.FinishPrivacyTaskRequest.SentFile(file_name="a", pieces=1, digest=b"x")]},
    ],
)  # fmt: skip
def test_a_report_that_breaks_a_rule_is_refused(world: World, more: dict[str, Any]) -> None:
    asked, call = ask(world.holder()), Service(world.house, ACTIVITY).call
    with refused("LIMIT_REACHED" if len(more.get("counts", ())) > 100 else "FIELD_INVALID"):
        world.house.privacy.FinishPrivacyTask(
            pb.FinishPrivacyTaskRequest(name=asked.name, **more), **call
        )
    assert not get(world.house, asked.name).parts[0].HasField("finish_time")


@pytest.mark.parametrize("service", [IDENTITY, "services/demo"])
def test_a_service_without_a_part_is_told_nothing_and_gives_nothing(
    world: World, service: str
) -> None:
    asked, stranger = ask(world.holder()), Service(world.house, service)
    with refused("CALLER_NOT_ALLOWED"):
        next(stranger.watch())
    with refused("CALLER_NOT_ALLOWED"):
        stranger.send(asked.name, "a.json", b"")
    with refused("CALLER_NOT_ALLOWED"):
        stranger.finish(asked.name)


def test_only_services_do_parts(world: World) -> None:
    person = world.holder()
    asked = ask(person)
    send = pb.SendPrivacyFileRequest(name=asked.name, file_name="a", content=b"")
    for call in (person.call, world.house.operator, world.house.call("source", "sources/x")):
        with refused("CALLER_NOT_ALLOWED"):
            next(world.house.privacy.WatchPrivacyTasks(pb.WatchPrivacyTasksRequest(), **call))
        with refused("CALLER_NOT_ALLOWED"):
            world.house.privacy.SendPrivacyFile(send, **call)
        with refused("CALLER_NOT_ALLOWED"):
            finish = pb.FinishPrivacyTaskRequest(name=asked.name)
            world.house.privacy.FinishPrivacyTask(finish, **call)
    with refused("RESOURCE_NOT_FOUND"):
        Service(world.house, ACTIVITY).finish(f"{person.account}/operations/2")


def lagging(world: World, seconds: int = 0, call: Any = None) -> list[tuple[str, str]]:
    found = world.house.privacy.ListLaggingTasks(
        pb.ListLaggingTasksRequest(waiting_seconds=seconds), **(call or world.house.operator)
    )
    return [(task.operation, task.service) for task in found.tasks]


def test_a_service_that_does_not_report_is_listed_after_the_time_asked_for(alone: World) -> None:
    first, second = ask(alone.holder()).name, ask(alone.holder()).name
    for service in OTHERS[:2]:
        Service(alone.house, service).finish(first)
    alone.clock.go_on(seconds=59)
    assert lagging(alone) == []
    alone.clock.go_on(seconds=1)
    expected = [(first, SETTLEMENT), *((second, service) for service in OTHERS)]
    assert lagging(alone) == expected, "identity waits for them and does not lag"
    assert lagging(alone, 61) == []
    assert lagging(alone, 60) == expected
    assert lagging(alone, call=alone.house.call("auditor", "auditors/a")) == expected
    until(alone.house, all_done(alone.house, first).name)
    assert lagging(alone) == expected[1:]
    with refused("FIELD_INVALID"):
        lagging(alone, -1)
    for call in (alone.holder().call, alone.house.service):
        with refused("CALLER_NOT_ALLOWED"):
            lagging(alone, call=call)


def test_a_lagging_erasure_is_visible_too(alone: World) -> None:
    person = alone.holder()
    person.close()
    name = erase(person).name
    alone.clock.go_on(minutes=2)
    assert lagging(alone) == [(name, service) for service in OTHERS]


def test_a_copy_that_cannot_be_packed_waits_and_the_next_one_is_packed(alone: World) -> None:
    bad, good = alone.holder(name="x"), alone.holder()
    names = [ask(person).name for person in (bad, good)]
    spoiled = alone.house.sql(
        "update person set sealed = 'spoiled' where account_id = %s returning 1",
        account_id_of(bad.account),
    )
    assert spoiled
    for service in OTHERS:
        for name in names:
            Service(alone.house, service).finish(name)
    until(alone.house, names[1])
    assert get(alone.house, names[0]).state == RUNNING
    alone.clock.go_on(minutes=1)
    assert lagging(alone) == [(names[0], IDENTITY)]
