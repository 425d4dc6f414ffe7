"""Signing in with a ticket of the bank, renewing, and signing out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from services.identity.domain.account import Event, Happened, State
from services.identity.domain.session import REFRESH_LIFETIME, BankCustomer, Session
from services.identity.usecases import acting
from services.identity.usecases.acting import CUSTOMER, hold
from shared.clock import ClockUs
from shared.ids import from_us
from shared.refusal import CodeInvalid, TokenInvalid

COPIED = "refresh token used twice"

ActsFor = Callable[[int, datetime], Mapping[str, int]]
"""The accounts that an account may act for at a moment, each with the second until which."""


class TicketVerifier(Protocol):
    """The bank's word on who signs in."""

    def verify(self, ticket: str, now: datetime) -> BankCustomer:
        """What the ticket says; CODE_INVALID when it is not one of the bank, valid now."""


class Register(acting.Register, Protocol):
    """What sessions need of accounts; see `storage.register.Register`."""

    def customer_account(self, key: bytes) -> int | None: ...


class Sessions(Protocol):
    """What these use cases need of storage; see `storage.sessions.Sessions`."""

    def claim_ticket(
        self, key: bytes, request: bytes, used_for: int, expire_time: datetime
    ) -> tuple[bytes, int] | None: ...
    def add(self, session: Session) -> None: ...
    def read(self, session_id: int) -> Session | None: ...
    def renew(
        self,
        session_id: int,
        generation: int,
        request: bytes,
        account_id: int | None,
        expire_time: datetime,
    ) -> Session | None: ...
    def end(self, session_id: int, now: datetime, cause: str) -> bool: ...


@dataclass(frozen=True)
class SignedIn:
    """A session, and the accounts that its tokens act for besides its own."""

    session: Session
    acts_for: Mapping[str, int]


def create_session(
    new: Session,
    ticket_key: bytes,
    ticket_end: datetime,
    customer_keys: Sequence[bytes],
    *,
    sessions: Sessions,
    register: Register,
    acts_for: ActsFor,
    clock: ClockUs,
) -> SignedIn:
    """The session of a ticket: `new`, or for a retry the one that it made before."""
    session_id = use_ticket(ticket_key, new.request, new.session_id, ticket_end, sessions=sessions)
    account_id, now = _account_held(customer_keys, register, clock)
    session = replace(new, account_id=account_id)
    others = acts_for(account_id, now) if account_id is not None else {}
    if account_id is not None:
        # A person has several relations with the bank; each of them finds the account from now on.
        register.claim_customer(customer_keys, account_id)
    if session_id == new.session_id:
        sessions.add(session)
        if account_id is not None:
            register.note(account_id, [Happened(Event.SIGNED_IN)], CUSTOMER, now)
    else:
        known = sessions.read(session_id)
        if known is None or known.end_time is not None:
            raise _ticket_refused("the ticket was used and its session has ended")
        session = replace(known, account_id=account_id)
    return SignedIn(session, others)


def use_ticket(
    key: bytes, request: bytes, used_for: int, end: datetime, *, sessions: Sessions
) -> int:
    """`used_for`; for a retry of the request that used the ticket, what it was used for then.

    CODE_INVALID when another request used it.
    """
    known = sessions.claim_ticket(key, request, used_for, end)
    if known is None:
        return used_for
    if known[0] != request:
        raise _ticket_refused("the ticket was used before, and each works once")
    return known[1]


def refresh_session(
    session_id: int,
    generation: int,
    request: bytes,
    customer_keys: Sequence[bytes],
    *,
    sessions: Sessions,
    register: Register,
    acts_for: ActsFor,
    clock: ClockUs,
) -> SignedIn | TokenInvalid:
    """The session, one generation on; the same again for a retry by the same request.

    Any other second use of a generation says that its token was copied: the session ends, and
    the refusal is returned, because raising it would undo that. A retry is answered until the
    tokens that it gave are used, or whoever saw one request could repeat it for ever.
    """
    # Whoever loses the race below holds the session by then, and ending it takes the account.
    account_id, now = _account_held(customer_keys, register, clock)
    session = sessions.renew(session_id, generation, request, account_id, now + REFRESH_LIFETIME)
    if session is None:
        known = sessions.read(session_id)
        if known is None or known.end_time is not None:
            raise token_refused("the session has ended")
        if (known.generation, known.request) != (generation + 1, request):
            _end(known, COPIED, sessions=sessions, register=register, clock=clock)
            return token_refused("the refresh token was used twice, which ended the session")
        session = replace(known, account_id=account_id)
    return SignedIn(session, acts_for(account_id, now) if account_id is not None else {})


def delete_session(
    session_id: int, *, sessions: Sessions, register: Register, clock: ClockUs
) -> None:
    """Ends a session; one that has ended stays as it ended."""
    known = sessions.read(session_id)
    if known is not None and known.end_time is None:
        _end(known, "", sessions=sessions, register=register, clock=clock)


def token_refused(cause: str) -> TokenInvalid:
    """The refusal of a refresh token."""
    return TokenInvalid(f"{cause}; sign in again", metadata={"cause": cause})


def _end(
    session: Session, cause: str, *, sessions: Sessions, register: Register, clock: ClockUs
) -> None:
    # The account is locked before the session, as whoever ends all sessions of an account does.
    now = from_us(clock())
    if session.account_id is not None:
        _, now = hold(session.account_id, register, clock)
    if sessions.end(session.session_id, now, cause) and session.account_id is not None:
        happened = Happened(Event.SIGNED_OUT, cause=cause)
        register.note(session.account_id, [happened], CUSTOMER, now)


def _account(customer_keys: Sequence[bytes], register: Register) -> int | None:
    """The account of the customer who is known under one of these keys."""
    found = (register.customer_account(key) for key in customer_keys)
    return next((account_id for account_id in found if account_id is not None), None)


def _account_held(
    customer_keys: Sequence[bytes], register: Register, clock: ClockUs
) -> tuple[int | None, datetime]:
    """The customer's account, locked until the commit, and the moment of a change to it."""
    account_id = _account(customer_keys, register)
    if account_id is None:
        return None, from_us(clock())
    account, now = hold(account_id, register, clock)
    # An erasure may have come between the look and the lock.
    return (None if account.state is State.ERASED else account_id), now


def _ticket_refused(why: str) -> CodeInvalid:
    return CodeInvalid(
        f"{why}; ask the bank for a new one", field="bank_ticket", metadata={"kind": "ticket"}
    )
