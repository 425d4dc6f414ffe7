"""Founding a household, inviting to it, and joining it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.identity.domain.account import (
    Account,
    Event,
    Grant,
    Happened,
    Kind,
    Person,
    State,
)
from services.identity.domain.codes import code_digest, make_code
from services.identity.domain.digest import keyed_digest
from services.identity.domain.household import (
    HOME_SCOPE,
    INVITATION,
    INVITATION_LIFE,
    INVITATIONS_MAX,
    Invitation,
)
from services.identity.usecases.acting import Request, claim, decider
from services.identity.usecases.consents import decide
from services.identity.usecases.household_room import (
    ONE_MEMBER,
    Noted,
    Room,
    actor_in_household,
    already_member,
    begin_of,
    consent_to_belong,
    day_of,
    end,
    end_consent,
    hold_households,
    hold_persons,
    join,
    membership_of,
    note_all,
    require_joiner,
    settle,
)
from services.identity.usecases.read_households import View, view
from shared.refusal import CodeInvalid, LimitReached


@dataclass(frozen=True)
class Invited:
    """A code to hand to somebody, and when it stops working."""

    code: str
    expire_time: datetime


def create_household(
    request: Request, founder_id: int, grant: Grant, person: Person, room: Room
) -> View:
    """The household, with the founder as head and suspended until a second member joins.

    It begins today, or tomorrow when the founder still belongs to another one today.
    STATE_CONFLICT for whoever belongs to one from tomorrow on.
    """
    household_id = founded_by(request, room)
    if claim(request, founder_id, room.register, room.clock) is None:
        held, now = hold_persons([founder_id], room)
        founder = held[founder_id]
        actor = decider(request, founder, now, register=room.register)
        require_joiner(founder)
        current = room.households.current(founder_id)
        if current is not None:
            raise already_member(current)
        today = day_of(now)
        start_day = today + 1 if room.households.on_day(founder_id, today) else today
        mine, its = found(household_id, founder, grant, person, start_day, actor, now, room)
        note_all(
            [Noted(founder_id, mine, actor),
             Noted(household_id, its, actor_in_household(request))],
            now, room,
        )  # fmt: skip
    return view(household_id, founder_id, room)


def founded_by(request: Request, room: Room) -> int:
    """The account number of the household that a request founds: the same for every retry."""
    digest = keyed_digest(room.secret, "household", request.key)
    return int.from_bytes(digest[:8], "big") >> 1 or 1


def found(
    household_id: int,
    founder: Account,
    grant: Grant,
    person: Person,
    start_day: int,
    actor: str,
    now: datetime,
    room: Room,
) -> tuple[list[Happened], list[Happened]]:
    """Writes a household of one; what is to be noted of the founder and of the household.

    Its own consent, under which a shared meter is collected, takes over the confirmation that the
    founder gave.
    """
    consent, granted = consent_to_belong(founder, grant, actor, now, room)
    household = Account(household_id, State.SUSPENDED, Kind.HOUSEHOLD, 0, person, 1, now, now)
    room.register.add_account(household)
    home = Grant(
        HOME_SCOPE, room.scopes[HOME_SCOPE].notice_digest,
        cover_from_time=max(now, begin_of(start_day)), confirm_time=grant.confirm_time,
        screen=grant.screen,
    )  # fmt: skip
    _, collecting = decide(household, home, [], now, register=room.register, scopes=room.scopes)
    membership = join(household_id, founder.account_id, start_day, consent, now, room)
    return (
        [*granted, Happened(Event.HOUSEHOLD_JOINED, membership.member_number)],
        [
            Happened(Event.OPENED),
            Happened(Event.SUSPENDED, cause=ONE_MEMBER),
            *collecting,
            Happened(Event.HOUSEHOLD_JOINED, membership.number),
        ],
    )


def invite_member(request: Request, inviter_id: int, room: Room) -> Invited:
    """A code for one person, by a member who has no end.

    A retry is answered with the same code while that waits, and with CODE_INVALID after.
    """
    known = claim(request, inviter_id, room.register, room.clock)
    held, now = hold_persons([inviter_id], room)
    decider(request, held[inviter_id], now, register=room.register)
    # Made from the request and never kept: whoever reads the database can hand it to nobody.
    code = make_code(room.secret, INVITATION, request.key)
    digest = code_digest(room.secret, INVITATION, code)
    if known is not None:
        waiting = room.households.read_invitation(digest)
        if waiting is None or now >= waiting.expire_time:
            raise code_invalid("request_id", "ask for a code with a new request_id")
        return Invited(code, waiting.expire_time)
    membership = membership_of(inviter_id, room)
    _, now = hold_households([membership.household_id], now, room)
    expire_time = invite(
        [Invitation(digest, membership.household_id, membership.number, now + INVITATION_LIFE)],
        now, room,
    )  # fmt: skip
    room.register.answer_request(request.key, membership.member_number)
    return Invited(code, expire_time)


def invite(invitations: Sequence[Invitation], now: datetime, room: Room) -> datetime:
    """Lets invitations to one household, which is held, wait; when they stop working."""
    household_id = invitations[0].household_id
    room.households.drop_invitations(household_id, before=now)
    waiting = room.households.count_invitations(household_id)
    if waiting + len(invitations) > INVITATIONS_MAX:
        raise LimitReached(
            f"{waiting} invitations to the household wait and there may be {INVITATIONS_MAX}; use "
            f"one, or wait until one runs out, {INVITATION_LIFE.days} days after it was made",
            metadata={"limit": "invitations waiting", "value": INVITATIONS_MAX},
        )
    for invitation in invitations:
        room.households.add_invitation(invitation)
    return invitations[0].expire_time


def accept_invitation(
    request: Request, joiner_id: int, code: str, grant: Grant, room: Room
) -> View:
    """The household of the code, joined from tomorrow on; who came with a split leaves the old
    one for it in the same moment. CODE_INVALID for a code that this account cannot use now."""
    known = claim(request, joiner_id, room.register, room.clock)
    if known is not None:
        joined = room.households.numbered(joiner_id, known).household_id
        return view(joined, joiner_id, room)
    held, now = hold_persons([joiner_id], room)
    joiner = held[joiner_id]
    actor = decider(request, joiner, now, register=room.register)
    require_joiner(joiner)
    digest = code_digest(room.secret, INVITATION, code)
    old = room.households.current(joiner_id)
    invitation = room.households.read_invitation(digest)
    if invitation is None:
        raise _unusable()
    moving = old is not None and old.household_id == invitation.from_household_id
    involved = {invitation.household_id, *([old.household_id] if old and moving else [])}
    households, now = hold_households(involved, now, room)
    # It may have been used while this call waited for the household.
    invitation = room.households.read_invitation(digest)
    if invitation is None or not invitation.admits(joiner_id, now):
        raise _unusable()
    noted: list[Noted] = []
    mine: list[Happened] = []
    if old is not None:
        if not moving:
            raise already_member(old)
        left, of_old = end(old, households[old.household_id], now, room)
        mine += [*end_consent(old, now, room), *left]
        noted.append(Noted(old.household_id, of_old, actor_in_household(request)))
    room.households.drop_invitation(digest)
    consent, granted = consent_to_belong(joiner, grant, actor, now, room)
    new = join(invitation.household_id, joiner_id, day_of(now) + 1, consent, now, room)
    room.register.answer_request(request.key, new.member_number)
    of_new = [
        Happened(Event.HOUSEHOLD_JOINED, new.number),
        *settle(households[new.household_id], now, room),
    ]
    mine += [*granted, Happened(Event.HOUSEHOLD_JOINED, new.member_number)]
    noted += [
        Noted(joiner_id, mine, actor),
        Noted(new.household_id, of_new, actor_in_household(request)),
    ]
    note_all(noted, now, room)
    return view(new.household_id, joiner_id, room)


def code_invalid(field: str, way_out: str) -> CodeInvalid:
    """The refusal of a code that cannot be used; the same words whatever the cause."""
    return CodeInvalid(
        f"the code was used, has run out, is for somebody else, or never was; {way_out}",
        field=field,
        metadata={"kind": INVITATION},
    )


def _unusable() -> CodeInvalid:
    return code_invalid("code", "ask the member who invited for a new one")
