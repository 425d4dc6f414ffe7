"""Opening, reading and closing accounts; granting and revoking consents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.identity.domain.account import Account, Consent, Grant, State
from services.identity.domain.scopes import Scope
from shared.clock import ClockUs
from shared.ids import account_name, from_us
from shared.refusal import (
    AccountNotOpen,
    FieldInvalid,
    NoticeStale,
    RequestIdReused,
    ResourceNotFound,
)

OPENED, CLOSED, GRANTED, REVOKED = 1, 2, 3, 4


class Register(Protocol):
    """What these use cases need of storage; see `storage.register.Register`."""

    def claim_customer(self, key: bytes, account_id: int) -> int:
        """The account of this customer: `account_id` when there was none before."""

    def claim_request(
        self, key: bytes, content: bytes, account_id: int
    ) -> tuple[bytes, int] | None:
        """Notes a request id; None when it is new, else its content and consent number."""

    def answer_request(self, key: bytes, consent_number: int) -> None:
        """Notes which consent a request made."""

    def add_account(self, account: Account, position: int) -> None:
        """Writes a new account."""

    def read_account(self, account_id: int, *, lock: bool = False) -> Account | None:
        """The account as it stands; `lock` holds it until the commit."""

    def set_state(self, account_id: int, state: State) -> None:
        """Moves an account on in its life."""

    def read_consents(
        self, account_id: int, *, before: int | None = None, limit: int | None = None
    ) -> list[Consent]:
        """Consents of the account, newest first; numbers below `before`, at most `limit`."""

    def put_consent(self, consent: Consent) -> None:
        """Writes a consent as it stands."""

    def note(
        self, account_id: int, happened: Sequence[tuple[int, int]], actor: str, now: datetime
    ) -> int:
        """Writes what happened (kind, consent number); the account's new place in the feed."""


@dataclass(frozen=True)
class Request:
    """Who asks what: digests of request id, and of method and content (16 bytes each)."""

    key: bytes
    content: bytes
    method: str
    actor: str


def open_account(
    request: Request,
    new: Account,
    customer_key: bytes,
    grants: Sequence[Grant],
    *,
    register: Register,
    scopes: Mapping[str, Scope],
) -> tuple[Account, list[Consent]]:
    """The customer's account, opened if there was none, and its consents.

    The account of a customer who has one is returned as it stands. Nothing is opened when one
    of the grants is refused. A closed account is final: only a retry of a request that was
    answered while it was open is still answered with it.
    """
    account_id = register.claim_customer(customer_key, new.account_id)
    known = _claim(request, account_id, register)
    if account_id != new.account_id:
        account = _read(register, account_id)
        if account.state is State.CLOSED and known is None:
            raise _not_open(account)
        return account, list(reversed(register.read_consents(account_id)))
    consents = [
        _consent(account_id, number, grant, scopes, new.open_time)
        for number, grant in enumerate(grants, 1)
    ]
    if len({consent.scope for consent in consents}) != len(consents):
        raise FieldInvalid("consents", "consents names a scope twice; grant each once")
    for consent in consents:
        register.put_consent(consent)
    happened = [(OPENED, 0), *((GRANTED, consent.number) for consent in consents)]
    position = register.note(account_id, happened, request.actor, new.open_time)
    register.add_account(new, position)
    return new, consents


def close_account(
    request: Request, account_id: int, *, register: Register, clock: ClockUs
) -> Account:
    """The account, closed for good, every consent revoked; closing twice changes nothing."""
    _claim(request, account_id, register)
    account, now = _hold(account_id, register, clock)
    if account.state is State.CLOSED:
        return account
    happened = [(CLOSED, 0)]
    for consent in register.read_consents(account_id):
        if consent.in_force(now):
            register.put_consent(consent.revoked(now))
            happened.append((REVOKED, consent.number))
    register.set_state(account_id, State.CLOSED)
    register.note(account_id, happened, request.actor, now)
    return _read(register, account_id)


def grant_consent(
    request: Request,
    account_id: int,
    grant: Grant,
    *,
    register: Register,
    scopes: Mapping[str, Scope],
    clock: ClockUs,
) -> Consent:
    """The consent, in force from now.

    One of the same scope in force is returned when the grant says the same, and otherwise
    ends at the very moment at which the new one begins.
    """
    known = _claim(request, account_id, register)
    account, now = _hold(account_id, register, clock)
    consents = register.read_consents(account_id)
    if known is not None:
        return next(consent for consent in consents if consent.number == known)
    if account.state is not State.OPEN:
        raise _not_open(account)
    number = consents[0].number + 1 if consents else 1
    consent = _consent(account_id, number, grant, scopes, now)
    older = [c for c in consents if c.scope == consent.scope and c.in_force(now)]
    for same in older:
        if same.says_as_much_as(consent):
            register.answer_request(request.key, same.number)
            return same
    for ended in older:
        register.put_consent(ended.revoked(now))
    register.put_consent(consent)
    register.answer_request(request.key, number)
    happened = [*((REVOKED, ended.number) for ended in older), (GRANTED, number)]
    register.note(account_id, happened, request.actor, now)
    return consent


def revoke_consent(
    request: Request, account_id: int, number: int, *, register: Register, clock: ClockUs
) -> Consent:
    """The consent, revoked from now on; one that had ended before stays as it ended."""
    _claim(request, account_id, register)
    _, now = _hold(account_id, register, clock)
    consents = {consent.number: consent for consent in register.read_consents(account_id)}
    consent = consents.get(number)
    if consent is None:
        raise ResourceNotFound(f"{account_name(account_id)}/consents/{number}")
    if consent.in_force(now):
        consent = consent.revoked(now)
        register.put_consent(consent)
        register.note(account_id, [(REVOKED, number)], request.actor, now)
    return consent


def list_consents(
    account_id: int, before: int | None, limit: int, *, register: Register
) -> list[Consent]:
    """At most `limit` consents, newest first, numbered below `before` when it is given."""
    _read(register, account_id)
    return register.read_consents(account_id, before=before, limit=limit)


def _consent(
    account_id: int, number: int, grant: Grant, scopes: Mapping[str, Scope], now: datetime
) -> Consent:
    scope = scopes.get(grant.scope)
    if scope is None:
        raise ResourceNotFound(grant.scope[:64], f"there are {', '.join(scopes)}")
    if grant.notice_digest != scope.notice_digest:
        raise NoticeStale(
            f"notice_digest is not that of the notice of {scope.name} in force; show the text "
            "that ListScopes gives and grant again",
            field="notice_digest",
            metadata={"scope": scope.name, "notice_digest": scope.notice_digest.hex()},
        )
    cover_from = grant.cover_from_time or now
    earliest = min(scope.cover_from_earliest or now, now)
    if not earliest <= cover_from <= now:
        raise FieldInvalid(
            "cover_from_time",
            f"cover_from_time is {cover_from.isoformat()}; the notice of {scope.name} offers "
            f"{earliest.isoformat()} to now",
        )
    if grant.expire_time is not None and grant.expire_time <= now:
        said = grant.expire_time.isoformat()
        raise FieldInvalid("expire_time", f"expire_time is {said}; it must lie in the future")
    return Consent(
        account_id, number, scope.code, scope.notice_digest, now, cover_from, None,
        grant.expire_time,
    )  # fmt: skip


def _read(register: Register, account_id: int, *, lock: bool = False) -> Account:
    account = register.read_account(account_id, lock=lock)
    if account is None:
        raise ResourceNotFound(account_name(account_id))
    return account


def _hold(account_id: int, register: Register, clock: ClockUs) -> tuple[Account, datetime]:
    """The account, locked until the commit, and the moment of a change to it."""
    account = _read(register, account_id, lock=True)
    # The clock is read after the lock: whoever waited acts after the one waited for. Clocks of
    # two workers may differ; the history of one account never runs backwards all the same.
    return account, max(from_us(clock()), account.update_time)


def _claim(request: Request, account_id: int, register: Register) -> int | None:
    """Notes the request id: None when it is new, else the number of the consent it made."""
    known = register.claim_request(request.key, request.content, account_id)
    if known is None:
        return None
    if known[0] != request.content:
        raise RequestIdReused(
            "request_id was used with another method or content; make a new one",
            field="request_id",
            metadata={"method": request.method},
        )
    return known[1]


def _not_open(account: Account) -> AccountNotOpen:
    name, word = account_name(account.account_id), account.state.name.lower()
    why = "closing is final" if account.state is State.CLOSED else "only the bank can reopen it"
    return AccountNotOpen(
        f"{name} is {word} and takes nothing new; {why}",
        metadata={"account": name, "state": word},
    )
