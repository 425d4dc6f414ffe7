"""Identity, put together."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

from carbonaccount.feed.v1 import feed_service_pb2_grpc
from carbonaccount.identity.v1 import account_service_pb2_grpc, consent_service_pb2_grpc

from services.identity.domain.scopes import Scope, read_scopes
from services.identity.rpc.account_servicer import AccountServicer
from services.identity.rpc.consent_servicer import ConsentServicer
from services.identity.settings import Settings
from shared.clock import now_us
from shared.feed.progress import FeedServicer
from shared.feed.watch import Signal
from shared.rpc.server import Server
from shared.service import build_server, load_secret, serve_until_signal
from shared.storage.engine import Database
from shared.storage.migrate import migrate

HERE = Path(__file__).parent
MIGRATIONS = HERE / "storage" / "migrations"


def load_scopes() -> dict[str, Scope]:
    """The catalogue of scopes that ships with the service."""
    return read_scopes(tomllib.loads((HERE / "catalogue" / "scopes.toml").read_text()))


def assemble(settings: Settings) -> tuple[Server, list[Callable[[], None]]]:
    """The server, ready to start, and what is to be closed after it; needs a running loop."""
    migrate(settings.database_url, MIGRATIONS)
    database = Database(settings.database_url)
    # Watches and batches of checks: apart from writers, and every join by index.
    reads = Database(settings.database_url, connections_max=4, threads=4, look_ups=True)
    scopes = load_scopes()
    secret = load_secret(settings.keys_dir, "identity")
    signal = Signal()
    accounts = AccountServicer(
        database=database,
        reads=reads,
        scopes=scopes,
        secret=secret,
        signal=signal,
        clock=now_us,
        poll_ms=settings.poll_ms,
        heartbeat_ms=settings.heartbeat_ms,
    )
    consents = ConsentServicer(
        database=database, reads=reads, scopes=scopes, secret=secret, signal=signal, clock=now_us
    )
    server = build_server(settings)
    server.add(account_service_pb2_grpc.add_AccountServiceServicer_to_server, accounts)
    server.add(consent_service_pb2_grpc.add_ConsentServiceServicer_to_server, consents)
    server.add(feed_service_pb2_grpc.add_FeedServiceServicer_to_server, FeedServicer(database))
    return server, [database.close, reads.close]


async def serve(settings: Settings) -> None:
    """Serves identity until a signal."""
    server, closing = assemble(settings)
    await serve_until_signal(server, closing=closing)
