"""Between the contract's messages and households; no rule is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from carbonaccount.identity.v1 import account_pb2, account_service_pb2
from carbonaccount.identity.v1 import household_service_pb2 as pb

from services.identity.domain.account import Person
from services.identity.domain.household import Membership, Shares
from services.identity.domain.scopes import canonical_json
from services.identity.rpc.messages import read_plain, read_region
from services.identity.rpc.times import write_day, write_time
from services.identity.usecases.leave_households import Parted
from services.identity.usecases.read_households import Own, View
from shared.ids import account_id_of, account_name, date_to_day, day_to_date
from shared.refusal import FieldInvalid

STATEMENT_TYPE = "household-shares+jws"
"""The `typ` in the header of a signed statement of shares."""


def read_person(message: pb.CreateHouseholdRequest | pb.SplitHouseholdRequest) -> Person:
    """What a household is called and where it lives; a split has no place of its own yet."""
    region = message.region_code if isinstance(message, pb.CreateHouseholdRequest) else ""
    return Person(
        read_plain(message.display_name, "display_name"), read_region(region, "region_code")
    )


def read_members(names: Sequence[str]) -> list[int]:
    """Account numbers, in the order given."""
    return [account_id_of(name, f"members[{place}]") for place, name in enumerate(names)]


def read_weights(messages: Sequence[pb.Weight]) -> list[tuple[int, int]]:
    """Account number and weight, in the order given."""
    return [
        (account_id_of(message.account, f"weights[{place}].account"), message.weight)
        for place, message in enumerate(messages)
    ]


def read_share_day(message: pb.GetSharesRequest) -> int | None:
    """The civil day asked for; None when it is not set."""
    if not message.HasField("share_date"):
        return None
    asked = message.share_date
    try:
        return date_to_day(date(asked.year, asked.month, asked.day))
    except (ValueError, OverflowError) as error:
        raise FieldInvalid(
            "share_date",
            f"share_date is {asked.year}-{asked.month}-{asked.day}; it must be a calendar day",
        ) from error


def write_household(view: View) -> pb.Household:
    """A household as the account that it was read for may see it."""
    household = pb.Household(
        account=account_name(view.account.account_id),
        state=account_pb2.Account.State.ValueType(view.account.state),
    )
    if view.history is None:
        return household
    household.display_name = view.account.person.display_name
    household.members.extend(_member(m, head=m == view.head) for m in view.members)
    for day, shares in view.periods:
        household.share_periods.add(start_date=write_day(day), shares=_shares(shares))
    proposal = view.proposal
    if proposal is not None:
        household.proposal.number = proposal.number
        for number, weight in proposal.weights.items():
            name = account_name(view.member_id(number))
            household.proposal.weights.add(account=name, weight=weight)
            signed = number in proposal.signed
            (household.proposal.signed_by if signed else household.proposal.waiting_for).append(
                name
            )
    return household


def write_parted(parted: Parted) -> pb.SplitHouseholdResponse:
    """The new household of a split and the codes for those invited along."""
    response = pb.SplitHouseholdResponse(household=write_household(parted.view))
    for member_id, code in parted.codes:
        response.invitations.add(member=account_name(member_id), code=code)
    if parted.expire_time is not None:
        response.expire_time.CopyFrom(write_time(parted.expire_time))
    return response


def write_membership(own: Own) -> pb.ListMembershipsResponse.Membership:
    """A membership with its own shares."""
    m = own.membership
    message = pb.ListMembershipsResponse.Membership(
        household=account_name(m.household_id), start_date=write_day(m.start_day)
    )
    if m.end_day is not None:
        message.end_date.CopyFrom(write_day(m.end_day))
    for day, ppm in own.shares:
        message.shares.add(start_date=write_day(day), share_ppm=ppm)
    return message


def write_shares(household_id: int, shares: Shares) -> pb.GetSharesResponse:
    """The shares of a day, without their signature."""
    return pb.GetSharesResponse(household=account_name(household_id), shares=_shares(shares))


def shares_statement(household_id: int, day: int, shares: Shares) -> bytes:
    """What is signed of the shares of a day: canonical JSON, members in order of their names."""
    return canonical_json(
        {
            "household": account_name(household_id),
            "share_date": day_to_date(day).isoformat(),
            "shares": [
                {"account": share.account, "share_ppm": share.share_ppm}
                for share in _shares(shares)
            ],
        }
    )


def _member(m: Membership, *, head: bool) -> pb.Household.Member:
    message = pb.Household.Member(
        account=account_name(m.member_id), start_date=write_day(m.start_day), household_head=head
    )
    if m.end_day is not None:
        message.end_date.CopyFrom(write_day(m.end_day))
    return message


def _shares(shares: Shares) -> list[Any]:
    return [
        account_service_pb2.SharePeriod.Share(account=account_name(member), share_ppm=ppm)
        for member, ppm in sorted(shares.items())
    ]
