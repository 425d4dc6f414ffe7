"""Settlement, put together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog
from carbonaccount.feed.v1 import feed_service_pb2_grpc
from carbonaccount.settlement.v1 import ledger_service_pb2_grpc
from sqlalchemy.exc import OperationalError

from services.settlement.followers.assessment_follower import FEED, AssessmentApplier
from services.settlement.privacy_part import open_privacy_part
from services.settlement.rpc.ledger_servicer import LedgerServicer
from services.settlement.settings import Settings
from services.settlement.storage.auditor import audit_shard
from services.settlement.storage.ledger import open_ledger
from services.settlement.upstream.calculation import CalculationFeed
from services.settlement.usecases.audit_book import audit_book
from services.settlement.usecases.post_transfers import Order, Posted, post_transfers
from shared.clock import now_us
from shared.feed.follow import Follower
from shared.feed.leases import LeaseKeeper
from shared.feed.progress import FeedServicer
from shared.feed.watch import Signal
from shared.gather import Gatherer
from shared.log import in_short
from shared.refusal import Refusal
from shared.rpc.channel import open_channel
from shared.rpc.paging import PageTokens
from shared.rpc.server import Server
from shared.service import build_server, load_secret, serve_until_signal, service_token
from shared.storage.engine import Database
from shared.storage.migrate import migrate

MIGRATIONS = Path(__file__).parent / "storage" / "migrations"
_log = structlog.get_logger()


async def serve(settings: Settings) -> None:
    """Serves settlement until a signal."""
    migrate(settings.database_url, MIGRATIONS)
    reading = Database(settings.database_url)
    following = Database(settings.database_url, connections_max=2, threads=1, look_ups=True)
    writing = Database(settings.database_url, connections_max=2, threads=1, look_ups=True)
    signal = Signal()

    gatherer = _gatherer(settings, writing, signal)
    channel = open_channel(
        settings.calculation_address, token=service_token(settings, "settlement")
    )
    leases = LeaseKeeper(reading, FEED)
    applier = AssessmentApplier(following, signal.set)
    follower = Follower(
        reading,
        FEED,
        leases=leases,
        open_stream=CalculationFeed(channel).open,
        applier=applier,
        weight=lambda response: sum(run.count for run in response.runs),
        weight_max=settings.run_acts_max,
    )

    server = build_server(settings)
    _add_servicers(server, settings, reading, gatherer, signal)
    await serve_until_signal(
        server,
        background=[
            leases.run(),
            follower.run(),
            _auditing(settings, reading),
            open_privacy_part(settings, reading).run(),
        ],
        closing=[
            gatherer.close,
            leases.release,
            channel.close,
            applier.close,
            following.close,
            writing.close,
            reading.close,
        ],
    )


def _add_servicers(
    server: Server,
    settings: Settings,
    database: Database,
    gatherer: Gatherer[Order, list[Posted | Refusal]],
    signal: Signal,
) -> None:
    server.add(
        ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server,
        LedgerServicer(
            database=database,
            gatherer=gatherer,
            page_tokens=PageTokens(load_secret(settings.keys_dir, "settlement")),
            signal=signal,
            clock=now_us,
            poll_ms=settings.poll_ms,
        ),
    )
    server.add(
        feed_service_pb2_grpc.add_FeedServiceServicer_to_server,
        FeedServicer(database, "settlement", (FEED,)),
    )


def _gatherer(
    settings: Settings, database: Database, signal: Signal
) -> Gatherer[Order, list[Posted | Refusal]]:
    """The group commit of transfers that siblings ask for."""

    def commit(orders: Sequence[Order]) -> Sequence[list[Posted | Refusal] | Exception]:
        answers = post_transfers(orders, work=partial(open_ledger, database))
        signal.set()
        return answers

    return Gatherer(
        commit,
        weight_max=settings.commit_transfers_max,
        waiting_max=settings.waiting_transfers_max,
        linger_ms=settings.linger_ms,
    )


async def _auditing(settings: Settings, database: Database) -> None:
    """The standing auditor, for ever."""

    async def audit(shard: int) -> bool:
        try:
            return await database.call(lambda c: audit_shard(c, shard))
        except OperationalError as error:  # the database is away; the next round audits again
            _log.warning("audit.postponed", error=in_short(error))
            return True

    await audit_book(
        audit,
        interval_ms=settings.audit_interval_ms,
        failed=lambda shard: _log.error("audit.does_not_add_up", shard=shard),
    )
