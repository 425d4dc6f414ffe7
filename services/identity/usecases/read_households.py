"""Reading households: as a member sees one, one's own memberships, the shares of a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.identity.domain.account import Account, Kind
from services.identity.domain.household import (
    History,
    Membership,
    Proposal,
    Shares,
    own_shares,
    share_periods,
    shares_on,
)
from services.identity.usecases.acting import (
    CUSTOMER,
    Request,
    read_for,
    read_or_refuse,
)
from services.identity.usecases.household_room import Room, day_of
from shared.ids import account_name, day_to_date, from_us
from shared.refusal import FieldInvalid, ResourceNotFound


@dataclass(frozen=True)
class View:
    """A household as one account may see it: `history` is None to one that is not in it."""

    account: Account
    history: History | None
    day: int

    @property
    def members(self) -> list[Membership]:
        """Those of today and those who come tomorrow."""
        found = self.history.memberships if self.history else ()
        current = [m for m in found if m.covers(self.day) or m.covers(self.day + 1)]
        return sorted(current, key=lambda m: m.number)

    @property
    def head(self) -> Membership | None:
        """Who may remove others."""
        return self.history.head if self.history else None

    @property
    def periods(self) -> list[tuple[int, Shares]]:
        """Shares by period, from the first day on."""
        return share_periods(self.history) if self.history else []

    @property
    def proposal(self) -> Proposal | None:
        """The one that waits for signatures."""
        return self.history.waiting if self.history else None

    def member_id(self, number: int) -> int:
        """The account of a membership, by its number."""
        found = self.history.memberships if self.history else ()
        return next(m.member_id for m in found if m.number == number)


@dataclass(frozen=True)
class Own:
    """A membership and its own shares by period."""

    membership: Membership
    shares: Sequence[tuple[int, int]]


def view(household_id: int, account_id: int, room: Room) -> View:
    """The household as `account_id` may see it now; who has left sees that it is there."""
    household = read_or_refuse(room.register, household_id)
    day = day_of(from_us(room.clock()))
    history = room.households.history(household_id)
    seen = View(household, history, day)
    if any(m.member_id == account_id for m in seen.members):
        return seen
    return View(household, None, day)


def get_household(request: Request, account_id: int, room: Room) -> View:
    """The household that the account belongs to from tomorrow on, else that of today;
    RESOURCE_NOT_FOUND without one."""
    read_for(request, account_id, register=room.register, clock=room.clock)
    day = day_of(from_us(room.clock()))
    membership = room.households.current(account_id) or room.households.on_day(account_id, day)
    if membership is None:
        raise ResourceNotFound(
            f"{account_name(account_id)}/household",
            "the account belongs to none; found one, or accept an invitation",
        )
    return view(membership.household_id, account_id, room)


def list_memberships(account_id: int, before: int | None, limit: int, room: Room) -> list[Own]:
    """At most `limit` memberships, newest first, numbered below `before` when it is given."""
    page = room.households.page(account_id, before, limit)
    periods = room.households.periods([m.household_id for m in page]) if page else {}
    return [Own(m, own_shares(m, periods[m.household_id])) for m in page]


def read_shares(
    request: Request, account_id: int, day: int | None, room: Room
) -> tuple[int, int, Shares]:
    """Household, civil day and shares: of the household itself for programs and auditors, of the
    one that the account belonged to on that day for a customer. RESOURCE_NOT_FOUND on a day
    without members, or outside the own membership."""
    today = day_of(from_us(room.clock()))
    day = today if day is None else day
    if day > today + 1:
        raise FieldInvalid(
            "share_date",
            f"share_date is {day_to_date(day)} and may be {day_to_date(today + 1)} at the latest; "
            "later days are not decided",
        )
    household_id = account_id
    if request.kind == CUSTOMER:
        read_for(request, account_id, register=room.register, clock=room.clock)
        membership = room.households.on_day(account_id, day)
        household_id = membership.household_id if membership else 0
    elif read_or_refuse(room.register, account_id).kind is not Kind.HOUSEHOLD:
        household_id = 0
    shares = shares_on(room.households.history(household_id), day)
    if not shares:
        raise ResourceNotFound(
            f"shares of {account_name(account_id)} on {day_to_date(day)}",
            "a customer asks for the own account on a day of the membership, programs and "
            "auditors for the household on a day on which it has members",
        )
    return household_id, day, shares
