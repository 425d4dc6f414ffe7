"""Calculation, put together."""

from __future__ import annotations

from pathlib import Path

from carbonaccount.calculation.v1 import assessment_service_pb2_grpc, methodology_service_pb2_grpc
from carbonaccount.feed.v1 import feed_service_pb2_grpc

from services.calculation.domain.library import Library, load_library
from services.calculation.followers.activity_follower import FEED, ActivityApplier
from services.calculation.rpc.assessment_servicer import AssessmentServicer
from services.calculation.rpc.methodology_servicer import MethodologyServicer
from services.calculation.settings import Settings
from services.calculation.upstream.activity import ActivityFeed
from shared.clock import now_us
from shared.feed.follow import Follower
from shared.feed.leases import LeaseKeeper
from shared.feed.progress import FeedServicer
from shared.feed.watch import Signal
from shared.rpc.channel import open_channel
from shared.service import build_server, serve_until_signal, service_token
from shared.storage.engine import Database
from shared.storage.migrate import migrate

HERE = Path(__file__).parent
MIGRATIONS = HERE / "storage" / "migrations"


def read_library(directory: Path | None = None) -> Library:
    """The library in `directory`, by default the one that ships with the service."""
    root = directory or HERE / "methodologies"
    return load_library(
        {
            path.relative_to(root).as_posix(): path.read_text("utf-8")
            for path in root.rglob("*.toml")
        }
    )


async def serve(settings: Settings) -> None:
    """Serves calculation until a signal."""
    library = read_library(Path(settings.methodologies_dir) if settings.methodologies_dir else None)
    migrate(settings.database_url, MIGRATIONS)
    reading = Database(settings.database_url)
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
