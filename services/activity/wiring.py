"""Activity, put together."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from carbonaccount.activity.v1 import (
    activity_service_pb2_grpc,
    scene_service_pb2_grpc,
    source_service_pb2_grpc,
)
from carbonaccount.feed.v1 import feed_service_pb2_grpc

from services.activity.domain.catalogue import Catalogue, read_catalogue
from services.activity.domain.keys import Keyring
from services.activity.followers.consent_follower import FEED, ConsentProjection
from services.activity.privacy_part import open_privacy_part
from services.activity.rpc.activity_servicer import ActivityServicer
from services.activity.rpc.catalogue_servicers import SceneServicer, SourceServicer
from services.activity.settings import Settings
from services.activity.storage.event_ids import digest_event_ids
from services.activity.storage.journal import open_journal
from services.activity.upstream.identity import IdentityFeed
from services.activity.usecases.commit_submissions import Receipt, Submission, commit_submissions
from shared.clock import now_us
from shared.feed.follow import Follower
from shared.feed.leases import LeaseKeeper
from shared.feed.progress import FeedServicer
from shared.feed.watch import Signal
from shared.gather import Gatherer
from shared.rpc.channel import open_channel
from shared.rpc.paging import PageTokens
from shared.rpc.server import Server
from shared.service import build_server, load_secret, serve_until_signal, service_token
from shared.storage.engine import Database
from shared.storage.migrate import migrate

HERE = Path(__file__).parent
MIGRATIONS = HERE / "storage" / "migrations"


def load_catalogue() -> Catalogue:
    """The scenes and sources that ship with the service."""
    scenes, sources = (
        tomllib.loads((HERE / "catalogue" / name).read_text())
        for name in ("scenes.toml", "sources.toml")
    )
    return read_catalogue(scenes, sources)


async def serve(settings: Settings) -> None:
    """Serves activity until a signal."""
    migrate(settings.database_url, MIGRATIONS)
    catalogue = load_catalogue()
    secret = load_secret(settings.keys_dir, "activity")
    keyring = Keyring(secret)
    reading = Database(settings.database_url)
    digest_event_ids(reading, keyring)
    writing = Database(settings.database_url, connections_max=2, threads=1, look_ups=True)
    signal = Signal()

    gatherer = _gatherer(settings, writing, catalogue, signal)
    channel = open_channel(settings.identity_address, token=service_token(settings, "activity"))
    leases = LeaseKeeper(reading, FEED)
    follower = Follower(
        reading,
        FEED,
        leases=leases,
        open_stream=IdentityFeed(channel).open,
        applier=ConsentProjection(reading, catalogue),
        weight=lambda response: len(response.snapshots),
    )
    server = build_server(settings)
    servicer = ActivityServicer(
        database=reading,
        gatherer=gatherer,
        catalogue=catalogue,
        keyring=keyring,
        subject_secret=load_secret(settings.keys_dir, "subject"),
        page_tokens=PageTokens(secret),
        signal=signal,
        clock=now_us,
        poll_ms=settings.poll_ms,
        window=settings.window_appends,
    )
    _add_servicers(server, servicer, catalogue, reading)
    await serve_until_signal(
        server,
        background=[
            leases.run(),
            follower.run(),
            open_privacy_part(settings, reading, catalogue).run(),
        ],
        closing=[gatherer.close, leases.release, channel.close, writing.close, reading.close],
    )


def _add_servicers(
    server: Server, servicer: ActivityServicer, catalogue: Catalogue, database: Database
) -> None:
    server.add(activity_service_pb2_grpc.add_ActivityServiceServicer_to_server, servicer)
    server.add(scene_service_pb2_grpc.add_SceneServiceServicer_to_server, SceneServicer(catalogue))
    server.add(
        source_service_pb2_grpc.add_SourceServiceServicer_to_server, SourceServicer(catalogue)
    )
    server.add(
        feed_service_pb2_grpc.add_FeedServiceServicer_to_server,
        FeedServicer(database, "activity", (FEED,)),
    )


def _gatherer(
    settings: Settings, database: Database, catalogue: Catalogue, signal: Signal
) -> Gatherer[Submission, Receipt]:
    """The group commit of everything that sources send."""

    def commit(submissions: Sequence[Submission]) -> Sequence[Receipt | Exception]:
        receipts = commit_submissions(
            submissions,
            work=partial(open_journal, database),
            catalogue=catalogue,
            staleness_max_ms=settings.consent_staleness_max_ms,
        )
        signal.set()
        return receipts

    return Gatherer(
        commit,
        weight_max=settings.commit_acts_max,
        waiting_max=settings.waiting_acts_max,
        linger_ms=settings.linger_ms,
    )
