"""Sessions and accounts behind a real server, a bank that signs tickets, and phones."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import psycopg
from carbonaccount.identity.v1 import account_pb2, session_service_pb2, session_service_pb2_grpc
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as account_grpc
from joserfc import jwt
from joserfc.jwk import ECKey

from services.identity.rpc.account_servicer import AccountServicer
from services.identity.rpc.desk import Desk
from services.identity.rpc.session_servicer import SessionServicer
from services.identity.rpc.tickets import Tickets
from services.identity.storage.register import Register
from services.identity.storage.vault import Vault
from services.identity.together import acting_for
from services.identity.upstream.bank_tickets import AUDIENCE, BankTickets
from services.identity.upstream.key_management import FileKeyManagement
from services.identity.usecases.ending import Ending
from services.identity.wiring import MIGRATIONS, load_scopes
from shared.clock import now_us
from shared.feed.watch import Signal
from shared.ids import from_us
from shared.rpc.jwks import json_web_key_set
from shared.rpc.keyring import Signer
from shared.rpc.paging import PageTokens
from shared.rpc.server import Server
from shared.rpc.tokens import VERIFYING_FILE, TokenVerifier, load_or_make_key
from shared.service import load_secret
from shared.storage.engine import Database
from shared.storage.migrate import migrate

ISSUER = "a bank"
Session = session_service_pb2.Session


def request_id() -> str:
    return str(uuid.uuid4())


class Clock:
    """The real clock, moved as a test wants, or stopped."""

    ahead_s = 0
    stopped_us: int | None = None

    def __call__(self) -> int:
        now = now_us() if self.stopped_us is None else self.stopped_us
        return now + self.ahead_s * 10**6

    def stop(self) -> None:
        """Stands at the beginning of a second, and goes on by `ahead_s` alone."""
        self.stopped_us = self() // 10**6 * 10**6

    @property
    def now_s(self) -> int:
        return self() // 10**6


class Bank:
    """A bank with a key that it publishes, and tickets as it or a forger would sign them."""

    def __init__(self, directory: Path, clock: Callable[[], int] = now_us) -> None:
        self.key = ECKey.generate_key("P-256")
        self.keys_file = directory / "bank.jwks"
        self._clock = clock
        jwk = {**self.key.as_dict(private=False), "kid": "bank-1"}
        self.keys_file.write_text(json_web_key_set([jwk]))

    def ticket(
        self,
        customer_ref: str = "",
        *,
        header: Mapping[str, Any] | None = None,
        key: Any = None,
        **changed: Any,
    ) -> str:
        """A good ticket, but for the claims that `changed` names; None takes one away."""
        now_s = self._clock() // 10**6
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": customer_ref or f"relation-{secrets.token_hex(8)}",
            "jti": secrets.token_hex(8),
            "iat": now_s,
            "exp": now_s + 60,
            **changed,
        }
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(
            {"alg": "ES256", "kid": "bank-1", **(header or {})}, kept, key or self.key
        )


@dataclass
class Phone:
    """A customer's app, with the newest session it has."""

    house: SessionHouse
    customer_ref: str
    facts: dict[str, Any] = field(default_factory=dict)
    session: Session = field(default_factory=Session)

    @property
    def call(self) -> dict[str, Any]:
        return bearer(self.session.access_token)

    def sign_in(self, request: str = "", ticket: str = "") -> Session:
        ticket = ticket or self.house.bank.ticket(self.customer_ref, **self.facts)
        self.session = self.house.create(ticket, request or request_id())
        return self.session

    def refresh(self, request: str = "") -> Session:
        self.session = self.house.refresh(self.session.refresh_token, request or request_id())
        return self.session

    def sign_out(self) -> None:
        self.house.delete(self.session.name, **self.call)

    def open_account(self) -> str:
        """Opens the account and refreshes, as an app does."""
        asked = account_pb.OpenAccountRequest(
            account=account_pb2.Account(display_name="x"), request_id=request_id()
        )
        self.house.accounts.OpenAccount(asked, **self.call)
        return self.refresh().account

    def open_ward(self, born: date) -> str:
        """Opens an account for a child of whom the bank says who the guardian is."""
        ticket = self.house.bank.ticket(guardian_ref=self.customer_ref, birth_date=born.isoformat())
        asked = account_pb.OpenWardAccountRequest(
            parent=self.session.account, bank_ticket=ticket, request_id=request_id(),
            account=account_pb2.Account(display_name="x"),
        )  # fmt: skip
        return self.house.accounts.OpenWardAccount(asked, **self.call).account.name

    def events(self) -> list[tuple[str, str]]:
        """Kind and cause of what happened to the account, oldest first."""
        asked = account_pb.ListAccountEventsRequest(parent=self.session.account, page_size=100)
        answer = self.house.accounts.ListAccountEvents(asked, **self.call)
        word = account_pb.AccountEvent.Kind.Name
        return [(word(e.kind).removeprefix("KIND_"), e.cause) for e in reversed(answer.events)]


def bearer(token: str) -> dict[str, Any]:
    return {"metadata": [("authorization", f"Bearer {token}")], "timeout": 30}


class SessionHouse:
    """Accounts and sessions of identity, as wiring puts them together, and stubs to call them."""

    def __init__(self, database_url: str, directory: Path, verifier: Any = None) -> None:
        self.database_url, self.keys = database_url, directory / "keys"
        self.clock = Clock()
        self.bank = Bank(directory, self.clock)
        self.tickets: Any = verifier or BankTickets(self.bank.keys_file, ISSUER)
        self.secret = b""
        self.channel: grpc.Channel
        self.database: Database

    def start(self) -> Server:
        """Needs a running loop."""
        migrate(self.database_url, MIGRATIONS)
        load_or_make_key(self.keys)
        Signer(self.keys)
        self.secret = load_secret(self.keys, "identity")
        self.database = Database(self.database_url)
        vault = Vault(FileKeyManagement(self.keys / "wrapping"))
        desk = Desk(
            database=self.database, reads=self.database, register=partial(Register, vault=vault),
            ending=lambda _register: Ending([]), scopes=load_scopes(), secret=self.secret,
            page_tokens=PageTokens(self.secret), signal=Signal(), clock=self.clock,
        )  # fmt: skip
        tickets = Tickets(self.tickets, self.secret)
        accounts = AccountServicer(desk, tickets=tickets, poll_ms=50, heartbeat_ms=100)
        sessions = SessionServicer(
            desk, tickets=tickets, keys_dir=self.keys, acting=acting_for(desk)
        )
        server = Server(
            "127.0.0.1:0", verifier=TokenVerifier(self.keys / VERIFYING_FILE), grace_ms=500
        )
        server.add(account_grpc.add_AccountServiceServicer_to_server, accounts)
        server.add(session_service_pb2_grpc.add_SessionServiceServicer_to_server, sessions)
        return server

    def connect(self, port: int) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.accounts = account_grpc.AccountServiceStub(self.channel)
        self.sessions = session_service_pb2_grpc.SessionServiceStub(self.channel)

    def phone(self, customer_ref: str = "", **facts: Any) -> Phone:
        return Phone(self, customer_ref or f"relation-{secrets.token_hex(8)}", facts)

    def holder(self, **facts: Any) -> Phone:
        """A signed-in customer with an account."""
        phone = self.phone(**facts)
        phone.sign_in()
        phone.open_account()
        return phone

    def create(self, ticket: str, request: str = "") -> Session:
        asked = session_service_pb2.CreateSessionRequest(
            bank_ticket=ticket, request_id=request or request_id()
        )
        return self.sessions.CreateSession(asked, timeout=30).session

    def refresh(self, token: str, request: str = "") -> Session:
        asked = session_service_pb2.RefreshSessionRequest(
            refresh_token=token, request_id=request or request_id()
        )
        return self.sessions.RefreshSession(asked, timeout=30).session

    def delete(self, name: str, **call: Any) -> None:
        self.sessions.DeleteSession(session_service_pb2.DeleteSessionRequest(name=name), **call)

    def signing_keys(self) -> session_service_pb2.ListSigningKeysResponse:
        return self.sessions.ListSigningKeys(
            session_service_pb2.ListSigningKeysRequest(), timeout=30
        )

    def sql(self, query: str, *parameters: Any) -> list[Any]:
        address = self.database_url.replace("+psycopg", "")
        with psycopg.connect(address) as connection:
            return connection.execute(query, parameters).fetchall()  # type: ignore[arg-type]

    @property
    def now(self) -> datetime:
        return from_us(self.clock())


@contextmanager
def sessions_served(
    database_url: str, directory: Path, verifier: Any = None
) -> Iterator[SessionHouse]:
    """A running house, on a loop of its own thread."""
    house = SessionHouse(database_url, directory, verifier)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    async def start() -> Server:
        server = house.start()
        await server.start()
        return server

    server = wait(start())
    house.connect(server.port)
    try:
        yield house
    finally:
        house.channel.close()
        wait(server.stop())
        house.database.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def claims_of(token: str) -> dict[str, Any]:
    """What an access token says, unverified."""
    body = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims
