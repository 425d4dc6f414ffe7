"""Completing a binding: the partner shows the customer's code and names its own user."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from services.identity.domain.account import Account, Event, Happened, State
from services.identity.domain.binding import BINDING, Binding
from services.identity.domain.codes import code_digest
from services.identity.usecases.acting import Register, Request, hold, read_or_refuse, same_content
from services.identity.usecases.bindings import (
    Bindings,
    code_invalid,
    linked,
    require_room,
)
from shared.clock import ClockUs
from shared.ids import shard_of
from shared.refusal import CodeInvalid, ResourceExists, RetryLater


def confirm_binding(
    request: Request,
    partner: str,
    code: str,
    subject: bytes,
    *,
    register: Register,
    bindings: Bindings,
    secret: bytes,
    clock: ClockUs,
) -> datetime:
    """When `subject`, the digest of the partner's own name, was bound to the account of the code.

    CODE_INVALID for every code by which this partner cannot bind, whatever the reason: nothing is
    learned about the account. RESOURCE_EXISTS while another account holds the subject. One whose
    consent has run out holds it no longer; its binding ends here, in the same transaction.

    A subject that moves leaves the first account's feed before it enters the second's: the
    binding that ended freed the subject in the transaction that noted it, and whoever binds next
    waits for that commit before taking a position.
    """
    digest = code_digest(secret, BINDING, code, partner)
    waiting = bindings.read_code(digest)
    known = register.claim_request(
        request.key, request.content, waiting.account_id if waiting else 0
    )
    if known is not None:
        same_content(known[0], request)
        made = bindings.read(known[2], known[1])
        if made is None:  # erased with its account, of which nothing is said either
            raise _no_such_code()
        return made.bind_time
    if waiting is None:
        raise _no_such_code()
    holder = bindings.holder(subject)
    held, now = _hold_in_order({waiting.account_id, *(holder or ())[:1]}, register, clock)
    account = held[waiting.account_id]
    scope = _use(digest, account, now, register=register, bindings=bindings)
    number = bindings.next_number(account.account_id)
    new = Binding(account.account_id, number, partner, subject, scope, now, None, None)
    binding, happened = _take(new, held, now, bindings)
    register.answer_request(request.key, binding.number)
    for account_id in sorted(happened, key=_place):
        register.note(account_id, happened[account_id], request.actor, now)
    return binding.bind_time


def _use(
    digest: bytes, account: Account, now: datetime, *, register: Register, bindings: Bindings
) -> int:
    """The scope of the code, which is used up; CODE_INVALID when it cannot be used by now."""
    # Read again: until its account was held, another call may have used it.
    code = bindings.read_code(digest)
    if code is None or not code.valid(now) or account.state is not State.OPEN:
        raise _no_such_code()
    if not linked(register.read_consents(account.account_id), code.scope, now):
        raise _no_such_code()
    bindings.drop_code(digest)
    return code.scope


def _hold_in_order(
    account_ids: set[int], register: Register, clock: ClockUs
) -> tuple[dict[int, Account], datetime]:
    """The accounts, locked in the order in which everybody locks several, persons' before
    households', and one moment that is early for none of them."""
    kinds = {i: read_or_refuse(register, i).kind for i in account_ids}
    in_order = sorted(account_ids, key=lambda i: (kinds[i], *_place(i)))
    held = {i: hold(i, register, clock) for i in in_order}
    return {i: account for i, (account, _) in held.items()}, max(now for _, now in held.values())


def _place(account_id: int) -> tuple[int, int]:
    return shard_of(account_id), account_id


def _take(
    new: Binding, held: Mapping[int, Account], now: datetime, bindings: Bindings
) -> tuple[Binding, dict[int, list[Happened]]]:
    """The binding that holds the subject then, and what is to be noted, by account."""
    happened: dict[int, list[Happened]] = {}
    holder = bindings.claim_subject(new.digest, new.account_id, new.number)
    if holder != (new.account_id, new.number):
        current = bindings.read(*holder) if holder is not None else None
        if current is None:
            raise _moved()
        if current.account_id == new.account_id:
            return current, happened
        if current.holds(now):
            raise ResourceExists(
                "this subject is bound to another account; its holder ends that binding first, "
                "and the code can be used then",
                field="subject",
                metadata={"resource": f"{new.partner}/subjects"},
            )
        if current.account_id not in held:
            raise _moved()
        bindings.end(current.account_id, now, number=current.number)
        ended = Happened(Event.UNBOUND, current.number, "the consent had run out")
        happened[current.account_id] = [ended]
        bindings.claim_subject(new.digest, new.account_id, new.number)
    require_room(bindings.count(new.account_id))
    bindings.add(new)
    happened[new.account_id] = [Happened(Event.BOUND, new.number)]
    return new, happened


def _moved() -> RetryLater:
    return RetryLater(
        "the subject was bound or freed by another call just now; call again", cause="collision"
    )


def _no_such_code() -> CodeInvalid:
    return code_invalid("this code", "ask the customer for another one", "code")
