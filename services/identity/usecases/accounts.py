"""Opening, reading and closing accounts; granting and withdrawing consents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.identity.domain.account import Account, Consent, Grant, State
from services.identity.domain.scopes import Scope
from shared.ids import account_name
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

    def claim_customer(self, key: bytes, account_id: int) -> int: ...
    def claim_request(
        self, key: bytes, content: bytes, account_id: int
    ) -> tuple[bytes, int] | None: ...
    def answer_request(self, key: bytes, consent_number: int) -> None: ...
    def add_account(self, account: Account, position: int) -> None: ...
    def read_account(self, account_id: int, *, lock: bool = False) -> Account | None: ...
    def set_state(self, account_id: int, state: State) -> None: ...
    def read_consents(self, account_id: int) -> list[Consent]: ...
    def put_consent(self, consent: Consent) -> None: ...
    def note(
        self, account_id: int, happened: Sequence[tuple[int, int]], actor: str, now: datetime
    ) -> int: ...


@dataclass(frozen=True)
class Request:
    """Who asks, when, and the digests of request id and content (16 bytes each)."""

    key: bytes
    content: bytes
    actor: str
    now: datetime


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
    of the grants is refused.
    """
    account_id = register.claim_customer(customer_key, new.account_id)
    known = register.claim_request(request.key, request.content, account_id)
    _same_content(known, request)
    if account_id != new.account_id or known is not None:
        account = _read(register, account_id)
        if account.state is State.CLOSED:
            raise _not_open(account)
        return account, list(reversed(register.read_consents(account_id)))
    happened = [(OPENED, 0)]
    consents = []
    for number, grant in enumerate(grants, 1):
        consents.append(_consent(new.account_id, number, grant, scopes, request.now))
        register.put_consent(consents[-1])
        happened.append((GRANTED, number))
    if len({consent.scope for consent in consents}) != len(consents):
        raise FieldInvalid("consents", "consents names a scope twice; grant each once")
    position = register.note(account_id, happened, request.actor, request.now)
    register.add_account(new, position)
    return new, consents


def close_account(request: Request, account_id: int, *, register: Register) -> Account:
    """The account, closed for good, every consent withdrawn; closing twice changes nothing."""
    _same_content(register.claim_request(request.key, request.content, account_id), request)
    account = _read(register, account_id, lock=True)
    if account.state is State.CLOSED:
        return account
    happened = [(CLOSED, 0)]
    for consent in register.read_consents(account_id):
        if consent.in_force(request.now):
            register.put_consent(consent.revoked(request.now))
            happened.append((REVOKED, consent.number))
    register.set_state(account_id, State.CLOSED)
    register.note(account_id, happened, request.actor, request.now)
    return _read(register, account_id)


def grant_consent(
    request: Request,
    account_id: int,
    grant: Grant,
    *,
    register: Register,
    scopes: Mapping[str, Scope],
) -> Consent:
    """The consent, in force from now; one of the same scope in force is replaced by it."""
    known = register.claim_request(request.key, request.content, account_id)
    _same_content(known, request)
    account = _read(register, account_id, lock=True)
    consents = register.read_consents(account_id)
    if known is not None:
        return next(consent for consent in consents if consent.number == known[1])
    if account.state is not State.OPEN:
        raise _not_open(account)
    number = consents[0].number + 1 if consents else 1
    consent = _consent(account_id, number, grant, scopes, request.now)
    happened = []
    for older in consents:
        if older.scope == consent.scope and older.in_force(request.now):
            register.put_consent(older.revoked(request.now))
            happened.append((REVOKED, older.number))
    register.put_consent(consent)
    register.answer_request(request.key, number)
    happened.append((GRANTED, number))
    register.note(account_id, happened, request.actor, request.now)
    return consent


def revoke_consent(
    request: Request, account_id: int, number: int, *, register: Register
) -> Consent:
    """The consent, withdrawn from now on; withdrawing twice keeps the first moment."""
    _same_content(register.claim_request(request.key, request.content, account_id), request)
    _read(register, account_id, lock=True)
    consents = {consent.number: consent for consent in register.read_consents(account_id)}
    consent = consents.get(number)
    if consent is None:
        raise ResourceNotFound(f"{account_name(account_id)}/consents/{number}")
    if consent.revoke_time is None:
        consent = consent.revoked(request.now)
        register.put_consent(consent)
        register.note(account_id, [(REVOKED, number)], request.actor, request.now)
    return consent


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


def _same_content(known: tuple[bytes, int] | None, request: Request) -> None:
    if known is not None and known[0] != request.content:
        raise RequestIdReused(
            "request_id was used with other content; make a new one for a new request",
            field="request_id",
            metadata={"method": request.actor},
        )


def _not_open(account: Account) -> AccountNotOpen:
    name, word = account_name(account.account_id), account.state.name.lower()
    return AccountNotOpen(f"{name} is {word}", metadata={"account": name, "state": word})
