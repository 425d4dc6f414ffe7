"""Who acts for an account, on what, and once: what every change of identity begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.identity.domain.account import (
    Account,
    Consent,
    Happened,
    Kind,
    NotedEvent,
    Person,
    State,
)
from shared.clock import ClockUs
from shared.ids import account_name, civil_day, from_us, to_us
from shared.refusal import (
    AccountNotOpen,
    CallerNotAllowed,
    GuardianRequired,
    RequestIdReused,
    ResourceNotFound,
)

CUSTOMER, GUARDIAN, MEMBER = "customer", "guardian", "member"
"""How the one who acts for an account is called in its events; staff by the name of the token."""


class Register(Protocol):
    """What these use cases need of storage; see `storage.register.Register`."""

    def claim_customer(self, keys: Sequence[bytes], account_id: int) -> int: ...
    def claim_request(
        self, key: bytes, content: bytes, account_id: int
    ) -> tuple[bytes, int, int] | None: ...
    def read_request(self, key: bytes) -> tuple[bytes, int, int] | None: ...
    def answer_request(self, key: bytes, number: int) -> None: ...
    def add_account(self, account: Account) -> None: ...
    def read_account(
        self, account_id: int, *, lock: bool = False, as_of: datetime | None = None
    ) -> Account | None: ...
    def write_person(self, account_id: int, number: int, person: Person, now: datetime) -> None: ...
    def set_state(self, account_id: int, state: State) -> None: ...
    def read_events(
        self, account_id: int, *, before: int | None = None, limit: int | None = None
    ) -> list[NotedEvent]: ...
    def read_consents(
        self,
        account_id: int,
        *,
        before: int | None = None,
        limit: int | None = None,
        as_of: datetime | None = None,
    ) -> list[Consent]: ...
    def put_consent(self, consent: Consent) -> None: ...
    def note(
        self, account_id: int, happened: Sequence[Happened], actor: str, now: datetime
    ) -> int: ...
    def position_of(self, account_id: int) -> int: ...
    def guardian_of(self, account_id: int) -> int | None: ...
    def wards_of(self, account_id: int) -> list[int]: ...
    def is_member(self, household_id: int, member_id: int, day: int) -> bool: ...


@dataclass(frozen=True)
class Request:
    """Who asks what: digests of request id, and of method and content (16 bytes each).

    `by` is the account of a customer who asks, 0 without one; `actor` how a program or staff is
    called.
    """

    key: bytes
    content: bytes
    method: str
    kind: str
    actor: str
    by: int


def actor_of(request: Request, account: Account, now: datetime, *, register: Register) -> str:
    """In which capacity the caller acts for the account: "customer", "guardian", "member", or
    the name of staff. CALLER_NOT_ALLOWED for a token whose right has ended."""
    if request.kind != CUSTOMER:
        return request.actor
    if request.by == account.account_id:
        return CUSTOMER
    day = civil_day(to_us(now))
    if account.kind is Kind.HOUSEHOLD and register.is_member(account.account_id, request.by, day):
        return MEMBER
    if account.guarded(day) and register.guardian_of(account.account_id) == request.by:
        return GUARDIAN
    raise CallerNotAllowed(
        f"this token acts for {account_name(account.account_id)} no longer; refresh the session",
        metadata={"caller": "customer", "method": request.method},
    )


def decider(request: Request, account: Account, now: datetime, *, register: Register) -> str:
    """As `actor_of`, for what a child under 14 does not decide: GUARDIAN_REQUIRED."""
    actor = actor_of(request, account, now, register=register)
    if actor == CUSTOMER and account.guarded(civil_day(to_us(now))):
        name = account_name(account.account_id)
        raise GuardianRequired(
            f"the holder of {name} is under 14; only the guardian decides this",
            metadata={"account": name},
        )
    return actor


def read_or_refuse(
    register: Register, account_id: int, *, lock: bool = False, as_of: datetime | None = None
) -> Account:
    """The account; RESOURCE_NOT_FOUND without one, or when it was opened after `as_of`."""
    account = register.read_account(account_id, lock=lock, as_of=as_of)
    if account is None:
        raise ResourceNotFound(account_name(account_id))
    return account


def read_for(
    request: Request, account_id: int, *, register: Register, clock: ClockUs
) -> tuple[Account, str]:
    """The account, and in which capacity the caller reads it; see `actor_of`."""
    account = read_or_refuse(register, account_id)
    return account, actor_of(request, account, from_us(clock()), register=register)


def hold(account_id: int, register: Register, clock: ClockUs) -> tuple[Account, datetime]:
    """The account, locked until the commit, and the moment of a change to it."""
    account = read_or_refuse(register, account_id, lock=True)
    # The clock is read after the lock: whoever waited acts after the one waited for. Clocks of
    # two workers may differ; the history of one account never runs backwards all the same.
    return account, max(from_us(clock()), account.update_time)


def claim(request: Request, account_id: int, register: Register, clock: ClockUs) -> int | None:
    """Notes the request id: None when it is new, else the number of what it made.

    A retry is answered by how things stand, so to nobody whose right has ended since.
    """
    known = register.claim_request(request.key, request.content, account_id)
    if known is None:
        return None
    same_content(known[0], request)
    if request.kind == CUSTOMER:
        read_for(request, account_id, register=register, clock=clock)
    return known[1]


def require_open(account: Account) -> None:
    """ACCOUNT_NOT_OPEN unless the account is open."""
    if account.state is not State.OPEN:
        raise not_open(account)


def not_open(account: Account) -> AccountNotOpen:
    """The refusal of what an account in its state cannot do."""
    name, word = account_name(account.account_id), account.state.name.lower()
    why = "only the bank can reopen it" if account.state is State.SUSPENDED else "that is final"
    if account.kind is Kind.HOUSEHOLD and account.state is State.SUSPENDED:
        why = "it opens when a second member has joined"
    return AccountNotOpen(
        f"{name} is {word} and takes nothing new; {why}",
        metadata={"account": name, "state": word},
    )


def same_content(content: bytes, request: Request) -> None:
    """REQUEST_ID_REUSED when the request id was used for something else."""
    if content != request.content:
        raise RequestIdReused(
            "request_id was used with another method or content; make a new one",
            field="request_id",
            metadata={"method": request.method},
        )
