"""The rights of a data subject, and services that do their part of them, by a movable clock."""

from __future__ import annotations

import hashlib
import io
import json
import time
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import privacy_service_pb2 as pb

from shared.clock import now_us
from shared.ids import from_us
from shared.storage.embedded import EmbeddedPostgres
from tests.identity.identity_house import Customer, House, request_id, served, settings_for

OTHERS = ("services/activity", "services/calculation", "services/settlement")
IDENTITY = "services/identity"
RUNNING, DONE, EXPIRED = (
    pb.Operation.STATE_RUNNING, pb.Operation.STATE_DONE, pb.Operation.STATE_EXPIRED
)  # fmt: skip
EXPORT, ERASURE = pb.Operation.KIND_EXPORT, pb.Operation.KIND_ERASURE
KINDS = account_pb.AccountEvent.Kind
_NONE: Mapping[str, list[bytes]] = {}


class Clock:
    """Real time, and as much later as the test says."""

    def __init__(self) -> None:
        self._ahead_us = 0

    def __call__(self) -> int:
        return now_us() + self._ahead_us

    @property
    def now(self) -> datetime:
        return from_us(self())

    def go_on(self, **passed: float) -> None:
        self._ahead_us += timedelta(**passed) // timedelta(microseconds=1)


@dataclass
class World:
    """A running identity service and its clock."""

    house: House
    clock: Clock

    def holder(self, **more: Any) -> Customer:
        """Somebody with an open account."""
        person = self.house.customer()
        person.open(**more)
        return person


@contextmanager
def privacy_world(postgres: EmbeddedPostgres, keys_dir: Path) -> Iterator[World]:
    """A service of its own; what its tests share is one clock, which only goes on."""
    name = f"privacy_{uuid.uuid4().hex[:8]}"
    postgres.create_database(name)
    database_url = postgres.url(name)
    clock = Clock()
    with served(settings_for(database_url, keys_dir), clock) as house:
        yield World(house, clock)


def ask(person: Customer, request: str = "", call: Mapping[str, Any] | None = None) -> Any:
    """The operation of a copy, asked for by the holder or by another caller."""
    asked = pb.ExportAccountDataRequest(name=person.account, request_id=request or request_id())
    return person.house.privacy.ExportAccountData(asked, **(call or person.call)).operation


def erase(
    person: Customer, cause: str = "", request: str = "", call: Mapping[str, Any] | None = None
) -> Any:
    """The operation of an erasure."""
    asked = pb.EraseAccountDataRequest(
        name=person.account, request_id=request or request_id(), cause=cause
    )
    return person.house.privacy.EraseAccountData(asked, **(call or person.call)).operation


def get(house: House, name: str, call: Mapping[str, Any] | None = None) -> Any:
    asked = pb.GetOperationRequest(name=name)
    return house.privacy.GetOperation(asked, **(call or house.operator)).operation


def until(house: House, name: str, state: int = DONE, seconds: float = 10) -> Any:
    """The operation once it has come so far."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        operation = get(house, name)
        if operation.state == state:
            return operation
        time.sleep(0.02)
    raise AssertionError(f"{name} is not {state} after {seconds} s: {operation}")


def download(person: Customer, name: str, call: Mapping[str, Any] | None = None) -> bytes:
    pieces = person.house.privacy.DownloadArchive(
        pb.DownloadArchiveRequest(name=name), **(call or person.call)
    )
    return b"".join(piece.content for piece in pieces)


def opened(archive: bytes) -> dict[str, bytes]:
    """The files of an archive that is sound."""
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        assert packed.testzip() is None
        return {name: packed.read(name) for name in packed.namelist()}


def records(files: Mapping[str, bytes], name: str) -> list[dict[str, Any]]:
    """The records of a table, which its CSV holds too."""
    found: list[dict[str, Any]] = json.loads(files[f"{name}.json"])
    text = files[f"{name}.csv"].decode("utf-8-sig")
    assert text.count("\r\n") >= len(found) + 1, name
    return found


class Part:
    """A service, as it does its part by hand."""

    def __init__(self, house: House, service: str) -> None:
        self.house = house
        self.service = service

    @property
    def call(self) -> dict[str, Any]:
        return self.house.call("service", self.service)

    def watch(self, seconds: float = 30) -> Any:
        call = {**self.call, "timeout": seconds}
        return self.house.privacy.WatchPrivacyTasks(pb.WatchPrivacyTasksRequest(), **call)

    def send(self, name: str, file_name: str, content: bytes, piece: int = 0) -> None:
        self.house.privacy.SendPrivacyFile(
            pb.SendPrivacyFileRequest(name=name, file_name=file_name, piece=piece, content=content),
            **self.call,
        )

    def finish(
        self, name: str, files: Mapping[str, list[bytes]] | None = None, **more: Any
    ) -> None:
        self.house.privacy.FinishPrivacyTask(
            pb.FinishPrivacyTaskRequest(
                name=name,
                files=[sent(name, contents) for name, contents in (files or {}).items()],
                **more,
            ),
            **self.call,
        )

    def do(self, name: str, **files: bytes) -> None:
        """Its part of a copy: a small file for each word."""
        for word, content in files.items():
            self.send(name, f"{word}.json", content)
        self.finish(name, {f"{word}.json": [content] for word, content in files.items()})


def sent(name: str, contents: list[bytes]) -> pb.FinishPrivacyTaskRequest.SentFile:
    digest = hashlib.sha256(b"".join(contents)).digest()
    return pb.FinishPrivacyTaskRequest.SentFile(file_name=name, pieces=len(contents), digest=digest)


def all_done(house: House, name: str) -> Any:
    """The copy, once every service has done its part without any file."""
    for service in OTHERS:
        Part(house, service).finish(name)
    return until(house, name)


def erased(house: House, person: Customer) -> Any:
    """The erasure of a person's account, closed for it, once everybody has done their part."""
    person.close()
    operation = erase(person)
    for service in OTHERS:
        Part(house, service).finish(operation.name)
    return until(house, operation.name)


def events(person: Customer, call: dict[str, Any] | None = None) -> list[Any]:
    """What happened to the account, newest first, as staff reads it."""
    asked = account_pb.ListAccountEventsRequest(parent=person.account, page_size=500)
    by = call or person.house.operator
    return list(person.house.accounts.ListAccountEvents(asked, **by).events)


def moment(stamp: Any) -> datetime:
    found: datetime = stamp.ToDatetime(UTC)
    return found
