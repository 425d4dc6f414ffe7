"""Identity, put together."""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from carbonaccount.feed.v1 import feed_service_pb2_grpc
from carbonaccount.identity.v1 import (
    account_service_pb2_grpc,
    binding_service_pb2_grpc,
    community_service_pb2_grpc,
    consent_service_pb2_grpc,
    household_service_pb2_grpc,
    privacy_service_pb2_grpc,
    session_service_pb2_grpc,
)

from services.identity.domain.scopes import Scope, read_scopes
from services.identity.domain.strict_rows import ScopesInvalid
from services.identity.keeping import keep
from services.identity.opening import open_vault, settle_notices
from services.identity.privacy_room import open_privacy_room
from services.identity.rpc.account_servicer import AccountServicer
from services.identity.rpc.binding_servicer import BindingServicer
from services.identity.rpc.community_servicer import CommunityServicer
from services.identity.rpc.consent_servicer import ConsentServicer
from services.identity.rpc.desk import Desk
from services.identity.rpc.household_servicer import HouseholdServicer
from services.identity.rpc.receipts import ReceiptBook
from services.identity.rpc.session_servicer import SessionServicer
from services.identity.rpc.tickets import Tickets
from services.identity.settings import Settings
from services.identity.storage.meter import Meter
from services.identity.storage.register import Register
from services.identity.storage.vault import Vault
from services.identity.together import acting_for, ending_of
from services.identity.upstream.bank_tickets import open_bank_tickets
from services.identity.upstream.key_management import FileKeyManagement
from shared.clock import ClockUs, now_us
from shared.feed.progress import FeedServicer
from shared.feed.watch import Signal
from shared.rpc.keyring import Signer
from shared.rpc.paging import PageTokens
from shared.rpc.server import Server
from shared.service import build_server, load_secret, serve_until_signal
from shared.settings import StartRefused
from shared.storage.engine import Database
from shared.storage.migrate import migrate

HERE = Path(__file__).parent
MIGRATIONS = HERE / "storage" / "migrations"


@dataclass
class Assembled:
    """The server, ready to start; what runs beside it, and what is to be closed after it."""

    server: Server
    background: list[Coroutine[Any, Any, None]] = field(default_factory=list)
    closing: list[Callable[[], Awaitable[None] | None]] = field(default_factory=list)


def load_scopes() -> dict[str, Scope]:
    """The catalogue of scopes that ships with the service."""
    try:
        return read_scopes(tomllib.loads((HERE / "catalogue" / "scopes.toml").read_text("utf-8")))
    except (ScopesInvalid, tomllib.TOMLDecodeError) as error:
        raise StartRefused(f"scopes.toml: {error}") from None


def assemble(settings: Settings, clock: ClockUs = now_us) -> Assembled:
    """Everything of the service; needs a running loop."""
    migrate(settings.database_url, MIGRATIONS)
    database = Database(settings.database_url)
    # Watches and batches of checks: apart from writers, and every join by index.
    reads = Database(settings.database_url, connections_max=4, threads=4, look_ups=True)
    secret = load_secret(settings.keys_dir, "identity")
    keys = FileKeyManagement(settings.keys_dir / "wrapping")
    vault = Vault(keys, settings.cipher)
    desk = Desk(
        database=database,
        reads=reads,
        register=partial(Register, vault=vault),
        ending=lambda register: ending_of(register, desk),
        scopes=load_scopes(),
        secret=secret,
        page_tokens=PageTokens(secret),
        signal=Signal(),
        clock=clock,
    )
    open_vault(database, vault, keys)
    settle_notices(desk)
    meter = Meter(database)
    server = build_server(settings)
    _add_servicers(server, settings, desk, meter)
    privacy, packer = open_privacy_room(desk, vault=vault, keys_dir=settings.keys_dir)
    server.add(privacy_service_pb2_grpc.add_PrivacyServiceServicer_to_server, privacy)
    background = [meter.run(), packer.run(), *keep(desk, keys)]
    return Assembled(server, background, [meter.close, database.close, reads.close])


def _add_servicers(server: Server, settings: Settings, desk: Desk, meter: Meter) -> None:
    signer = Signer(settings.keys_dir)
    bank = open_bank_tickets(settings.bank_keys, settings.bank_issuer, settings.keys_dir)
    tickets = Tickets(bank, desk.secret)
    accounts = AccountServicer(
        desk, tickets=tickets, poll_ms=settings.poll_ms, heartbeat_ms=settings.heartbeat_ms
    )
    consents = ConsentServicer(desk, receipts=ReceiptBook(signer, desk.secret), meter=meter)
    sessions = SessionServicer(
        desk, tickets=tickets, keys_dir=settings.keys_dir, acting=acting_for(desk)
    )
    bindings = BindingServicer(desk, subject_secret=load_secret(settings.keys_dir, "subject"))
    households = HouseholdServicer(desk, signer=signer)
    feed = FeedServicer(desk.database, "identity")
    for register, servicer in (
        (account_service_pb2_grpc.add_AccountServiceServicer_to_server, accounts),
        (consent_service_pb2_grpc.add_ConsentServiceServicer_to_server, consents),
        (session_service_pb2_grpc.add_SessionServiceServicer_to_server, sessions),
        (binding_service_pb2_grpc.add_BindingServiceServicer_to_server, bindings),
        (household_service_pb2_grpc.add_HouseholdServiceServicer_to_server, households),
        (
            community_service_pb2_grpc.add_CommunityServiceServicer_to_server,
            CommunityServicer(desk),
        ),
        (feed_service_pb2_grpc.add_FeedServiceServicer_to_server, feed),
    ):
        server.add(register, servicer)


async def serve(settings: Settings) -> None:
    """Serves identity until a signal."""
    assembled = assemble(settings)
    await serve_until_signal(
        assembled.server, background=assembled.background, closing=assembled.closing
    )
