"""People of the bank who sign in, open, consent, bind, live together, and end it all."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from carbonaccount.identity.v1 import (
    account_pb2,
    account_service_pb2_grpc,
    binding_service_pb2_grpc,
    community_service_pb2_grpc,
    consent_service_pb2_grpc,
    household_service_pb2_grpc,
    privacy_service_pb2_grpc,
    session_service_pb2_grpc,
)
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import binding_service_pb2 as binding_pb
from carbonaccount.identity.v1 import community_service_pb2 as community_pb
from carbonaccount.identity.v1 import consent_service_pb2 as consent_pb
from carbonaccount.identity.v1 import household_service_pb2 as household_pb
from carbonaccount.identity.v1 import session_service_pb2 as session_pb

from services.identity.upstream.bank_tickets import make_double_ticket
from services.launch.people import People
from tests.journeys.planted_calls import Caller, Cast
from tests.journeys.planted_values import word
from tests.suite import BIKE, METRO, refusal

TRAVEL, FINANCE, READING = (
    "scopes/travel-collect", "scopes/finance-collect", "scopes/reading-collect"
)  # fmt: skip
HOUSEHOLD = "scopes/household-collect"


def request_id() -> str:
    return str(uuid.uuid4())


def link_to(source: str) -> str:
    """The scope that links a source."""
    return source.replace("sources/", "scopes/") + "-link"


@dataclass
class Person:
    """A customer with the bank's app. `who` says whose values it may see: a child's are the
    guardian's too."""

    cast: Cast
    people: People
    who: str
    facts: dict[str, str] = field(default_factory=dict)
    account: str = ""
    session: Any = None
    subjects: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.customer_ref = self.plant("customer_ref of a ticket", word())
        for name in self.facts.keys() - {"customer_kind"}:
            self.plant(f"{name} of a ticket", self.facts[name])
        token = lambda: self.session.access_token  # noqa: E731 - the newest at each call
        of = partial(self.cast.channel, "identity", Caller("customer", self.who))
        own, public = of(token), of(None)
        self.sessions = session_service_pb2_grpc.SessionServiceStub(public)
        self.accounts = account_service_pb2_grpc.AccountServiceStub(own)
        self.consents = consent_service_pb2_grpc.ConsentServiceStub(own)
        self.bindings = binding_service_pb2_grpc.BindingServiceStub(own)
        self.households = household_service_pb2_grpc.HouseholdServiceStub(own)
        self.communities = community_service_pb2_grpc.CommunityServiceStub(own)
        self.privacy = privacy_service_pb2_grpc.PrivacyServiceStub(own)
        self.token = token

    def plant(self, where: str, text: str) -> str:
        return self.cast.evidence.planted.note(text, where, self.who, taken=True)

    def ticket(self) -> str:
        """A ticket of the bank for this customer."""
        return make_double_ticket(
            self.cast.layout.keys, self.customer_ref, int(time.time()), **self.facts
        )

    async def grants(self, scopes: Iterable[str]) -> list[Any]:
        """Yes to these scopes, each confirmed on a screen of a planted name."""
        grants = await self.people.grants(scopes)
        for grant in grants:
            grant.confirmation.confirm_time.GetCurrentTime()
            grant.confirmation.screen = f"screen/{word()}"
        return grants

    async def sign_in(self) -> None:
        asked = session_pb.CreateSessionRequest(bank_ticket=self.ticket(), request_id=request_id())
        self.session = (await self.sessions.CreateSession(asked)).session
        self.account = self.session.account

    async def refresh(self) -> None:
        asked = session_pb.RefreshSessionRequest(
            refresh_token=self.session.refresh_token, request_id=request_id()
        )
        self.session = (await self.sessions.RefreshSession(asked)).session
        self.account = self.session.account

    async def open(self, *scopes: str) -> Any:
        """Signs in and opens the account; name and region are planted on the way."""
        await self.sign_in()
        asked = account_pb.OpenAccountRequest(
            account=account_pb2.Account(), consents=await self.grants(scopes),
            request_id=request_id(),
        )  # fmt: skip
        await self.accounts.OpenAccount(asked)
        await self.refresh()
        shown = await self.accounts.GetAccount(account_pb.GetAccountRequest(name=self.account))
        # What was sealed comes back to its holder.
        assert shown.account.display_name == asked.account.display_name
        assert shown.account.region_code == asked.account.region_code
        return asked.account

    async def rename(self) -> None:
        asked = account_pb.UpdateAccountRequest(
            account=account_pb2.Account(name=self.account), request_id=request_id()
        )
        asked.update_mask.paths[:] = ["display_name", "region_code"]
        answer = await self.accounts.UpdateAccount(asked)
        assert answer.account.display_name == asked.account.display_name

    async def decide(self) -> None:
        """Grants, takes back, refuses."""
        [reading] = await self.grants([READING])
        asked = consent_pb.GrantConsentRequest(
            parent=self.account, consent=reading, request_id=request_id()
        )
        granted = await self.consents.GrantConsent(asked)
        await self.consents.RevokeConsent(
            consent_pb.RevokeConsentRequest(name=granted.consent.name, request_id=request_id())
        )
        await self.consents.RefuseConsent(
            consent_pb.RefuseConsentRequest(
                parent=self.account, scope=READING, notice_digest=reading.notice_digest,
                request_id=request_id(),
            )
        )  # fmt: skip

    async def bind(self, source: str) -> None:
        """Binds the partner's user, whom the partner calls by a planted word."""
        [link] = await self.grants([link_to(source)])
        started = await self.bindings.StartBinding(
            binding_pb.StartBindingRequest(
                parent=self.account, partner=source, consent=link, request_id=request_id()
            )
        )
        self.subjects[source] = f"{source}/subjects/{self.plant('user of a partner', word())}"
        partner = self.cast.staff("identity", "source", source)
        await binding_service_pb2_grpc.BindingServiceStub(partner).ConfirmBinding(
            binding_pb.ConfirmBindingRequest(
                code=started.code, subject=self.subjects[source], request_id=request_id()
            )
        )

    async def join(self, code: str) -> None:
        """Joins a community by its code, and leaves it."""
        joined = await self.communities.JoinCommunity(
            community_pb.JoinCommunityRequest(
                parent=self.account, code=code, request_id=request_id()
            )
        )
        await self.communities.LeaveCommunity(
            community_pb.LeaveCommunityRequest(
                parent=self.account, community=joined.community.name, request_id=request_id()
            )
        )


async def open_for_child(guardian: Person, child: Person) -> None:
    """The guardian opens the child's account by the bank's ticket for the child."""
    asked = account_pb.OpenWardAccountRequest(
        parent=guardian.account, bank_ticket=child.ticket(), account=account_pb2.Account(),
        consents=await guardian.grants([TRAVEL]), request_id=request_id(),
    )  # fmt: skip
    opened = await guardian.accounts.OpenWardAccount(asked)
    assert opened.account.guarded_account  # the birthday was understood
    await guardian.refresh()
    name = account_pb.GetAccountRequest(name=opened.account.name)
    shown = await guardian.accounts.GetAccount(name)
    assert shown.account.display_name == asked.account.display_name
    await child.sign_in()
    assert child.account == opened.account.name  # and so was the reference of the relation
    await child.accounts.GetAccount(name)


async def live_together(head: Person, other: Person) -> None:
    """A household with a name, an invitation, and a split with another name."""
    [consent] = await head.grants([HOUSEHOLD])
    founded = household_pb.CreateHouseholdRequest(
        parent=head.account, consent=consent, request_id=request_id()
    )
    await head.households.CreateHousehold(founded)
    invited = await head.households.InviteMember(
        household_pb.InviteMemberRequest(parent=head.account, request_id=request_id())
    )
    [consent] = await other.grants([HOUSEHOLD])
    accepted = household_pb.AcceptInvitationRequest(
        parent=other.account, code=invited.code, consent=consent, request_id=request_id()
    )
    await other.households.AcceptInvitation(accepted)
    shown = await other.households.GetHousehold(
        household_pb.GetHouseholdRequest(parent=other.account)
    )
    assert shown.household.display_name == founded.display_name
    await other.households.SplitHousehold(
        household_pb.SplitHouseholdRequest(
            parent=other.account, members=[head.account], consent=consent, request_id=request_id()
        )
    )


async def everybody(cast: Cast, people: People) -> tuple[Person, Person, Person]:
    """A parent with a child, and the other grown-up of the household."""
    parent = Person(cast, people, "family", {"person_ref": word(), "birth_date": "1983-02-17",
                                             "customer_kind": "cardholder"})  # fmt: skip
    child = Person(cast, people, "family", {"person_ref": word(), "birth_date": "2016-02-19",
                                            "guardian_ref": parent.customer_ref})  # fmt: skip
    other = Person(cast, people, "other", {"person_ref": word()})
    await parent.open(TRAVEL, FINANCE)
    await parent.rename()
    await parent.decide()
    again = Person(cast, people, "family", {"person_ref": parent.facts["person_ref"]})
    await again.sign_in()
    assert again.account == parent.account  # the person was recognised
    await open_for_child(parent, child)
    await other.open(TRAVEL)
    for person in (parent, other):
        await person.bind(BIKE)
    await parent.bind(METRO)
    operator = cast.staff("identity", "operator", "operators/planted")
    made = await community_service_pb2_grpc.CommunityServiceStub(operator).CreateCommunity(
        community_pb.CreateCommunityRequest(
            kind=community_pb.Community.KIND_SCHOOL, title_zh=f"学校{word()}",
            title_en=f"School {word()}", request_id=request_id(),
        )
    )  # fmt: skip
    await parent.join(made.code)
    await live_together(parent, other)
    wrong = community_pb.JoinCommunityRequest(parent=parent.account, request_id=request_id())
    assert (await refusal(parent.communities.JoinCommunity(wrong)))[1] == "CODE_INVALID"
    return parent, child, other
