"""People who live together, on a service whose clock the test moves."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from carbonaccount.identity.v1 import account_pb2, account_service_pb2, consent_service_pb2
from carbonaccount.identity.v1 import household_service_pb2 as pb
from carbonaccount.identity.v1.consent_pb2 import Confirmation, Consent, ConsentGrant
from google.type.date_pb2 import Date

from services.identity.upstream.bank_tickets import make_double_ticket
from services.identity.wiring import load_scopes
from shared.ids import account_id_of, civil_day, date_to_day, day_to_date, from_us, to_us
from shared.storage.embedded import EmbeddedPostgres
from tests.identity.identity_house import House, request_id, served, settings_for, stamp

BELONG, HOME = "scopes/household-collect", "scopes/home-collect"
WHOLE = 1_000_000
OPEN = account_pb2.Account.STATE_OPEN
SUSPENDED = account_pb2.Account.STATE_SUSPENDED
CLOSED = account_pb2.Account.STATE_CLOSED
NEW_YEAR = datetime(2026, 1, 1, 4, tzinfo=UTC)
"""Noon of the first day of 2026 in UTC+8."""
DAY = timedelta(days=1)
KINDS = account_service_pb2.AccountEvent.Kind
_scopes = load_scopes()
_taps = itertools.count()


class Clock:
    """The time of the service, standing where the test has put it."""

    def __init__(self, moment: datetime = NEW_YEAR) -> None:
        self._now_us = to_us(moment)

    def __call__(self) -> int:
        return self._now_us

    @property
    def now(self) -> datetime:
        return from_us(self._now_us)

    def set(self, moment: datetime) -> None:
        self._now_us = to_us(moment)

    def pass_days(self, days: int = 1) -> None:
        self.set(self.now + days * DAY)


def day(text: str) -> Date:
    """A date of the contract from 2026-01-02."""
    read = date.fromisoformat(text)
    return Date(year=read.year, month=read.month, day=read.day)


def iso(message: Date) -> str:
    """2026-01-02 of a date of the contract; "" when it is not set."""
    return f"{message.year:04}-{message.month:02}-{message.day:02}" if message.year else ""


def number_of(text: str) -> int:
    """The civil day of 2026-01-02, counted from 1970."""
    return date_to_day(date.fromisoformat(text))


def of(shares: Any) -> dict[str, int]:
    """Parts per million by account, of the shares of a message."""
    return {share.account: share.share_ppm for share in shares}


def periods_of(household: pb.Household) -> list[tuple[str, dict[str, int]]]:
    return [(iso(period.start_date), of(period.shares)) for period in household.share_periods]


def members_of(household: pb.Household) -> list[str]:
    return [member.account for member in household.members]


@dataclass
class Person:
    """A customer who may belong to a household; `acts` is whoever calls for the account."""

    world: World
    account: str
    call: dict[str, Any]
    ref: str = ""

    def grant(self, scope: str = BELONG, **more: Any) -> ConsentGrant:
        """Yes to the notice in force, confirmed on a screen of its own."""
        fields = {
            "scope": scope,
            "notice_digest": _scopes[scope].notice_digest,
            "confirmation": Confirmation(
                confirm_time=stamp(self.world.clock.now), screen=f"household/{next(_taps)}"
            ),
        }
        return ConsentGrant(**{**fields, **more})

    def found(self, name: str = "家", request: str = "", **more: Any) -> pb.Household:
        asked = {
            "parent": self.account, "display_name": name, "consent": self.grant(),
            "request_id": request or request_id(), **more,
        }  # fmt: skip
        return self._do("CreateHousehold", **asked).household

    def invite(self, request: str = "") -> str:
        return self.invitation(request).code

    def invitation(self, request: str = "") -> pb.InviteMemberResponse:
        return self._do("InviteMember", parent=self.account, request_id=request or request_id())

    def accept(self, code: str, request: str = "", **more: Any) -> pb.Household:
        asked = {
            "parent": self.account, "code": code, "consent": self.grant(),
            "request_id": request or request_id(), **more,
        }  # fmt: skip
        return self._do("AcceptInvitation", **asked).household

    def join(self, inviter: Person) -> pb.Household:
        return self.accept(inviter.invite())

    def leave(self, request: str = "") -> str:
        answer = self._do("LeaveHousehold", parent=self.account, request_id=request or request_id())
        return iso(answer.end_date)

    def remove(self, member: Person | str, request: str = "") -> pb.Household:
        name = member if isinstance(member, str) else member.account
        return self._do(
            "RemoveMember", parent=self.account, member=name, request_id=request or request_id()
        ).household

    def split(
        self, *members: Person | str, name: str = "新家", request: str = "", **more: Any
    ) -> pb.SplitHouseholdResponse:
        names = [one if isinstance(one, str) else one.account for one in members]
        asked = {
            "parent": self.account, "members": names, "display_name": name,
            "consent": self.grant(), "request_id": request or request_id(), **more,
        }  # fmt: skip
        return self._do("SplitHousehold", **asked)

    def propose(self, weights: Mapping[str, int], request: str = "") -> pb.Household:
        return self._do(
            "ProposeShares",
            parent=self.account,
            weights=[pb.Weight(account=who, weight=weight) for who, weight in weights.items()],
            request_id=request or request_id(),
        ).household

    def sign(self, number: int, request: str = "") -> pb.Household:
        return self._do(
            "SignShares", parent=self.account, number=number, request_id=request or request_id()
        ).household

    def household(self) -> pb.Household:
        return self._do("GetHousehold", parent=self.account).household

    def memberships(self, page_size: int = 0, page_token: str = "") -> pb.ListMembershipsResponse:
        return self._do(
            "ListMemberships", parent=self.account, page_size=page_size, page_token=page_token
        )

    def shares(self, on: str = "") -> pb.GetSharesResponse:
        return self._do("GetShares", parent=self.account, share_date=day(on) if on else None)

    def consents(self, scope: str = BELONG) -> list[Consent]:
        """Those of the scope, newest first."""
        asked = consent_service_pb2.ListConsentsRequest(parent=self.account, page_size=500)
        found = self.world.house.consents.ListConsents(asked, **self.call).consents
        return [consent for consent in found if consent.scope == scope]

    def revoke(self, consent: Consent | None = None) -> None:
        """Takes the consent back, by itself the one to belong to the household."""
        name = (consent or self.consents()[0]).name
        self.world.house.consents.RevokeConsent(
            consent_service_pb2.RevokeConsentRequest(name=name, request_id=request_id()),
            **self.call,
        )

    def refuse(self) -> None:
        self.world.house.consents.RefuseConsent(
            consent_service_pb2.RefuseConsentRequest(
                parent=self.account, scope=BELONG, notice_digest=_scopes[BELONG].notice_digest,
                request_id=request_id(),
            ),
            **self.call,
        )  # fmt: skip

    def close(self, name: str = "") -> None:
        self.world.house.accounts.CloseAccount(
            account_service_pb2.CloseAccountRequest(
                name=name or self.account, request_id=request_id()
            ),
            **self.call,
        )

    def events(self, account: str = "") -> list[tuple[str, str, str]]:
        """What happened to an account, oldest first: kind, actor, cause."""
        return self.world.events(account or self.account, self.call)

    def also_for(self, account: str) -> Person:
        """The same person with a token that may act for another account too."""
        return self.world.person(self.account, self.ref, acts_for=account)

    def _do(self, method: str, **fields: Any) -> Any:
        request = getattr(pb, f"{method}Request")(**fields)
        return getattr(self.world.house.households, method)(request, **self.call)


@dataclass
class World:
    """One service, its clock and the people who use it."""

    house: House
    clock: Clock

    def open(self, **facts: Any) -> Person:
        """Somebody with an open account and nothing agreed to."""
        customer = self.house.customer(**facts)
        customer.open()
        return self.person(customer.account, customer.customer_ref)

    def child(self, guardian: Person, days: int) -> tuple[Person, Person]:
        """Who turns 14 in so many days and has an account: the child itself, and its guardian
        with the child's account in mind."""
        of_age = day_to_date(civil_day(self.clock()) + days)
        ref = f"child-{next(_taps)}"
        ticket = make_double_ticket(
            self.house.settings.keys_dir, ref, self.clock() // 10**6, guardian_ref=guardian.ref,
            birth_date=of_age.replace(year=of_age.year - 14).isoformat(),
        )  # fmt: skip
        request = account_service_pb2.OpenWardAccountRequest(
            parent=guardian.account, bank_ticket=ticket, account=account_pb2.Account(),
            request_id=request_id(),
        )  # fmt: skip
        account = self.house.accounts.OpenWardAccount(request, **guardian.call).account.name
        call = guardian.also_for(account).call
        return self.person(account, ref), Person(self, account, call, guardian.ref)

    def family(self, size: int) -> list[Person]:
        """A household of `size`, founded today; all but the first are members from tomorrow on."""
        people = [self.open() for _ in range(size)]
        people[0].found()
        for person in people[1:]:
            person.join(people[0])
        return people

    def person(self, account: str, ref: str, *, acts_for: str = "") -> Person:
        """Whoever holds the account, with a token that may act for another one too."""
        facts = {"acts_for": {acts_for: 2**40}} if acts_for else {}
        call = self.house.call("customer", "bank-app", ref, account, **facts)
        return Person(self, account, call, ref)

    def suspend(self, person: Person) -> None:
        """The bank suspends a person's account."""
        self.house.accounts.SuspendAccount(
            account_service_pb2.SuspendAccountRequest(
                name=person.account, cause="a test", request_id=request_id()
            ),
            **self.house.operator,
        )

    def state(self, account: str) -> int:
        """The state of an account."""
        asked = account_service_pb2.GetAccountRequest(name=account, purpose="a test")
        return self.house.accounts.GetAccount(asked, **self.house.service).account.state

    def events(
        self, account: str, call: dict[str, Any] | None = None
    ) -> list[tuple[str, str, str]]:
        """What happened to an account, oldest first: kind, actor, cause."""
        asked = account_service_pb2.ListAccountEventsRequest(parent=account, page_size=500)
        found = self.house.accounts.ListAccountEvents(asked, **(call or self.house.operator))
        return [
            (KINDS.Name(event.kind).removeprefix("KIND_"), event.actor, event.cause)
            for event in reversed(found.events)
        ]

    def shares(self, household: str, on: str = "") -> pb.GetSharesResponse:
        """What a service is told of a household."""
        asked = pb.GetSharesRequest(parent=household, share_date=day(on) if on else None)
        return self.house.households.GetShares(asked, **self.house.service)

    def snapshots_of(self, account: str) -> account_service_pb2.AccountSnapshot:
        """One account as the state feed has it now."""
        shard = account_id_of(account) & 63
        for message in self.house.watch({shard: 0}):
            found = [one for one in message.snapshots if one.account == account]
            if found:
                return found[0]
        raise AssertionError("the watch ended by itself")

    def snapshots(self) -> dict[str, account_service_pb2.AccountSnapshot]:
        """Every account as the state feed has it now."""
        found: dict[str, account_service_pb2.AccountSnapshot] = {}
        stream = self.house.watch()
        for message in stream:
            found |= {snapshot.account: snapshot for snapshot in message.snapshots}
            if message.HasField("complete_time"):
                stream.cancel()
                return found
        raise AssertionError("the watch ended by itself")


@contextmanager
def living(database_url: str, keys_dir: Path) -> Iterator[World]:
    """A running service on the first of January, at noon."""
    clock = Clock()
    with served(settings_for(database_url, keys_dir), clock) as house:
        yield World(house, clock)


@contextmanager
def living_together(postgres: EmbeddedPostgres, places: pytest.TempPathFactory) -> Iterator[World]:
    """One running service for the tests of a module, which put its clock where they want it and
    use people of their own."""
    name = f"households_{next(_taps)}"
    postgres.create_database(name)
    with living(postgres.url(name), places.mktemp("keys")) as world:
        yield world


def signed_payload(jws: str) -> dict[str, Any]:
    """What a JSON Web Signature is about, unverified."""
    part = jws.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
