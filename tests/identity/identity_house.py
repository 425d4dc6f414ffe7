"""A running identity service, and the people and programs that call it."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from carbonaccount.identity.v1 import account_pb2, account_service_pb2, consent_service_pb2
from carbonaccount.identity.v1 import account_service_pb2_grpc as account_grpc
from carbonaccount.identity.v1 import binding_service_pb2_grpc as binding_grpc
from carbonaccount.identity.v1 import community_service_pb2_grpc as community_grpc
from carbonaccount.identity.v1 import consent_service_pb2_grpc as consent_grpc
from carbonaccount.identity.v1 import household_service_pb2_grpc as household_grpc
from carbonaccount.identity.v1 import privacy_service_pb2_grpc as privacy_grpc
from carbonaccount.identity.v1 import session_service_pb2_grpc as session_grpc
from carbonaccount.identity.v1.consent_pb2 import Confirmation, Consent, ConsentGrant
from carbonaccount.type.v1.cursor_pb2 import ShardCursor
from google.protobuf.timestamp_pb2 import Timestamp

from services.identity.settings import Settings
from services.identity.wiring import assemble, load_scopes
from shared.clock import ClockUs, now_us
from shared.rpc.status import reason_of
from shared.rpc.tokens import load_or_make_key, make_token

TRAVEL, FINANCE, READING = (
    "scopes/travel-collect",
    "scopes/finance-collect",
    "scopes/reading-collect",
)
MICROSECOND = timedelta(microseconds=1)
OFFERED = datetime(2026, 3, 31, 16, tzinfo=UTC)
"""The earliest moment that the notices of travel and finance offer: 2026-04-01 in UTC+8."""


def stamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def soon(seconds: float) -> Timestamp:
    return stamp(datetime.now(UTC) + timedelta(seconds=seconds))


def request_id() -> str:
    return str(uuid.uuid4())


SCOPES = load_scopes()
_taps = itertools.count()


def grant_of(scope: str, **more: Any) -> ConsentGrant:
    """What a customer says who read the notice in force, and confirmed where that is needed."""
    known = SCOPES[scope]
    fields: dict[str, Any] = {"scope": scope, "notice_digest": known.notice_digest}
    if known.sensitive:
        fields["confirmation"] = confirmation()
    if known.mandate is not None:
        fields["mandate_digest"] = known.mandate.mandate_digest
    return ConsentGrant(**{**fields, **more})


def confirmation(seconds: float = 0, screen: str = "") -> Confirmation:
    """A tap of its own, `seconds` from now."""
    return Confirmation(confirm_time=soon(seconds), screen=screen or f"test/{next(_taps)}")


@contextmanager
def refused(reason: str) -> Iterator[pytest.ExceptionInfo[grpc.RpcError]]:
    """Holds that what happens inside is refused for this reason."""
    with pytest.raises(grpc.RpcError) as error:
        yield error
    assert reason_of(error.value) == reason, error.value


@dataclass
class Customer:
    """A bank customer with a phone."""

    house: House
    customer_ref: str
    account: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def call(self) -> dict[str, Any]:
        """Keyword arguments of a call by this customer; `facts` are the bank's, or other claims."""
        return self.house.call(
            "customer", "bank-app", self.customer_ref, self.account, **self.facts
        )

    def open(
        self,
        *grants: ConsentGrant,
        name: str = "",
        region: str = "",
        request: str = "",
    ) -> account_service_pb2.OpenAccountResponse:
        answer = self.house.accounts.OpenAccount(
            account_service_pb2.OpenAccountRequest(
                account=account_pb2.Account(display_name=name, region_code=region),
                consents=grants,
                request_id=request or request_id(),
            ),
            **self.call,
        )
        self.account = answer.account.name
        return answer

    def grant(self, grant: ConsentGrant, request: str = "") -> Consent:
        return self.house.consents.GrantConsent(
            consent_service_pb2.GrantConsentRequest(
                parent=self.account, consent=grant, request_id=request or request_id()
            ),
            **self.call,
        ).consent

    def revoke(self, name: str, request: str = "") -> Consent:
        return self.house.consents.RevokeConsent(
            consent_service_pb2.RevokeConsentRequest(name=name, request_id=request or request_id()),
            **self.call,
        ).consent

    def close(self, request: str = "") -> account_pb2.Account:
        return self.house.accounts.CloseAccount(
            account_service_pb2.CloseAccountRequest(
                name=self.account, request_id=request or request_id()
            ),
            **self.call,
        ).account

    def consents(self) -> list[Consent]:
        """Every consent, newest first."""
        asked = consent_service_pb2.ListConsentsRequest(parent=self.account, page_size=500)
        return list(self.house.consents.ListConsents(asked, **self.call).consents)


class House:
    """One identity service behind a free port, and stubs to call it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._key = load_or_make_key(settings.keys_dir)
        self.channel = grpc.insecure_channel(settings.listen)
        self.accounts = account_grpc.AccountServiceStub(self.channel)
        self.consents = consent_grpc.ConsentServiceStub(self.channel)

        self.sessions = session_grpc.SessionServiceStub(self.channel)
        self.bindings = binding_grpc.BindingServiceStub(self.channel)
        self.households = household_grpc.HouseholdServiceStub(self.channel)
        self.communities = community_grpc.CommunityServiceStub(self.channel)
        self.privacy = privacy_grpc.PrivacyServiceStub(self.channel)

    def call(
        self, kind: str, name: str, customer_ref: str = "", account: str = "", **facts: Any
    ) -> dict[str, Any]:
        """Keyword arguments of a call by such a caller; `facts` are other claims of the token."""
        token = make_token(
            self._key, kind, name, customer_ref=customer_ref, account=account, **facts
        )
        return {"metadata": [("authorization", f"Bearer {token}")], "timeout": 30}

    @property
    def service(self) -> dict[str, Any]:
        return self.call("service", "services/activity")

    @property
    def operator(self) -> dict[str, Any]:
        return self.call("operator", "operators/desk")

    def customer(self, **facts: Any) -> Customer:
        """A person of whom the bank says `facts` in the token."""
        return Customer(self, f"bank-{secrets.token_hex(8)}", facts=facts)

    def customer_like(self, person: Customer) -> Customer:
        """The same person, calling this service."""
        return Customer(self, person.customer_ref, person.account, person.facts)

    def watch(self, cursors: dict[int, int] | None = None) -> Any:
        """A stream of the shards of `cursors`, of all from the beginning without any."""
        wanted = cursors if cursors is not None else dict.fromkeys(range(64), 0)
        request = account_service_pb2.WatchAccountsRequest(
            cursors=[ShardCursor(shard=s, position=p) for s, p in wanted.items()]
        )
        return self.accounts.WatchAccounts(request, **self.service)

    def sql(self, query: str, *parameters: Any) -> list[Any]:
        """Rows of a query, for looking behind the curtain."""
        address = self.settings.database_url.replace("+psycopg", "")
        with psycopg.connect(address) as connection:
            return connection.execute(query, parameters).fetchall()  # type: ignore[arg-type]

    def close(self) -> None:
        self.channel.close()


@contextmanager
def served(settings: Settings, clock: ClockUs = now_us) -> Iterator[House]:
    """Identity as its own process would serve it, on a loop of its own thread."""
    load_or_make_key(settings.keys_dir)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    async def build() -> Any:
        assembled = assemble(settings, clock)
        await assembled.server.start()
        return assembled, [asyncio.create_task(work) for work in assembled.background]

    async def end(assembled: Any, tasks: list[Any]) -> None:
        await assembled.server.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for close in assembled.closing:
            result = close()
            if result is not None:
                await result

    running = wait(build())
    house = House(settings)
    try:
        yield house
    finally:
        house.close()
        wait(end(*running))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def settings_for(database_url: str, keys_dir: Path) -> Settings:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    return Settings(database_url=database_url, listen=listen, keys_dir=keys_dir, grace_ms=500)
