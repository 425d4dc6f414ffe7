"""Identity, put together."""

from __future__ import annotations

import tomllib
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
from shared.rpc.paging import PageTokens
from shared.service import build_server, load_secret, serve_until_signal
from shared.storage.engine import Database
from shared.storage.migrate import migrate

HERE = Path(__file__).parent
MIGRATIONS = HERE / "storage" / "migrations"


def load_scopes() -> dict[str, Scope]:
    """The catalogue of scopes that ships with the service."""
    return read_scopes(tomllib.loads((HERE / "catalogue" / "scopes.toml").read_text()))


async def serve(settings: Settings) -> None:
    """Serves identity until a signal."""
    migrate(settings.database_url, MIGRATIONS)
    database = Database(settings.database_url)
    scopes = load_scopes()
    secret = load_secret(settings.keys_dir, "identity")
    signal = Signal()
    server = build_server(settings)
    server.add(
        account_service_pb2_grpc.add_AccountServiceServicer_to_server,
        AccountServicer(
            database=database,
            scopes=scopes,
            secret=secret,
            signal=signal,
            clock=now_us,
            heartbeat_ms=settings.heartbeat_ms,
        ),
    )
    server.add(
        consent_service_pb2_grpc.add_ConsentServiceServicer_to_server,
        ConsentServicer(
            database=database,
            scopes=scopes,
            page_tokens=PageTokens(secret),
            signal=signal,
            clock=now_us,
        ),
    )
    server.add(feed_service_pb2_grpc.add_FeedServiceServicer_to_server, FeedServicer(database))
    await serve_until_signal(server, closing=[database.close])
