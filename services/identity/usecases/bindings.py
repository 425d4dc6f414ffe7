"""Beginning, listing and ending the binding of partners' users; `confirm_binding` completes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from services.identity.domain.account import Account, Consent, Event, Grant, Happened
from services.identity.domain.binding import (
    BINDING,
    BINDINGS_MAX,
    CODE_LIFE,
    CODES_MAX,
    Binding,
    Code,
    link_scopes,
)
from services.identity.domain.codes import code_digest, make_code
from services.identity.domain.scopes import Scope
from services.identity.usecases.acting import (
    GUARDIAN,
    Register,
    Request,
    actor_of,
    claim,
    decider,
    hold,
    require_open,
)
from services.identity.usecases.consents import decide
from shared.clock import ClockUs
from shared.ids import account_name
from shared.refusal import (
    CodeInvalid,
    ConsentMissing,
    FieldInvalid,
    LimitReached,
    ResourceNotFound,
)


class Bindings(Protocol):
    """What these use cases need of storage; see `storage.bindings.BindingStore`."""

    def add_code(self, code: Code) -> None: ...
    def read_code(self, digest: bytes) -> Code | None: ...
    def count_codes(self, account_id: int, scope: int) -> int: ...
    def drop_code(self, digest: bytes) -> None: ...
    def drop_codes(
        self, account_id: int, *, scope: int | None = None, before: datetime | None = None
    ) -> None: ...
    def holder(self, digest: bytes) -> tuple[int, int] | None: ...
    def claim_subject(
        self, digest: bytes, account_id: int, number: int
    ) -> tuple[int, int] | None: ...
    def add(self, binding: Binding) -> None: ...
    def end(
        self, account_id: int, now: datetime, *, number: int | None = None, scope: int | None = None
    ) -> list[int]: ...
    def count(self, account_id: int) -> int: ...
    def next_number(self, account_id: int) -> int: ...
    def read(self, account_id: int, number: int) -> Binding | None: ...


@dataclass(frozen=True)
class Started:
    """A code to show to the partner, and when it stops working."""

    code: str
    expire_time: datetime


@dataclass(frozen=True)
class Ended:
    """A binding as it stands, and a feed position at which its end has been told."""

    binding: Binding
    position: int


def start_binding(
    request: Request,
    account_id: int,
    partner: str,
    grant: Grant | None,
    *,
    register: Register,
    bindings: Bindings,
    scopes: Mapping[str, Scope],
    secret: bytes,
    clock: ClockUs,
) -> Started:
    """A code that binds the account with `partner` once.

    It rests on a consent to the link in force, or on the one that `grant` makes. A retry is
    answered with the same code while that is valid, and with CODE_INVALID after.
    """
    known = claim(request, account_id, register, clock)
    account, now = hold(account_id, register, clock)
    actor = decider(request, account, now, register=register)
    # Made from the request and never kept: whoever reads the database can show it to nobody.
    code = make_code(secret, BINDING, request.key)
    digest = code_digest(secret, BINDING, code, partner)
    if known is not None:
        waiting = bindings.read_code(digest)
        if waiting is None or not waiting.valid(now):
            raise code_invalid(
                "the code of this request", "ask for one with a new request_id", "request_id"
            )
        return Started(code, waiting.expire_time)
    require_open(account)
    scope = _link_of(partner, scopes)
    happened = _link(
        account, scope, grant, now, register=register, scopes=scopes, by_guardian=actor == GUARDIAN
    )
    require_room(bindings.count(account_id))
    bindings.drop_codes(account_id, before=now)
    if bindings.count_codes(account_id, scope.code) >= CODES_MAX:
        raise LimitReached(
            f"{CODES_MAX} codes for {partner} wait and there may be {CODES_MAX}; use one, or wait "
            f"until one runs out, {CODE_LIFE.seconds // 60} minutes after it was made",
            metadata={"limit": "binding codes waiting", "value": CODES_MAX},
        )
    bindings.add_code(Code(digest, account_id, scope.code, now + CODE_LIFE))
    if happened:
        register.note(account_id, happened, actor, now)
    return Started(code, now + CODE_LIFE)


def end_binding(
    request: Request,
    account_id: int,
    number: int,
    *,
    register: Register,
    bindings: Bindings,
    clock: ClockUs,
) -> Ended:
    """The binding, ended now; one that had ended before stays as it ended.

    A child may always unbind, as it may withdraw a consent.
    """
    claim(request, account_id, register, clock)
    account, now = hold(account_id, register, clock)
    actor = actor_of(request, account, now, register=register)
    binding = read_binding(bindings, account_id, number)
    if not bindings.end(account_id, now, number=number):
        return Ended(binding, register.position_of(account_id))
    position = register.note(account_id, [Happened(Event.UNBOUND, number)], actor, now)
    return Ended(replace(binding, end_time=now, expire_time=None), position)


def end_bindings(
    account: Account, consent: Consent | None, now: datetime, *, bindings: Bindings
) -> list[Happened]:
    """Ends what rests on a consent that has ended, bindings and waiting codes, or everything of
    the account (None); what is to be noted of it. The account is held by the caller."""
    scope = None if consent is None else consent.scope
    bindings.drop_codes(account.account_id, scope=scope)
    ended = bindings.end(account.account_id, now, scope=scope)
    return [Happened(Event.UNBOUND, number) for number in ended]


def _link_of(partner: str, scopes: Mapping[str, Scope]) -> Scope:
    links = link_scopes(scopes)
    if partner not in links:
        raise ResourceNotFound(
            f"a link to {partner[:64]}", f"there are links to {', '.join(links)}"
        )
    return links[partner]


def _link(
    account: Account,
    scope: Scope,
    grant: Grant | None,
    now: datetime,
    *,
    register: Register,
    scopes: Mapping[str, Scope],
    by_guardian: bool,
) -> list[Happened]:
    """Sees to a consent to the link in force; what is to be noted if `grant` changed anything."""
    consents = register.read_consents(account.account_id)
    if grant is not None:
        if grant.scope != scope.name:
            raise FieldInvalid(
                "consent.scope",
                f"consent.scope is {grant.scope[:64]!r}; the link to {scope.partner} is "
                f"{scope.name}",
            )
        _, happened = decide(
            account, grant, consents, now, register=register, scopes=scopes, by_guardian=by_guardian
        )
        return happened
    if not linked(consents, scope.code, now):
        raise ConsentMissing(
            f"no consent to {scope.name} is in force; show its notice and send the consent with "
            "this call",
            metadata={"account": account_name(account.account_id), "scene": "",
                      "scope": scope.name, "occur_time": ""},
        )  # fmt: skip
    return []


def linked(consents: Sequence[Consent], scope: int, now: datetime) -> bool:
    """Whether a consent of the scope is in force."""
    return any(consent.scope == scope and consent.in_force(now) for consent in consents)


def require_room(count: int) -> None:
    """LIMIT_REACHED when an account with so many bindings may have no further one."""
    if count >= BINDINGS_MAX:
        raise LimitReached(
            f"the account has {count} bindings and may have {BINDINGS_MAX}; end one first",
            metadata={"limit": "bindings of an account", "value": BINDINGS_MAX},
        )


def read_binding(bindings: Bindings, account_id: int, number: int) -> Binding:
    """The binding; RESOURCE_NOT_FOUND without one."""
    binding = bindings.read(account_id, number)
    if binding is None:
        raise ResourceNotFound(f"{account_name(account_id)}/bindings/{number}")
    return binding


def code_invalid(what: str, way_out: str, field: str) -> CodeInvalid:
    """The refusal of a code that cannot be used; the same words whatever the cause."""
    return CodeInvalid(
        f"{what} was used, has run out, or never was; {way_out}",
        field=field,
        metadata={"kind": f"{BINDING} code"},
    )
