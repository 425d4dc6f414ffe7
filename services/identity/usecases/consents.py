"""Deciding about scopes: granting, refusing and revoking consents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.identity.domain.account import (
    Account,
    Consent,
    Decision,
    Event,
    Grant,
    Happened,
)
from services.identity.domain.granting import new_consent, scope_meant, shares_confirmation
from services.identity.domain.household import refuse_alone
from services.identity.domain.scopes import Scope
from services.identity.usecases.acting import (
    GUARDIAN,
    Register,
    Request,
    actor_of,
    claim,
    decider,
    hold,
    read_or_refuse,
    require_open,
)
from shared.clock import ClockUs
from shared.ids import account_name
from shared.refusal import ConfirmationMissing, ResourceNotFound

AlsoEnd = Callable[[Account, Consent, datetime], list[Happened]]
"""Ends what hangs on a consent that has just ended, and says what is to be noted of it."""


def nothing_else(_account: Account, _consent: Consent, _now: datetime) -> list[Happened]:
    """For consents on which nothing hangs."""
    return []


@dataclass(frozen=True)
class Decided:
    """A consent as it stands after a call, and the account's newest position in the feed: who has
    followed up to there has seen what the call, or the one that it repeats, has changed."""

    consent: Consent
    position: int


def grant_consent(
    request: Request,
    account_id: int,
    grant: Grant,
    *,
    register: Register,
    scopes: Mapping[str, Scope],
    clock: ClockUs,
) -> Decided:
    """The consent, in force from now.

    One of the same scope in force is returned when the grant says the same, and otherwise
    ends at the very moment at which the new one begins.
    """
    known = claim(request, account_id, register, clock)
    account, now = hold(account_id, register, clock)
    consents = register.read_consents(account_id)
    if known is not None:
        return Decided(_numbered(account_id, consents, known), register.position_of(account_id))
    actor = decider(request, account, now, register=register)
    require_open(account)
    refuse_alone(grant.scope, "consent.scope")
    consent, happened = decide(
        account, grant, consents, now, register=register, scopes=scopes,
        by_guardian=actor == GUARDIAN,
    )  # fmt: skip
    register.answer_request(request.key, consent.number)
    if happened:
        return Decided(consent, register.note(account_id, happened, actor, now))
    return Decided(consent, register.position_of(account_id))


def refuse_consent(
    request: Request,
    account_id: int,
    grant: Grant,
    *,
    register: Register,
    scopes: Mapping[str, Scope],
    clock: ClockUs,
    also_end: AlsoEnd = nothing_else,
) -> Decided:
    """The refusal, on record; a consent of the scope in force ends with it.

    A second refusal of the same notice changes nothing. A child may refuse for itself, as it
    may withdraw.
    """
    known = claim(request, account_id, register, clock)
    account, now = hold(account_id, register, clock)
    consents = register.read_consents(account_id)
    if known is not None:
        return Decided(_numbered(account_id, consents, known), register.position_of(account_id))
    actor = actor_of(request, account, now, register=register)
    require_open(account)
    scope = scope_meant(grant, scopes)
    newest = next((c for c in consents if c.scope == scope.code), None)
    again = newest is not None and newest.decision is Decision.REFUSED
    if newest is not None and again and newest.notice_digest == scope.notice_digest:
        register.answer_request(request.key, newest.number)
        return Decided(newest, register.position_of(account_id))
    number = consents[0].number + 1 if consents else 1
    refusal = Consent(
        account_id, number, scope.code, scope.notice_digest, now, now, None, None,
        decision=Decision.REFUSED, by_guardian=actor == GUARDIAN,
    )  # fmt: skip
    happened = []
    for ended in _end_older(scope, consents, now, register):
        happened.append(Happened(Event.CONSENT_REVOKED, ended.number))
        happened += also_end(account, ended, now)
    register.put_consent(refusal)
    register.answer_request(request.key, number)
    happened.append(Happened(Event.CONSENT_REFUSED, number))
    return Decided(refusal, register.note(account_id, happened, actor, now))


def revoke_consent(
    request: Request,
    account_id: int,
    number: int,
    *,
    register: Register,
    clock: ClockUs,
    also_end: AlsoEnd = nothing_else,
) -> Decided:
    """The consent, revoked from now on; one that had ended before stays as it ended.

    A child may always withdraw, as its guardian may.
    """
    claim(request, account_id, register, clock)
    account, now = hold(account_id, register, clock)
    consent = _numbered(account_id, register.read_consents(account_id), number)
    actor = actor_of(request, account, now, register=register)
    if not consent.in_force(now):
        return Decided(consent, register.position_of(account_id))
    consent = consent.ended(now)
    register.put_consent(consent)
    happened = [Happened(Event.CONSENT_REVOKED, number), *also_end(account, consent, now)]
    return Decided(consent, register.note(account_id, happened, actor, now))


def list_consents(
    account_id: int,
    before: int | None,
    limit: int,
    as_of: datetime | None,
    *,
    register: Register,
) -> list[Consent]:
    """At most `limit` consents, newest first, numbered below `before` when it is given.

    With `as_of` they are what they were at that moment: later ones are left out and later ends
    are unknown.
    """
    if as_of is not None:
        read_or_refuse(register, account_id, as_of=as_of)  # not one that was opened later
    return register.read_consents(account_id, before=before, limit=limit, as_of=as_of)


def decide(
    account: Account,
    grant: Grant,
    consents: Sequence[Consent],
    now: datetime,
    *,
    register: Register,
    scopes: Mapping[str, Scope],
    by_guardian: bool = False,
) -> tuple[Consent, list[Happened]]:
    """The consent that `grant` makes, written, and what is to be noted of the account.

    `consents` are those of the account, newest first. Nothing is to be noted when one in force
    says the same.
    """
    number = consents[0].number + 1 if consents else 1
    consent = new_consent(account, number, grant, scopes, now, by_guardian)
    if any(shares_confirmation(consent, other) for other in consents):
        raise ConfirmationMissing(
            f"the confirmation of {grant.scope} was used for another scope; each sensitive scope "
            "needs a tap of its own",
            field="confirmation",
            metadata={"scope": grant.scope},
        )
    for same in consents:
        if same.scope == consent.scope and same.in_force(now) and same.says_as_much_as(consent):
            return same, []
    ended = _end_older(scopes[grant.scope], consents, now, register)
    register.put_consent(consent)
    happened = [Happened(Event.CONSENT_REVOKED, old.number) for old in ended]
    return consent, [*happened, Happened(Event.CONSENT_GRANTED, number)]


def _end_older(
    scope: Scope, consents: Sequence[Consent], now: datetime, register: Register
) -> list[Consent]:
    """Ends every consent of the scope that is in force; those that it ended."""
    ended = [c.ended(now) for c in consents if c.scope == scope.code and c.in_force(now)]
    for consent in ended:
        register.put_consent(consent)
    return ended


def _numbered(account_id: int, consents: Sequence[Consent], number: int) -> Consent:
    for consent in consents:
        if consent.number == number:
            return consent
    raise ResourceNotFound(f"{account_name(account_id)}/consents/{number}")
