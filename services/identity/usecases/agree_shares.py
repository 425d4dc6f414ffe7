"""Agreeing how a household's grams are shared: a proposal, and a signature of every member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.identity.domain.account import Event, Happened
from services.identity.domain.household import (
    PROPOSALS_MAX,
    WEIGHT_MAX,
    History,
    Membership,
    Proposal,
)
from services.identity.usecases.acting import GUARDIAN, Request, claim, decider
from services.identity.usecases.household_room import (
    Noted,
    Room,
    actor_in_household,
    hold_households,
    hold_persons,
    membership_of,
    note_all,
)
from services.identity.usecases.read_households import View, view
from shared.ids import account_name
from shared.refusal import FieldInvalid, LimitReached, ResourceNotFound, StateConflict

PROPOSED, SIGNED, AGREED = "proposed", "signed", "agreed"


@dataclass(frozen=True)
class _Seat:
    """A member who takes part in an agreement, the household held."""

    own: Membership
    history: History
    actor: str
    now: datetime


def propose_shares(
    request: Request, proposer_id: int, weights: Sequence[tuple[int, int]], room: Room
) -> View:
    """The household with the proposal, signed by its proposer; it replaces the one before."""
    known = claim(request, proposer_id, room.register, room.clock)
    if known is not None:
        return view(room.households.numbered(proposer_id, known).household_id, proposer_id, room)
    seat = _sit_down(request, proposer_id, room)
    newest = seat.history.newest_proposal
    number = newest.number + 1 if newest else 1
    if number > PROPOSALS_MAX:
        raise LimitReached(
            f"the household has had {PROPOSALS_MAX} proposals and may have {PROPOSALS_MAX}; shares "
            "stay as they are",
            metadata={"limit": "proposals of a household", "value": PROPOSALS_MAX},
        )
    proposal = Proposal(number, _by_membership(weights, seat.history), {})
    household_id = seat.own.household_id
    room.households.add_proposal(household_id, proposal, seat.own.number, seat.now)
    _sign(request, proposal, seat, PROPOSED, room)
    return view(household_id, proposer_id, room)


def sign_shares(request: Request, signer_id: int, number: int, room: Room) -> View:
    """The household with the signature; signing twice changes nothing. STATE_CONFLICT for a
    proposal that was replaced, or void because the members have changed."""
    known = claim(request, signer_id, room.register, room.clock)
    if known is not None:
        return view(room.households.numbered(signer_id, known).household_id, signer_id, room)
    seat = _sit_down(request, signer_id, room)
    proposal = next((p for p in seat.history.proposals if p.number == number), None)
    if proposal is None:
        raise ResourceNotFound(f"{account_name(signer_id)}/household/proposals/{number}")
    if seat.own.number in proposal.signed:
        room.register.answer_request(request.key, seat.own.member_number)
    elif proposal != seat.history.waiting:
        raise _not_waiting(proposal, seat)
    else:
        _sign(request, proposal, seat, SIGNED, room)
    return view(seat.own.household_id, signer_id, room)


def _sit_down(request: Request, account_id: int, room: Room) -> _Seat:
    held, now = hold_persons([account_id], room)
    actor = decider(request, held[account_id], now, register=room.register)
    own = membership_of(account_id, room)
    _, now = hold_households([own.household_id], now, room)
    return _Seat(own, room.households.history(own.household_id), actor, now)


def _by_membership(weights: Sequence[tuple[int, int]], history: History) -> dict[int, int]:
    """The weights by number of membership: one for every member who has no end."""
    numbers = {m.member_id: m.number for m in history.present.values()}
    found: dict[int, int] = {}
    for place, (member_id, weight) in enumerate(weights):
        field, name = f"weights[{place}]", account_name(member_id)
        if member_id not in numbers:
            raise FieldInvalid(
                f"{field}.account",
                f"{field} is of {name}, no member from tomorrow on; leave it out",
            )
        if numbers[member_id] in found:
            raise FieldInvalid(
                f"{field}.account", f"{field} is of {name} for the second time; weigh each once"
            )
        if not 0 <= weight <= WEIGHT_MAX:
            raise FieldInvalid(
                f"{field}.weight", f"{field} is {weight}; a weight is 0 to {WEIGHT_MAX}"
            )
        found[numbers[member_id]] = weight
    missing = [name for name, number in numbers.items() if number not in found]
    if missing:
        raise FieldInvalid(
            "weights",
            f"weights has none for {account_name(missing[0])}; give one, if only 0, for every "
            "member who has no end",
        )
    if not any(found.values()):
        raise FieldInvalid("weights", "weights are all 0; at least one is more")
    return dict(sorted(found.items()))


def _sign(request: Request, proposal: Proposal, seat: _Seat, cause: str, room: Room) -> None:
    household_id, own = seat.own.household_id, seat.own
    room.households.add_signature(
        household_id, proposal.number, own.number, seat.now, by_guardian=seat.actor == GUARDIAN
    )
    happened = [Happened(Event.SHARES_CHANGED, proposal.number, cause)]
    if proposal.signed.keys() | {own.number} == proposal.weights.keys():
        happened.append(Happened(Event.SHARES_CHANGED, proposal.number, AGREED))
    room.register.answer_request(request.key, own.member_number)
    note_all([Noted(household_id, happened, actor_in_household(request))], seat.now, room)


def _not_waiting(proposal: Proposal, seat: _Seat) -> StateConflict:
    newest = seat.history.newest_proposal
    state = "void" if newest is not None and newest.number == proposal.number else "replaced"
    why = "a newer one replaced it" if state == "replaced" else "the members have changed since"
    return StateConflict(
        f"proposal {proposal.number} is {state}: {why}; sign the newest, or propose anew",
        metadata={
            "resource": f"{account_name(seat.own.household_id)}/proposals/{proposal.number}",
            "state": state,
            "wanted": "waiting",
        },
    )
