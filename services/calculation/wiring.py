"""Calculation, put together."""

from __future__ import annotations

from pathlib import Path

from carbonaccount.calculation.v1 import assessment_service_pb2_grpc, methodology_service_pb2_grpc
from carbonaccount.feed.v1 import feed_service_pb2_grpc

from services.calculation.domain.library import (
    Library,
    LibraryInvalid,
    changed_versions,
    load_library,
)
from services.calculation.followers.activity_follower import FEED, ActivityApplier
from services.calculation.rpc.assessment_servicer import AssessmentServicer
from services.calculation.rpc.methodology_servicer import MethodologyServicer
from services.calculation.settings import Settings
from services.calculation.storage.book import Book
from services.calculation.upstream.activity import ActivityFeed
from shared.clock import now_us
from shared.feed.follow import Follower
from shared.feed.leases import LeaseKeeper
from shared.feed.progress import FeedServicer
from shared.feed.watch import Signal
from shared.rpc.channel import open_channel
from shared.service import build_server, serve_until_signal, service_token
from shared.settings import StartRefused
from shared.storage.engine import Database
from shared.storage.migrate import migrate

HERE = Path(__file__).parent
MIGRATIONS = HERE / "storage" / "migrations"


def read_library(directory: Path = HERE / "methodologies") -> Library:
    """The library in `directory`, by default the one that ships with the service."""
    return load_library(
        {
            path.relative_to(directory).as_posix(): path.read_text("utf-8")
            for path in directory.rglob("*.toml")
        }
    )


def _library(settings: Settings) -> Library:
    """The library to serve; StartRefused when it has a fault or lacks the programme."""
    try:
        library = read_library(settings.methodologies_dir)
    except LibraryInvalid as error:
        raise StartRefused(str(error)) from None
    if settings.programme not in library.programmes:
        raise StartRefused(
            f"CARBONACCOUNT_CALCULATION_PROGRAMME is {settings.programme!r}; "
            f"{settings.methodologies_dir} has {', '.join(sorted(library.programmes)) or 'none'}"
        )
    return library


def _check_unchanged(library: Library, database: Database) -> None:
    """StartRefused when a version that has credited something is not what it was."""
    with database.transaction() as connection:
        changed = changed_versions(library, Book(connection).credited_versions())
    if changed:
        raise StartRefused("\n".join(changed))


async def serve(settings: Settings) -> None:
    """Serves calculation until a signal."""
    library = _library(settings)
    migrate(settings.database_url, MIGRATIONS)
    reading = Database(settings.database_url)
    _check_unchanged(library, reading)
    writing = Database(settings.database_url, connections_max=2, threads=1, look_ups=True)
    signal = Signal()
    channel = open_channel(settings.activity_address, token=service_token(settings, "calculation"))
    leases = LeaseKeeper(reading, FEED)
    follower = Follower(
        reading,
        FEED,
        leases=leases,
        open_stream=ActivityFeed(channel).open,
        applier=ActivityApplier(writing, library.programmes[settings.programme], signal.set),
        weight=lambda response: sum(run.count for run in response.runs),
        weight_max=settings.run_acts_max,
    )
    server = build_server(settings)
    server.add(
        assessment_service_pb2_grpc.add_AssessmentServiceServicer_to_server,
        AssessmentServicer(
            database=reading,
            library=library,
            programme=settings.programme,
            signal=signal,
            clock=now_us,
            poll_ms=settings.poll_ms,
        ),
    )
    server.add(
        methodology_service_pb2_grpc.add_MethodologyServiceServicer_to_server,
        MethodologyServicer(library),
    )
    server.add(feed_service_pb2_grpc.add_FeedServiceServicer_to_server, FeedServicer(reading))
    await serve_until_signal(
        server,
        background=[leases.run(), follower.run()],
        closing=[leases.release, channel.close, writing.close, reading.close],
    )
