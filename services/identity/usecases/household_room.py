"""What every change of a household does: lock in one order, join, end, note.

The order of locks, in which no two transactions of identity ever wait for each other: the
request id; accounts of persons, ascending by (shard, number); accounts of households, likewise;
the heads of the feed by shard, all of them before the first is moved. Who ends a consent or an
account holds the person's account and nothing above it, and so may go on to the household's.
All rows of a household are written by who holds its account, all memberships of a person by who
holds the person's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from services.identity.domain.account import (
    Account,
    Consent,
    Event,
    Grant,
    Happened,
    Kind,
    State,
)
from services.identity.domain.household import (
    BELONG_SCOPE,
    MEMBERS_MAX,
    MEMBERSHIPS_MAX,
    History,
    Invitation,
    Membership,
    Proposal,
    Shares,
    tie_of,
)
from services.identity.domain.scopes import Scope
from services.identity.usecases.acting import (
    CUSTOMER,
    GUARDIAN,
    MEMBER,
    Register,
    Request,
    read_or_refuse,
    require_open,
)
from services.identity.usecases.consents import decide
from shared.clock import ClockUs
from shared.ids import (
    account_name,
    civil_day,
    civil_day_begin_us,
    from_us,
    shard_of,
    to_us,
)
from shared.refusal import FieldInvalid, LimitReached, ResourceNotFound, StateConflict

ONE_MEMBER, TWO_MEMBERS, NOBODY_LEFT = "one member", "two members", "nobody left"


class Households(Protocol):
    """What these use cases need of storage; see `storage.households.HouseholdStore`."""

    def current(self, member_id: int) -> Membership | None: ...
    def on_day(self, member_id: int, day: int) -> Membership | None: ...
    def numbered(self, member_id: int, member_number: int) -> Membership: ...
    def page(self, member_id: int, before: int | None, limit: int) -> list[Membership]: ...
    def next_member_number(self, member_id: int) -> int: ...
    def history(self, household_id: int) -> History: ...
    def periods(self, household_ids: list[int]) -> dict[int, list[tuple[int, Shares]]]: ...
    def add_member(self, membership: Membership) -> None: ...
    def end_member(self, household_id: int, number: int, end_day: int) -> None: ...
    def add_invitation(self, invitation: Invitation) -> None: ...
    def read_invitation(self, digest: bytes) -> Invitation | None: ...
    def count_invitations(self, household_id: int) -> int: ...
    def drop_invitation(self, digest: bytes) -> None: ...
    def drop_invitations(
        self, household_id: int, *, inviter: int | None = None, before: datetime | None = None
    ) -> None: ...
    def add_proposal(
        self, household_id: int, proposal: Proposal, proposer: int, now: datetime
    ) -> None: ...
    def add_signature(
        self, household_id: int, proposal: int, member: int, now: datetime, *, by_guardian: bool
    ) -> None: ...
    def lock_heads(self, account_ids: Iterable[int]) -> None: ...


@dataclass(frozen=True)
class Room:
    """What the use cases of households work with, inside one transaction.

    `also_end` ends what else hangs on a household's account when that closes, and says what is to
    be noted of it.
    """

    register: Register
    households: Households
    scopes: Mapping[str, Scope]
    secret: bytes
    clock: ClockUs
    also_end: Callable[[Account, datetime], list[Happened]]


@dataclass(frozen=True)
class Noted:
    """What is to be noted of one account, and who did it."""

    account_id: int
    happened: list[Happened]
    actor: str


def day_of(moment: datetime) -> int:
    """The civil day of a moment."""
    return civil_day(to_us(moment))


def begin_of(day: int) -> datetime:
    """The first moment of a civil day."""
    return from_us(civil_day_begin_us(day))


def hold_persons(ids: Iterable[int], room: Room) -> tuple[dict[int, Account], datetime]:
    """These accounts, locked until the commit, and the moment of a change to them."""
    held = {
        account_id: read_or_refuse(room.register, account_id, lock=True)
        for account_id in sorted(ids, key=lambda account_id: (shard_of(account_id), account_id))
    }
    # The clock is read after the locks: whoever waited acts after the one waited for.
    return held, max(from_us(room.clock()), *(a.update_time for a in held.values()))


def hold_households(
    ids: Iterable[int], now: datetime, room: Room
) -> tuple[dict[int, Account], datetime]:
    """As `hold_persons`; the moment is not earlier than `now`, that of the persons held."""
    held, moment = hold_persons(ids, room)
    return held, max(now, moment)


def membership_of(account_id: int, room: Room) -> Membership:
    """The account's membership that has no end; RESOURCE_NOT_FOUND without one."""
    membership = room.households.current(account_id)
    if membership is None:
        raise ResourceNotFound(
            f"{account_name(account_id)}/household",
            "the account belongs to none from tomorrow on; found one, or accept an invitation",
        )
    return membership


def require_joiner(account: Account) -> None:
    """FIELD_INVALID unless the account is a person's, ACCOUNT_NOT_OPEN unless it is open."""
    if account.kind is not Kind.PERSONAL:
        raise FieldInvalid(
            "parent",
            f"parent is {account_name(account.account_id)}, which is a household's; only persons "
            "belong to households",
        )
    require_open(account)


def already_member(membership: Membership) -> StateConflict:
    """The refusal of a second household."""
    return StateConflict(
        f"{account_name(membership.member_id)} belongs to {account_name(membership.household_id)}; "
        "leave it first, and join another from tomorrow on",
        metadata={"resource": account_name(membership.member_id), "state": "member",
                  "wanted": "no household"},
    )  # fmt: skip


def consent_to_belong(
    account: Account, grant: Grant, actor: str, now: datetime, room: Room
) -> tuple[Consent, list[Happened]]:
    """The consent on which a membership rests, written, and what is to be noted of the account."""
    if grant.scope != BELONG_SCOPE:
        raise FieldInvalid(
            "consent.scope",
            f"consent.scope is {grant.scope[:64]!r}; belonging to a household is {BELONG_SCOPE}",
        )
    if grant.expire_time is not None:
        raise FieldInvalid(
            "consent.expire_time",
            "consent.expire_time is set; membership has no end that is known before, so leave it "
            "out and leave the household when the time has come",
        )
    return decide(
        account, grant, room.register.read_consents(account.account_id), now,
        register=room.register, scopes=room.scopes, by_guardian=actor == GUARDIAN,
    )  # fmt: skip


def join(
    household_id: int, member_id: int, start_day: int, consent: Consent, now: datetime, room: Room
) -> Membership:
    """A new membership, written; LIMIT_REACHED when the household takes nobody more."""
    history = room.households.history(household_id)
    numbers = [m.number for m in history.memberships]
    for limit, most, count in (
        ("members of a household", MEMBERS_MAX, len(history.present)),
        ("memberships of a household", MEMBERSHIPS_MAX, len(numbers)),
    ):
        if count >= most:
            raise LimitReached(
                f"{account_name(household_id)} has {count} {limit.split()[0]} and may have {most}; "
                "found another household",
                metadata={"limit": limit, "value": most},
            )
    membership = Membership(
        household_id, max(numbers, default=0) + 1, member_id,
        room.households.next_member_number(member_id), start_day, None, consent.number, now,
        tie_of(room.secret, household_id, member_id),
    )  # fmt: skip
    room.households.add_member(membership)
    return membership


def end(
    membership: Membership, household: Account, now: datetime, room: Room, *, cause: str = ""
) -> tuple[list[Happened], list[Happened]]:
    """Ends a membership after the civil day of `now`; what is to be noted of the member and of the
    household. Both are held; the consent is the caller's to end."""
    room.households.end_member(membership.household_id, membership.number, day_of(now) + 1)
    room.households.drop_invitations(membership.household_id, inviter=membership.number)
    left = Happened(Event.HOUSEHOLD_LEFT, membership.number, cause)
    return (
        [Happened(Event.HOUSEHOLD_LEFT, membership.member_number, cause)],
        [left, *settle(household, now, room)],
    )


def end_consent(membership: Membership, now: datetime, room: Room) -> list[Happened]:
    """Revokes the consent on which a membership rested; what is to be noted of the member."""
    for consent in room.register.read_consents(membership.member_id):
        if consent.number == membership.consent_number and consent.in_force(now):
            room.register.put_consent(consent.ended(now))
            return [Happened(Event.CONSENT_REVOKED, consent.number)]
    return []


def settle(household: Account, now: datetime, room: Room) -> list[Happened]:
    """Brings the household's account into the state that its members make; what is to be noted:
    open with two, suspended with one, closed for good with none."""
    count = len(room.households.history(household.account_id).present)
    if count == 0:
        return _close(household, now, room)
    wanted = State.OPEN if count > 1 else State.SUSPENDED
    if household.state is wanted:
        return []
    room.register.set_state(household.account_id, wanted)
    if wanted is State.OPEN:
        return [Happened(Event.REINSTATED, cause=TWO_MEMBERS)]
    return [Happened(Event.SUSPENDED, cause=ONE_MEMBER)]


def _close(household: Account, now: datetime, room: Room) -> list[Happened]:
    room.households.drop_invitations(household.account_id)
    happened = [Happened(Event.CLOSED, cause=NOBODY_LEFT)]
    happened += room.also_end(replace(household, state=State.CLOSED), now)
    for consent in room.register.read_consents(household.account_id):
        if consent.in_force(now):
            room.register.put_consent(consent.ended(now))
            happened.append(Happened(Event.CONSENT_REVOKED, consent.number))
    room.register.set_state(household.account_id, State.CLOSED)
    return happened


def actor_in_household(request: Request) -> str:
    """How the one who asks is called in the household's events, which all members can read."""
    return MEMBER if request.kind == CUSTOMER else request.actor


def note_all(noted: Iterable[Noted], now: datetime, room: Room) -> None:
    """Notes all that happened, account by account; it locks heads, so it comes last."""
    noted = list(noted)
    room.households.lock_heads(one.account_id for one in noted)
    for one in sorted(noted, key=lambda one: (shard_of(one.account_id), one.account_id)):
        room.register.note(one.account_id, one.happened, one.actor, now)
