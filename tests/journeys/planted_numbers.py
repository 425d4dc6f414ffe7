"""Numbers that name a person, and one of an order, in every text that refuses the former."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import grpc.aio
from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as account_grpc
from carbonaccount.identity.v1 import binding_service_pb2 as binding_pb
from carbonaccount.identity.v1 import binding_service_pb2_grpc as binding_grpc
from carbonaccount.identity.v1 import consent_service_pb2 as consent_pb
from carbonaccount.identity.v1 import privacy_service_pb2 as privacy_pb
from carbonaccount.identity.v1 import privacy_service_pb2_grpc as privacy_grpc

from shared.rpc.status import reason_of
from tests.journeys.planted_acts import record, source_of
from tests.journeys.planted_calls import Cast
from tests.journeys.planted_people import READING, Person, link_to, request_id
from tests.journeys.planted_values import order_number
from tests.suite import BANK, BENCH, METRO, ride

NUMBERS = {
    "phone": "13800138000",
    "phone with its country": "+86 138-0013-8000",
    "card": "6222020000000000000",
    "card in fours": "4111 1111 1111 1111",
    "identity number": "11010519491231002X",
}
Call = Callable[[str], Awaitable[Any]]
Request = activity_pb.IngestActivitiesRequest


@dataclass(frozen=True)
class Answer:
    """What was said to a number in a field: the reason, or "" when it was taken."""

    field: str
    number: str
    reason: str
    message: str


def of_sources(cast: Cast, person: Person) -> dict[str, Call]:
    """The fields by which a source names an event, an act, its user, its stream."""
    paid = {"scene": "scenes/utility-payment", "measures": {"count": 1}}
    metro = {"scene": "scenes/metro-ride"}

    async def event_id(text: str) -> None:
        await record(cast, BENCH, ride(person.account, text))

    async def claim(text: str) -> None:
        await record(cast, BANK, ride(person.account, order_number(), claim=text, **paid))

    async def subject(text: str) -> None:
        named = f"{METRO}/subjects/{text}"
        await record(cast, METRO, ride("", order_number(), subject=named, **metro))

    async def lane(text: str) -> None:
        async def requests() -> Any:
            yield Request(open=Request.Open(lane=text))

        async for _ in source_of(cast, BENCH).IngestActivities(requests()):
            pass

    async def withdrawn(text: str) -> None:
        made = await record(cast, BENCH, ride(person.account, order_number()))
        await source_of(cast, BENCH).WithdrawActivity(
            activity_pb.WithdrawActivityRequest(name=made.activity, cause=text)
        )

    return {
        "ActivityReport.source_event_id": event_id,
        "ActivityReport.claim": claim,
        "ActivityReport.subject": subject,
        "Open.lane": lane,
        "WithdrawActivityRequest.cause": withdrawn,
    }


def of_people(cast: Cast, person: Person) -> dict[str, Call]:
    """What a partner calls a person, and the screen on which the person said yes."""

    codes: list[str] = []

    async def bound(text: str) -> None:
        if not codes:
            [link] = await person.grants([link_to(METRO)])
            asked = binding_pb.StartBindingRequest(
                parent=person.account, partner=METRO, consent=link, request_id=request_id()
            )
            codes.append((await person.bindings.StartBinding(asked)).code)
        partner = binding_grpc.BindingServiceStub(cast.staff("identity", "source", METRO))
        await partner.ConfirmBinding(
            binding_pb.ConfirmBindingRequest(
                code=codes[0], subject=f"{METRO}/subjects/{text}", request_id=request_id()
            )
        )

    async def screen(text: str) -> None:
        [grant] = await person.grants([READING])
        grant.confirmation.screen = f"app/{text}"
        await person.consents.GrantConsent(
            consent_pb.GrantConsentRequest(
                parent=person.account, consent=grant, request_id=request_id()
            )
        )

    return {"ConfirmBindingRequest.subject": bound, "Confirmation.screen": screen}


def of_staff(cast: Cast, person: Person) -> dict[str, Call]:
    """Why an account is read, suspended, closed, erased: the last two refuse any text here."""
    channel = cast.staff("identity", "operator", "operators/planted")
    accounts = account_grpc.AccountServiceStub(channel)
    privacy = privacy_grpc.PrivacyServiceStub(channel)
    named = partial(dict, name=person.account)

    async def looked_up(text: str) -> None:
        asked = account_pb.LookUpAccountRequest(customer_ref=person.customer_ref, purpose=text)
        await accounts.LookUpAccount(asked)

    def caused(call: Any, request: Any) -> Call:
        return lambda text: call(request(**named(request_id=request_id()), cause=text))

    return {
        "GetAccountRequest.purpose": lambda text: accounts.GetAccount(
            account_pb.GetAccountRequest(**named(), purpose=text)
        ),
        "LookUpAccountRequest.purpose": looked_up,
        "SuspendAccountRequest.cause": caused(
            accounts.SuspendAccount, account_pb.SuspendAccountRequest
        ),
        "ReinstateAccountRequest.cause": caused(
            accounts.ReinstateAccount, account_pb.ReinstateAccountRequest
        ),
        "CloseAccountRequest.cause": caused(accounts.CloseAccount, account_pb.CloseAccountRequest),
        "EraseAccountDataRequest.cause": caused(
            privacy.EraseAccountData, privacy_pb.EraseAccountDataRequest
        ),
    }


async def answers_to_numbers(cast: Cast, person: Person) -> list[Answer]:
    """Every number in every field, each followed by an order number; the account ends with it."""
    calls = {**of_sources(cast, person), **of_people(cast, person), **of_staff(cast, person)}
    answers = []
    for field, call in calls.items():
        for number in (*NUMBERS.values(), order_number()):
            try:
                await call(number)
            except grpc.aio.AioRpcError as error:
                answers.append(Answer(field, number, reason_of(error), error.details() or ""))
            else:
                answers.append(Answer(field, number, "", ""))
    return answers
