"""What the tests of the library's life share: a worker, a server, and who calls it."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sqlalchemy as sa
from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.calculation.v1 import assessment_service_pb2_grpc as assessment_grpc
from carbonaccount.calculation.v1 import methodology_service_pb2 as pb
from carbonaccount.calculation.v1 import methodology_service_pb2_grpc as methodology_grpc
from carbonaccount.calculation.v1 import restatement_service_pb2_grpc as restatement_grpc
from google.type import date_pb2

from services.calculation.followers.activity_follower import FEED, ActivityApplier
from services.calculation.rpc.assessment_servicer import AssessmentServicer
from services.calculation.rpc.methodology_servicer import MethodologyServicer
from services.calculation.rpc.restatement_servicer import RestatementServicer
from services.calculation.storage.shelf import Shelf
from services.calculation.usecases.publish_library import Reason
from services.calculation.wiring import open_shelf
from shared.feed.cursors import read_cursors
from shared.feed.watch import Signal
from shared.ids import DAY_US, SHARDS, account_name, date_to_day, shard_of
from shared.rpc.paging import PageTokens
from shared.rpc.server import Server
from shared.rpc.status import reason_of
from shared.rpc.tokens import VERIFYING_FILE, TokenVerifier, load_or_make_key, make_token
from shared.storage.bulk import pack
from shared.storage.engine import Database
from tests.calculation.calculators_world import READ, calculator_files, shelf
from tests.calculation.life_files import BIKE, SHIPPED, WALK

CODES = {BIKE: 1, WALK: 2}
MEASURES = {BIKE: "distance_metre", WALK: "count"}
SHENZHEN, SHANGHAI = 440300, 310100
REASON = Reason("系数更正", "the factor was corrected")
NO_REASON = Reason("", "")


def day(text: str) -> int:
    """The number of a civil day."""
    return date_to_day(date.fromisoformat(text))


def told(text: str) -> date_pb2.Date:
    """A day as the contract has it."""
    one = date.fromisoformat(text)
    return date_pb2.Date(year=one.year, month=one.month, day=one.day)


def fresh() -> str:
    """A new request id."""
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Doing:
    """An act to record."""

    account_id: int
    scene: str = BIKE
    on: str = "2026-03-10"
    measure: int = 1000
    region: int = SHENZHEN


class Caller:
    """A stub whose calls carry the caller's token and a deadline."""

    def __init__(self, stub: Any, token: str) -> None:
        metadata = [("authorization", f"Bearer {token}")] if token else None
        self._stub, self._more = stub, {"timeout": 60, "metadata": metadata}

    def __getattr__(self, method: str) -> Any:
        return partial(getattr(self._stub, method), **self._more)


@dataclass
class Life:
    """Calculation with one worker, behind a server; `today` may be moved on."""

    database: Database
    shelf: Shelf
    keys: Path
    today: int = day("2026-05-20")
    heads: dict[int, int] = field(default_factory=dict)
    channel: Any = None

    def worker(self, held: Shelf | None = None) -> ActivityApplier:
        """A worker of every shard that begins where the cursors are."""
        applier = ActivityApplier(self.database, held or self.shelf, lambda: None)
        with self.database.transaction() as connection:
            applier.begin(read_cursors(connection, FEED, range(SHARDS)))
        response = activity_pb.WatchActivitiesResponse()
        for scene, code in CODES.items():
            response.scenes.add(code=code, scene=scene, measures=[MEASURES[scene]])
        applier.apply([response])
        return applier

    def record(self, *doings: Doing, worker: ActivityApplier | None = None) -> None:
        """Acts arrive in this order and are assessed in one transaction."""
        shards: dict[int, list[Doing]] = {}
        for one in doings:
            shards.setdefault(shard_of(one.account_id), []).append(one)
        runs = [self._run(shard, of_one) for shard, of_one in sorted(shards.items())]
        (worker or self.worker()).apply([activity_pb.WatchActivitiesResponse(runs=runs)])

    def withdraw(self, account_id: int, position: int) -> None:
        """The act at that position of the account's shard is taken back."""
        run = self._run(shard_of(account_id), [Doing(account_id)], target=position)
        self.worker().apply([activity_pb.WatchActivitiesResponse(runs=[run])])

    def _run(self, shard: int, doings: Sequence[Doing], target: int = 0) -> activity_pb.ActivityRun:
        position, size = self.heads.get(shard, 0) + 1, len(doings)
        self.heads[shard] = position + size - 1
        columns = {
            "kind": (1, [2 if target else 1] * size),
            "account_id": (8, [one.account_id for one in doings]),
            "scene": (2, [CODES[one.scene] for one in doings]),
            "region": (4, [one.region for one in doings]),
            "evidence_grade": (1, [1] * size),
            "civil_day": (4, [day(one.on) for one in doings]),
            "measure_1": (8, [one.measure for one in doings]),
            "target": (8, [target] * size),
        }
        packed: dict[str, Any] = {
            name: pack(np.array(values, np.int64), width, np.array([size]))[0]
            for name, (width, values) in columns.items()
        }
        return activity_pb.ActivityRun(shard=shard, position=position, count=size, **packed)

    def restate(self) -> int:
        """All that waits is restated; how many pieces that took."""
        pieces, worker = 0, self.worker()
        while worker.work_between():
            pieces += 1
        return pieces

    def sql(self, query: str, **told: object) -> list[Any]:
        """Rows of a query."""
        with self.database.transaction() as connection:
            return list(connection.execute(sa.text(query), told))

    def rows(self) -> dict[str, int]:
        """How many rows every table has."""
        names = self.sql("select tablename from pg_tables where schemaname = 'public'")
        return {name: self.sql(f'select count(*) from "{name}"')[0][0] for (name,) in names}

    def amounts(self, account_id: int) -> dict[int, tuple[str, int]]:
        """Asset and amount of each act of an account, as last assessed, by position."""
        found = self.sql(
            "select distinct on (activity_position) activity_position, coalesce(asset, ''), amount"
            " from assessment left join asset_class on code = asset_class"
            " where account_id = :account order by activity_position, position desc",
            account=account_id,
        )
        return {position: (asset, int(amount)) for position, asset, amount in found}

    def call(self, kind: str, name: str = "", *, service: Any = None, account: int = 0) -> Any:
        """A stub of MethodologyService, or of `service`, as that caller; "public" has no token."""
        token = ""
        if kind != "public":
            key, own = load_or_make_key(self.keys), account_name(account) if account else ""
            token = make_token(key, kind, name or f"{kind}s/any", account=own)
        stub = service or methodology_grpc.MethodologyServiceStub
        return Caller(stub(self.channel), token)

    def operator(self, who: str) -> Any:
        """MethodologyService as an operator of that name."""
        return self.call("operator", f"operators/{who}")

    def restatements(self, kind: str = "operator", account: int = 0) -> Any:
        """RestatementService as a caller of that kind."""
        return self.call(kind, service=restatement_grpc.RestatementServiceStub, account=account)

    def validate(self, path: str, content: str) -> Any:
        """What publishing would meet."""
        request = pb.ValidateLibraryFileRequest(file=file(path, content))
        return self.operator("ann").ValidateLibraryFile(request)

    def draft(self, path: str, content: str, request_id: str = "", who: str = "ann") -> Any:
        """A draft of Ann's."""
        key = request_id or fresh()
        request = pb.DraftLibraryFileRequest(file=file(path, content), request_id=key)
        return self.operator(who).DraftLibraryFile(request).draft

    def review(self, name: str, who: str = "bob", note: str = "") -> Any:
        """The draft, reviewed by Bob."""
        request = pb.ReviewLibraryDraftRequest(name=name, review_note=note)
        return self.operator(who).ReviewLibraryDraft(request).draft

    def publish(
        self, name: str, reason: Reason = NO_REASON, *, who: str = "cat", request_id: str = ""
    ) -> Any:
        """Cat publishes a draft."""
        request = pb.PublishLibraryDraftRequest(
            name=name, reason_zh=reason.zh, reason_en=reason.en, request_id=request_id or fresh()
        )
        return self.operator(who).PublishLibraryDraft(request)

    def into_force(self, path: str, content: str, reason: Reason = NO_REASON) -> Any:
        """Ann drafts, Bob reviews, Cat publishes."""
        name = self.draft(path, content).name
        self.review(name)
        return self.publish(name, reason)


def file(path: str, content: str) -> pb.LibraryFile:
    """A file of the library."""
    return pb.LibraryFile(path=path, content=content)


@contextmanager
def refused(reason: str, *said: str) -> Iterator[None]:
    """Holds that what happens inside is refused for this reason, in these words."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    code, name = caught.value.code().name, reason_of(caught.value)
    assert f"{code} {name}".endswith(reason), caught.value
    for words in said:
        assert words in (caught.value.details() or "")


def new_shelf() -> Shelf:
    """The files as they ship, in the hands of another process."""
    return Shelf(SHIPPED, shelf().registry, "life", calculator_files(), READ)


@contextmanager
def living(url: str, keys: Path) -> Iterator[Life]:
    """A service on that database, emptied, with its library opened."""
    load_or_make_key(keys)
    with ExitStack() as stack:
        database = stack.enter_context(closing(Database(url)))
        life = Life(database, new_shelf(), keys)
        tables = ", ".join(life.rows().keys() - {"alembic_version", "feed_head"})
        with database.transaction() as connection:
            connection.execute(sa.text(f"truncate {tables} restart identity"))
            connection.execute(sa.text("update feed_head set position = 0"))
        open_shelf(life.shelf, NO_REASON, life.today, database)
        life.channel = stack.enter_context(_served(life))
        yield life


@contextmanager
def neighbour(life: Life) -> Iterator[Life]:
    """Another process of the same service: a shelf and a server of its own."""
    other = Life(life.database, new_shelf(), life.keys, life.today, life.heads)
    with _served(other) as other.channel:
        yield other


@contextmanager
def _served(life: Life) -> Iterator[grpc.Channel]:
    """A channel to a server that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(_start(life), loop).result()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield channel
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(life: Life) -> Server:
    server = Server("127.0.0.1:0", verifier=TokenVerifier(life.keys / VERIFYING_FILE), grace_ms=200)
    common: dict[str, Any] = {"database": life.database, "clock": lambda: life.today * DAY_US}
    pages = PageTokens(b"secret")
    server.add(
        methodology_grpc.add_MethodologyServiceServicer_to_server,
        MethodologyServicer(**common, page_tokens=pages, shelf=life.shelf),
    )
    server.add(
        restatement_grpc.add_RestatementServiceServicer_to_server,
        RestatementServicer(**common, page_tokens=pages),
    )
    server.add(
        assessment_grpc.add_AssessmentServiceServicer_to_server,
        AssessmentServicer(**common, shelf=life.shelf, signal=Signal(), poll_ms=50),
    )
    await server.start()
    return server
