"""Leaving a household: by oneself, by the head's word, by a split, or because a consent ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.identity.domain.account import (
    Account,
    Consent,
    EndKind,
    Grant,
    Happened,
    Kind,
    Person,
)
from services.identity.domain.codes import code_digest, make_code
from services.identity.domain.household import INVITATION, INVITATION_LIFE, Invitation, Membership
from services.identity.usecases.acting import (
    MEMBER,
    Request,
    actor_of,
    claim,
    decider,
)
from services.identity.usecases.ending import Hook
from services.identity.usecases.household_room import (
    Noted,
    Room,
    actor_in_household,
    begin_of,
    day_of,
    end,
    end_consent,
    hold_households,
    hold_persons,
    membership_of,
    note_all,
    require_joiner,
)
from services.identity.usecases.households import found, founded_by, invite
from services.identity.usecases.read_households import View, view
from shared.ids import account_name
from shared.refusal import CallerNotAllowed, FieldInvalid, ResourceNotFound, StateConflict

PROGRAM = "services/identity"
"""Who ends a membership with an account that closes, or with a consent that ran out."""
REMOVED, ACCOUNT_CLOSED, CONSENT_OVER = "removed", "account closed", "consent over"


@dataclass(frozen=True)
class Parted:
    """The new household of a split, and a code for each member invited along who may still use
    it."""

    view: View
    codes: Sequence[tuple[int, str]]
    expire_time: datetime | None


def leave_household(request: Request, account_id: int, room: Room) -> int:
    """The first civil day that no longer belongs to the membership. A child may leave by itself,
    as it may withdraw."""
    known = claim(request, account_id, room.register, room.clock)
    if known is not None:
        return known
    held, now = hold_persons([account_id], room)
    actor = actor_of(request, held[account_id], now, register=room.register)
    membership = membership_of(account_id, room)
    households, now = hold_households([membership.household_id], now, room)
    mine, its = end(membership, households[membership.household_id], now, room)
    mine = [*end_consent(membership, now, room), *mine]
    room.register.answer_request(request.key, day_of(now) + 1)
    note_all(
        [Noted(account_id, mine, actor),
         Noted(membership.household_id, its, actor_in_household(request))],
        now, room,
    )  # fmt: skip
    return day_of(now) + 1


def remove_member(request: Request, head_id: int, member_id: int, room: Room) -> View:
    """The household without the member from tomorrow on. CALLER_NOT_ALLOWED unless the head asks,
    RESOURCE_NOT_FOUND for whoever is no member from tomorrow on."""
    if head_id == member_id:
        raise FieldInvalid(
            "member", "member is the one who asks; nobody removes oneself, use LeaveHousehold"
        )
    known = claim(request, head_id, room.register, room.clock)
    if known is not None:
        return view(room.households.numbered(head_id, known).household_id, head_id, room)
    held, now = hold_persons([head_id, member_id], room)
    decider(request, held[head_id], now, register=room.register)
    own = membership_of(head_id, room)
    removed = room.households.current(member_id)
    if removed is None or removed.household_id != own.household_id:
        raise ResourceNotFound(
            account_name(member_id), "no member of the household from tomorrow on has that account"
        )
    households, now = hold_households([own.household_id], now, room)
    if room.households.history(own.household_id).head != own:
        raise CallerNotAllowed(
            "the head of the household removes members, and this account is not its head; a member "
            "who does not want to stay leaves with LeaveHousehold",
            metadata={"caller": "customer", "method": request.method},
        )
    theirs, its = end(removed, households[own.household_id], now, room, cause=REMOVED)
    theirs = [*end_consent(removed, now, room), *theirs]
    room.register.answer_request(request.key, own.member_number)
    note_all(
        [Noted(member_id, theirs, actor_in_household(request)),
         Noted(own.household_id, its, actor_in_household(request))],
        now, room,
    )  # fmt: skip
    return view(own.household_id, head_id, room)


def split_household(
    request: Request,
    mover_id: int,
    members: Sequence[int],
    grant: Grant,
    person: Person,
    room: Room,
) -> Parted:
    """A new household from tomorrow on, with the mover as head, who leaves the old one; a code for
    each of `members`, who move when they accept."""
    household_id = founded_by(request, room)
    if claim(request, mover_id, room.register, room.clock) is None:
        held, now = hold_persons([mover_id], room)
        mover = held[mover_id]
        actor = decider(request, mover, now, register=room.register)
        require_joiner(mover)
        old = membership_of(mover_id, room)
        households, now = hold_households([old.household_id], now, room)
        _check_along(mover_id, members, old, room)
        left, of_old = end(old, households[old.household_id], now, room)
        left = [*end_consent(old, now, room), *left]
        joined, of_new = found(
            household_id, mover, grant, person, day_of(now) + 1, actor, now, room
        )
        along = [
            Invitation(digest, household_id, 1, now + INVITATION_LIFE, member_id, old.household_id)
            for member_id, _, digest in _codes(request, members, room)
        ]
        if along:
            invite(along, now, room)
        by = actor_in_household(request)
        note_all(
            [Noted(mover_id, [*left, *joined], actor), Noted(old.household_id, of_old, by),
             Noted(household_id, of_new, by)],
            now, room,
        )  # fmt: skip
    return _parted(request, household_id, mover_id, members, room)


def household_hook(room: Room) -> Hook:
    """Ends the membership that rests on a consent, or the account's (None).

    It comes last of the hooks: it locks the heads of the feed for both accounts, so that the
    member's can be noted after it in whatever shard that is. Closing a household's own account is
    a STATE_CONFLICT while it has members.
    """

    def leave(account: Account, consent: Consent | None, now: datetime) -> list[Happened]:
        if account.kind is Kind.HOUSEHOLD:
            if consent is None and room.households.history(account.account_id).present:
                raise _closes_with_its_last(account)
            return []
        membership = room.households.current(account.account_id)
        if membership is None or (consent and consent.number != membership.consent_number):
            return []
        by_program = consent is None or consent.end_kind is EndKind.NOTICE_CHANGED
        cause = ACCOUNT_CLOSED if consent is None else CONSENT_OVER
        return _end_beside(membership, now, PROGRAM if by_program else MEMBER, cause, room)

    return leave


def end_lapsed(account_id: int, room: Room) -> bool:
    """Ends the account's membership today when its consent runs out by itself by the end of today,
    as a guardian's word does on the 14th birthday; whether it did."""
    _, now = hold_persons([account_id], room)
    membership = room.households.current(account_id)
    if membership is None:
        return False
    tomorrow = begin_of(day_of(now) + 1)
    for consent in room.register.read_consents(account_id):
        if consent.number == membership.consent_number and consent.in_force(tomorrow):
            return False
    mine = _end_beside(membership, now, PROGRAM, CONSENT_OVER, room)
    room.register.note(account_id, mine, PROGRAM, now)
    return True


def _end_beside(
    membership: Membership, now: datetime, actor: str, cause: str, room: Room
) -> list[Happened]:
    """Ends a membership and notes it of the household; what the caller, who holds the member's
    account, is to note of that."""
    households, moment = hold_households([membership.household_id], now, room)
    mine, its = end(membership, households[membership.household_id], moment, room, cause=cause)
    room.households.lock_heads([membership.member_id, membership.household_id])
    room.register.note(membership.household_id, its, actor, moment)
    return mine


def _closes_with_its_last(account: Account) -> StateConflict:
    name = account_name(account.account_id)
    return StateConflict(
        f"{name} is a household with members; it closes when the last of them leaves",
        metadata={"resource": name, "state": account.state.name.lower(), "wanted": "no member"},
    )


def _check_along(mover_id: int, members: Sequence[int], old: Membership, room: Room) -> None:
    others = {m.member_id for m in room.households.history(old.household_id).present.values()}
    for place, member_id in enumerate(members):
        field, name = f"members[{place}]", account_name(member_id)
        if member_id == mover_id:
            raise FieldInvalid(field, f"{field} is the one who asks and comes along anyway")
        if member_id in members[:place]:
            raise FieldInvalid(field, f"{field} is {name} for the second time; name each once")
        if member_id not in others:
            raise FieldInvalid(
                field,
                f"{field} is {name}, which is no member of the household from tomorrow on; invite "
                "it with InviteMember",
            )


def _codes(request: Request, members: Sequence[int], room: Room) -> list[tuple[int, str, bytes]]:
    """Account, code and digest for each of the members: the same for every retry."""
    found = []
    for member_id in members:
        code = make_code(room.secret, INVITATION, request.key + member_id.to_bytes(8, "big"))
        found.append((member_id, code, code_digest(room.secret, INVITATION, code)))
    return found


def _parted(
    request: Request, household_id: int, mover_id: int, members: Sequence[int], room: Room
) -> Parted:
    seen = view(household_id, mover_id, room)
    codes, expire_time = [], None
    for member_id, code, digest in _codes(request, members, room):
        waiting = room.households.read_invitation(digest)
        if waiting is not None:
            codes.append((member_id, code))
            expire_time = waiting.expire_time
    return Parted(seen, codes, expire_time)
