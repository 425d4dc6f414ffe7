"""Customers and partners who bind, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from carbonaccount.identity.v1 import binding_service_pb2 as pb
from carbonaccount.identity.v1.account_service_pb2 import (
    AccountEvent,
    AccountSnapshot,
    ListAccountEventsRequest,
)
from carbonaccount.identity.v1.consent_pb2 import Consent, ConsentGrant
from google.protobuf.timestamp_pb2 import Timestamp
from identity_house import Customer, House, grant_of, request_id

from services.identity.domain.account import Account, Kind, Person, State
from services.identity.storage.register import Register
from services.identity.storage.vault import Vault
from services.identity.upstream.key_management import FileKeyManagement
from services.identity.usecases.accounts import open_for
from services.identity.usecases.acting import GUARDIAN, Request
from shared.clock import now_us
from shared.ids import account_name, civil_day, from_us, new_account_id, to_us
from shared.storage.engine import Database

BIKE, METRO, UNIONPAY = "sources/bike-demo", "sources/metro-demo", "partners/unionpay-low-carbon"
LINKS = {
    BIKE: "scopes/bike-demo-link",
    METRO: "scopes/metro-demo-link",
    UNIONPAY: "scopes/unionpay-low-carbon-link",
}


class Clock:
    """The time of the service: real, or standing where the test has put it."""

    def __init__(self) -> None:
        self._stands_us: int | None = None

    def __call__(self) -> int:
        return now_us() if self._stands_us is None else self._stands_us

    def stand(self, moment: datetime) -> None:
        """Time stands still from now on."""
        self._stands_us = to_us(moment)

    def run(self) -> None:
        """Real time again."""
        self._stands_us = None

    def stand_after(self, **passed: float) -> None:
        """Time stands still, so much later than it is now."""
        self._stands_us = self() + timedelta(**passed) // timedelta(microseconds=1)


def link(partner: str, **more: Any) -> ConsentGrant:
    """A consent to the link with the partner."""
    return grant_of(LINKS[partner], **more)


def moment(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)


def rider(house: House, *partners: str, **more: Any) -> Customer:
    """A customer with a consent to each of these links."""
    person = house.customer()
    person.open(*(link(partner, **more) for partner in partners))
    return person


def start(
    person: Customer, partner: str = BIKE, consent: ConsentGrant | None = None, request: str = ""
) -> pb.StartBindingResponse:
    return person.house.bindings.StartBinding(
        pb.StartBindingRequest(
            parent=person.account,
            partner=partner,
            consent=consent,
            request_id=request or request_id(),
        ),
        **person.call,
    )


def confirm(
    house: House, code: str, subject: str = "rider-1", partner: str = BIKE, request: str = ""
) -> pb.ConfirmBindingResponse:
    """By the partner itself, of its own subject unless a whole name is given."""
    return house.bindings.ConfirmBinding(
        pb.ConfirmBindingRequest(
            code=code,
            subject=subject if "/" in subject else f"{partner}/subjects/{subject}",
            request_id=request or request_id(),
        ),
        **partner_call(house, partner),
    )


def partner_call(house: House, partner: str) -> dict[str, Any]:
    return house.call(partner.partition("s/")[0], partner)


def bind(person: Customer, subject: str = "rider-1", partner: str = BIKE) -> pb.Binding:
    """Bound, by a consent in force."""
    confirm(person.house, start(person, partner).code, subject, partner)
    return bindings(person)[0]


def bindings(person: Customer) -> list[pb.Binding]:
    """Every binding, newest first."""
    request = pb.ListBindingsRequest(parent=person.account, page_size=500)
    return list(person.house.bindings.ListBindings(request, **person.call).bindings)


def bindings_of(house: House, account: str) -> list[pb.Binding]:
    """Every binding of an account, newest first, as an operator sees them."""
    request = pb.ListBindingsRequest(parent=account, page_size=500)
    return list(house.bindings.ListBindings(request, **house.operator).bindings)


def end(person: Customer, name: str, request: str = "") -> pb.EndBindingResponse:
    return person.house.bindings.EndBinding(
        pb.EndBindingRequest(name=name, request_id=request or request_id()), **person.call
    )


def consent_in_force(person: Customer, partner: str = BIKE) -> Consent:
    return next(
        consent
        for consent in person.consents()
        if consent.scope == LINKS[partner] and consent.state == Consent.STATE_GRANTED
    )


def events(person: Customer) -> list[tuple[str, str, str]]:
    """Kind, actor and resource below the account of all that happened, in order."""
    request = ListAccountEventsRequest(parent=person.account, page_size=500)
    answer = person.house.accounts.ListAccountEvents(request, **person.call)
    return [
        (
            AccountEvent.Kind.Name(event.kind).removeprefix("KIND_"),
            event.actor,
            event.resource.removeprefix(person.account),
        )
        for event in reversed(answer.events)
    ]


def snapshots(house: House) -> dict[str, AccountSnapshot]:
    """Every account as the state feed shows it now."""
    stream = house.watch()
    found = {snapshot.account: snapshot for snapshot in next(stream).snapshots}
    stream.cancel()
    return found


def told(error: grpc.RpcError) -> str:
    """All that a refusal says, as the caller gets it: the message and the bytes of the details."""
    trailing = {key: value for key, value in error.trailing_metadata() if key != "x-request-id"}  # type: ignore[attr-defined]  # a call as well
    return f"{error.code()} {error.details()} {sorted(trailing.items())}"  # type: ignore[attr-defined]


@dataclass
class BackRoom:
    """The storage of a running house, for what no RPC does here."""

    database: Database
    vault: Vault

    def open_child(self, house: House, *grants: Any) -> Customer:
        """The account of a child of 13, opened by a guardian."""
        now = from_us(now_us())
        child = Account(
            new_account_id(), State.OPEN, Kind.PERSONAL, 1,
            Person(own_from_day=civil_day(now_us()) + 300), 1, now, now,
        )  # fmt: skip
        person = house.customer()
        key = child.account_id.to_bytes(16)
        with self.database.transaction() as connection:
            open_for(
                Request(key, key, "OpenWardAccount", "customer", "customer", 0), child, [key],
                grants, register=Register(connection, self.vault), scopes={}, actor=GUARDIAN,
            )  # fmt: skip
        person.account = account_name(child.account_id)
        return person


@contextmanager
def back_room(database_url: str, keys_dir: Path) -> Iterator[BackRoom]:
    database = Database(database_url)
    yield BackRoom(database, Vault(FileKeyManagement(keys_dir / "wrapping")))
    database.close()
