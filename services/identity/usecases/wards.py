"""Children under 14: a guardian opens the account and decides until they are of age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.identity.domain.account import Account, Grant, Kind
from services.identity.domain.scopes import Scope
from services.identity.usecases import acting
from services.identity.usecases.accounts import Opened, open_for
from services.identity.usecases.acting import GUARDIAN, Request, require_open
from shared.clock import ClockUs
from shared.ids import account_name, civil_day, to_us
from shared.refusal import CallerNotAllowed, FieldInvalid, GuardianRequired, Refusal


class Register(acting.Register, Protocol):
    """What opening a child's account needs besides; see `storage.register.Register`."""

    def customer_account(self, key: bytes) -> int | None: ...
    def add_guardianship(self, ward_id: int, guardian_id: int, now: datetime) -> None: ...


def open_ward_account(
    request: Request,
    guardian_id: int,
    new: Account,
    customer_keys: Sequence[bytes],
    guardian_key: bytes | None,
    grants: Sequence[Grant | Refusal],
    *,
    register: Register,
    scopes: Mapping[str, Scope],
    clock: ClockUs,
) -> Opened:
    """The child's account, opened by the guardian whom the bank's ticket names (`guardian_key`).

    FIELD_INVALID when the bank says that the customer is 14 or older; CALLER_NOT_ALLOWED when
    it names another guardian or none.
    """
    guardian, now = acting.hold(guardian_id, register, clock)
    day = civil_day(to_us(now))
    if not new.guarded(day):
        raise FieldInvalid(
            "bank_ticket",
            "bank_ticket is of a customer who is 14 or older and opens the own account",
        )
    if guardian_key is None or register.customer_account(guardian_key) != guardian_id:
        raise CallerNotAllowed(
            f"the bank's ticket does not name the holder of {account_name(guardian_id)} as "
            "guardian; ask the bank to record the guardianship",
            metadata={"caller": "customer", "method": request.method},
        )
    if request.by != guardian_id or guardian.guarded(day) or guardian.kind is not Kind.PERSONAL:
        raise GuardianRequired(
            "a guardian is the grown-up holder of a personal account and acts with its token",
            metadata={"account": account_name(guardian_id)},
        )
    require_open(guardian)
    return open_for(
        request, new, customer_keys, grants, register=register, scopes=scopes, actor=GUARDIAN,
        before_noting=lambda: register.add_guardianship(new.account_id, guardian_id, now),
    )  # fmt: skip
