"""Calculation, put together."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from pathlib import Path

from carbonaccount.calculation.v1 import (
    assessment_service_pb2_grpc,
    factor_service_pb2_grpc,
    footprint_service_pb2_grpc,
    methodology_service_pb2_grpc,
    restatement_service_pb2_grpc,
)
from carbonaccount.feed.v1 import feed_service_pb2_grpc

from services.calculation.domain.faults import LibraryInvalid
from services.calculation.domain.library import Library, load_library
from services.calculation.domain.registry import load_registry
from services.calculation.factor_files import read_factor_files
from services.calculation.followers.activity_follower import FEED, ActivityApplier
from services.calculation.privacy_part import open_privacy_part
from services.calculation.rpc.assessment_servicer import AssessmentServicer
from services.calculation.rpc.factor_servicer import FactorServicer
from services.calculation.rpc.footprint_servicer import FootprintServicer
from services.calculation.rpc.methodology_servicer import MethodologyServicer
from services.calculation.rpc.restatement_servicer import RestatementServicer
from services.calculation.settings import Settings
from services.calculation.storage.restatements import Restatements
from services.calculation.storage.shelf import Editions, ProgrammeMissing, Shelf
from services.calculation.upstream.activity import ActivityFeed
from services.calculation.usecases.open_library import LibraryRefused, open_library
from services.calculation.usecases.publish_library import Reason
from shared.clock import now_us
from shared.feed.follow import Follower
from shared.feed.leases import LeaseKeeper
from shared.feed.progress import FeedServicer
from shared.feed.watch import Signal
from shared.ids import civil_day
from shared.rpc.channel import open_channel
from shared.rpc.paging import PageTokens
from shared.rpc.server import Server
from shared.service import build_server, load_secret, serve_until_signal, service_token
from shared.settings import StartRefused
from shared.storage.engine import Database
from shared.storage.migrate import migrate

HERE = Path(__file__).parent
MIGRATIONS = HERE / "storage" / "migrations"
_REFRESH_S = 1.0


def read_library(directory: Path = HERE / "methodologies") -> Library:
    """The library in `directory`, by default the one that ships with the service."""
    return load_library(read_texts(directory), load_registry(read_factor_files()))


def read_texts(directory: Path = HERE / "methodologies") -> Mapping[str, str]:
    """The files of a library by their path within it."""
    return {
        path.relative_to(directory).as_posix(): path.read_text("utf-8")
        for path in directory.rglob("*.toml")
    }


def _shelf(settings: Settings) -> Shelf:
    """The shipped library; StartRefused when it has a fault or lacks the programme."""
    try:
        registry = load_registry(read_factor_files())
        return Shelf(
            read_texts(settings.methodologies_dir), registry, settings.programme,
            read_texts(HERE / "calculators"),
        )  # fmt: skip
    except ProgrammeMissing as error:
        raise StartRefused(
            f"CARBONACCOUNT_CALCULATION_PROGRAMME is {settings.programme!r}; "
            f"{settings.methodologies_dir} has {', '.join(error.known) or 'none'}"
        ) from None
    except LibraryInvalid as error:
        raise StartRefused(str(error)) from None


def open_shelf(shelf: Shelf, reason: Reason, today: int, database: Database) -> None:
    """Takes what was published, and notes what serves; StartRefused when it must not."""
    try:
        with database.transaction() as connection:
            Editions(connection).lock()  # first: nobody publishes between the look and the note
            shelf.refresh(connection)
            open_library(
                shelf.library, shelf.programme, reason, today,
                editions=Editions(connection), restatements=Restatements(connection),
            )  # fmt: skip
    except (LibraryInvalid, LibraryRefused) as error:
        raise StartRefused(str(error)) from None


async def serve(settings: Settings) -> None:
    """Serves calculation until a signal."""
    shelf = _shelf(settings)
    migrate(settings.database_url, MIGRATIONS)
    reading = Database(settings.database_url)
    reason = Reason(settings.restate_reason_zh, settings.restate_reason_en)
    open_shelf(shelf, reason, civil_day(now_us()), reading)
    gc.freeze()  # a collection that goes through the whole library took 90 ms of every caller
    writing = Database(settings.database_url, connections_max=2, threads=1, look_ups=True)
    signal = Signal()
    channel = open_channel(settings.activity_address, token=service_token(settings, "calculation"))
    leases = LeaseKeeper(reading, FEED)
    applier = ActivityApplier(writing, shelf, signal.set)
    follower = Follower(
        reading,
        FEED,
        leases=leases,
        open_stream=ActivityFeed(channel).open,
        applier=applier,
        weight=lambda response: sum(run.count for run in response.runs),
        weight_max=settings.run_acts_max,
        work_between=applier.work_between,
    )
    server = build_server(settings)
    _add_servicers(server, settings, shelf, reading, signal)
    await serve_until_signal(
        server,
        background=[
            leases.run(),
            follower.run(),
            _keep_fresh(shelf, reading),
            open_privacy_part(settings, reading).run(),
        ],
        closing=[leases.release, channel.close, writing.close, reading.close],
    )


def _add_servicers(
    server: Server, settings: Settings, shelf: Shelf, database: Database, signal: Signal
) -> None:
    page_tokens = PageTokens(load_secret(settings.keys_dir, "calculation"))
    server.add(
        assessment_service_pb2_grpc.add_AssessmentServiceServicer_to_server,
        AssessmentServicer(
            database=database, shelf=shelf, signal=signal, clock=now_us, poll_ms=settings.poll_ms
        ),
    )
    server.add(
        methodology_service_pb2_grpc.add_MethodologyServiceServicer_to_server,
        MethodologyServicer(database=database, shelf=shelf, clock=now_us, page_tokens=page_tokens),
    )
    server.add(
        restatement_service_pb2_grpc.add_RestatementServiceServicer_to_server,
        RestatementServicer(database=database, clock=now_us, page_tokens=page_tokens),
    )
    server.add(
        factor_service_pb2_grpc.add_FactorServiceServicer_to_server,
        FactorServicer(shelf.registry, now_us),
    )
    server.add(
        footprint_service_pb2_grpc.add_FootprintServiceServicer_to_server,
        FootprintServicer(shelf, now_us),
    )
    server.add(
        feed_service_pb2_grpc.add_FeedServiceServicer_to_server,
        FeedServicer(database, "calculation", (FEED,)),
    )


async def _keep_fresh(shelf: Shelf, database: Database) -> None:
    """Estimates take what another worker published within a second or so."""
    while True:
        await asyncio.sleep(_REFRESH_S)
        await database.read(shelf.refresh)
