"""Opening, reading, changing and ending accounts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.identity.domain.account import (
    Account,
    Consent,
    Decision,
    Event,
    Grant,
    Happened,
    Kind,
    Person,
    State,
)
from services.identity.domain.household import refuse_alone
from services.identity.domain.scopes import Scope
from services.identity.usecases.acting import (
    CUSTOMER,
    GUARDIAN,
    Register,
    Request,
    actor_of,
    claim,
    decider,
    hold,
    not_open,
    read_or_refuse,
    require_open,
    same_content,
)
from services.identity.usecases.consents import decide
from shared.clock import ClockUs
from shared.ids import account_name, civil_day, from_us, to_us
from shared.refusal import EtagMismatch, GuardianRequired, Refusal, ResourceExists, StateConflict


@dataclass(frozen=True)
class Opened:
    """An account and what became of each consent that came with its opening; of a retry those
    that were granted then, as they stand."""

    account: Account
    outcomes: Sequence[Consent | Refusal]
    retry: bool = False


def open_account(
    request: Request,
    new: Account,
    customer_keys: Sequence[bytes],
    grants: Sequence[Grant | Refusal],
    *,
    register: Register,
    scopes: Mapping[str, Scope],
) -> Opened:
    """The customer's account, opened, and an outcome for each consent asked with it.

    A consent that cannot be granted, or comes in as the refusal of what could not be read, is
    refused by itself. A retry is answered with the account
    as it stands and what it granted. RESOURCE_EXISTS for another opening by a person who has an
    account, GUARDIAN_REQUIRED for a child.
    """
    if new.guarded(civil_day(to_us(new.open_time))):
        raise GuardianRequired(
            "the bank says that the customer is under 14; the guardian opens the account with "
            "OpenWardAccount",
            metadata={"account": ""},
        )
    return open_for(
        request, new, customer_keys, grants, register=register, scopes=scopes, actor=CUSTOMER
    )


def open_for(
    request: Request,
    new: Account,
    customer_keys: Sequence[bytes],
    grants: Sequence[Grant | Refusal],
    *,
    register: Register,
    scopes: Mapping[str, Scope],
    actor: str,
    before_noting: Callable[[], None] = lambda: None,
) -> Opened:
    """As `open_account`, by whoever may; `before_noting` writes what else belongs to it."""
    known = register.claim_request(request.key, request.content, new.account_id)
    if known is not None:
        return _opened_before(request, known, register)
    owner = register.claim_customer(customer_keys, new.account_id)
    if owner != new.account_id:
        raise ResourceExists(
            "this person has a carbon account; sign in and use it, or close and erase it first",
            metadata={"resource": account_name(owner) if actor == CUSTOMER else ""},
        )
    register.add_account(new)
    before_noting()
    outcomes: list[Consent | Refusal] = []
    happened = [Happened(Event.OPENED)]
    for grant in grants:
        if isinstance(grant, Refusal):
            outcomes.append(grant)
            continue
        try:
            granted = [outcome for outcome in outcomes if isinstance(outcome, Consent)]
            refuse_alone(grant.scope, "scope")
            consent, noted = decide(
                new, grant, granted[::-1], new.open_time, register=register, scopes=scopes,
                by_guardian=actor == GUARDIAN,
            )  # fmt: skip
        except Refusal as refusal:
            outcomes.append(refusal)
        else:
            outcomes.append(consent)
            happened += noted
    register.note(new.account_id, happened, actor, new.open_time)
    return Opened(new, outcomes)


def opened_before(request: Request, *, register: Register, clock: ClockUs) -> Opened | None:
    """What a retry of opening a child's account is answered with; None when the request is new.

    CALLER_NOT_ALLOWED once the right of whoever opened it has ended.
    """
    known = register.read_request(request.key)
    if known is None:
        return None
    opened = _opened_before(request, known, register)
    actor_of(request, opened.account, from_us(clock()), register=register)
    return opened


def _opened_before(request: Request, known: tuple[bytes, int, int], register: Register) -> Opened:
    same_content(known[0], request)
    account = read_or_refuse(register, known[2])
    granted = [
        consent
        for consent in reversed(register.read_consents(account.account_id))
        if consent.grant_time == account.open_time and consent.decision is Decision.GRANTED
    ]
    return Opened(account, granted, retry=True)


def update_account(
    request: Request,
    account_id: int,
    change: Callable[[Person], Person],
    etag: str,
    *,
    register: Register,
    clock: ClockUs,
) -> Account:
    """The account with its person changed; ETAG_MISMATCH when it is not what was read."""
    known = claim(request, account_id, register, clock)
    account, now = hold(account_id, register, clock)
    if known is not None:
        return account
    actor = decider(request, account, now, register=register)
    require_open(account)
    if etag and etag != str(account.person_number):
        raise EtagMismatch(
            f"etag is {etag!r} and the account has changed since; read it again and retry",
            field="account.etag",
            metadata={"resource": account_name(account_id)},
        )
    person = change(account.person)
    if person == account.person:
        return account
    number = account.person_number + 1
    register.write_person(account_id, number, person, now)
    register.note(account_id, [Happened(Event.UPDATED, number)], actor, now)
    return replace(account, person=person, person_number=number, update_time=now)


def suspend_account(
    request: Request, account_id: int, cause: str, *, register: Register, clock: ClockUs
) -> Account:
    """The account, collecting nothing from now on; suspending twice changes nothing."""
    return _move(
        request, account_id, Event.SUSPENDED, {State.OPEN}, cause, register=register, clock=clock
    )


def reinstate_account(
    request: Request, account_id: int, cause: str, *, register: Register, clock: ClockUs
) -> Account:
    """The account, open again; one that is open stays so. A closed one is final."""
    return _move(
        request, account_id, Event.REINSTATED, {State.SUSPENDED}, cause,
        register=register, clock=clock,
    )  # fmt: skip


def _move(
    request: Request,
    account_id: int,
    event: Event,
    from_states: set[State],
    cause: str,
    *,
    register: Register,
    clock: ClockUs,
) -> Account:
    known = claim(request, account_id, register, clock)
    account, now = hold(account_id, register, clock)
    wanted = {Event.SUSPENDED: State.SUSPENDED, Event.REINSTATED: State.OPEN}[event]
    # A retry that comes late changes nothing either: somebody may have decided otherwise since.
    if known is not None or account.state is wanted:
        return account
    if account.kind is Kind.HOUSEHOLD:
        raise StateConflict(
            f"{account_name(account_id)} is a household's; its members make it open or still",
            metadata={"resource": account_name(account_id), "state": account.state.name.lower(),
                      "wanted": wanted.name.lower()},
        )  # fmt: skip
    if account.state not in from_states:
        raise not_open(account)
    register.set_state(account_id, wanted)
    register.note(account_id, [Happened(event, cause=cause)], request.actor, now)
    return replace(account, state=wanted, update_time=now)


def close_account(
    request: Request,
    account_id: int,
    cause: str,
    *,
    register: Register,
    clock: ClockUs,
    also_end: Callable[[Account, datetime], list[Happened]] = lambda _account, _now: [],
) -> Account:
    """The account, closed for good, every consent revoked; closing twice changes nothing.

    `also_end` ends what else hangs on the account and says what is to be noted of it.
    """
    claim(request, account_id, register, clock)
    account, now = hold(account_id, register, clock)
    actor = decider(request, account, now, register=register)
    if account.state is State.CLOSED:
        return account
    if account.state is State.ERASED:
        raise not_open(account)  # nothing that a person sent is kept any more, not even its id
    closed = Happened(Event.CLOSED, cause=cause)
    if request.kind == CUSTOMER:
        closed = Happened(Event.CLOSED, words=cause)
    happened = [closed, *also_end(account, now)]
    for consent in register.read_consents(account_id):
        if consent.in_force(now):
            register.put_consent(consent.ended(now))
            happened.append(Happened(Event.CONSENT_REVOKED, consent.number))
    register.set_state(account_id, State.CLOSED)
    register.note(account_id, happened, actor, now)
    return replace(account, state=State.CLOSED, update_time=now)
