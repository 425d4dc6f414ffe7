"""Erasure: the end of everything personal of a closed account, and of a household with its last
member."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.identity.domain.account import Account, Event, Happened, State
from services.identity.domain.operation import (
    IDENTITY,
    PARTS,
    RECORDS_KEPT,
    Kind,
    Operation,
    Part,
)
from services.identity.domain.operation import State as OperationState
from services.identity.usecases.acting import (
    CUSTOMER,
    MEMBER,
    Register,
    Request,
    claim,
    decider,
    hold,
    read_or_refuse,
)
from services.identity.usecases.privacy import Operations
from shared.clock import ClockUs
from shared.ids import account_name, civil_day, shard_of, to_us
from shared.privacy import Kept
from shared.refusal import StateConflict

NOBODY_LEFT = "every member is erased"


class Eraser(Protocol):
    """Ends what is personal in identity's own tables; see `storage.erasure.Eraser`."""

    def erase(self, account_id: int, now: datetime) -> dict[str, int]: ...
    def forget_requests(self, account_id: int) -> int: ...
    def reads_until(self, account_id: int) -> datetime | None: ...


class Households(Protocol):
    """What erasing needs of households; see `storage.households.HouseholdStore`."""

    def closed_of(self, member_id: int) -> list[int]: ...
    def outlives_its_members(self, household_id: int) -> bool: ...
    def lock_heads(self, account_ids: Sequence[int]) -> None: ...


def erase_account(
    request: Request,
    account_id: int,
    cause: str,
    *,
    register: Register,
    operations: Operations,
    eraser: Eraser,
    households: Households,
    clock: ClockUs,
) -> Operation:
    """The erasure of a closed account, of which identity's part is done.

    An erased account has one erasure for ever, and every later call is answered with it. A closed
    household ends with its last member, because nobody could ask for that any more.
    STATE_CONFLICT unless closed, and for the guardian of a child who is still under 14, for whom
    nobody else could decide; GUARDIAN_REQUIRED for a child.
    """
    claim(request, account_id, register, clock)
    account, now = hold(account_id, register, clock)
    if account.state is State.ERASED:
        eraser.forget_requests(account_id)  # this one, which is a digest of what a person sent
        running_or_done = (OperationState.RUNNING, OperationState.DONE)
        return operations.of_kind(account_id, Kind.ERASURE, *running_or_done)[0]
    actor = decider(request, account, now, register=register)
    _require_closed(account)
    _require_no_ward(account_id, now, register)
    told = cause if request.kind != CUSTOMER else ""  # the holder's own words go too
    erasure = _erase(account_id, now, register, operations, eraser)
    noted = [(erasure, actor, told)]
    for household_id in households.closed_of(account_id):
        household, later = hold(household_id, register, clock)
        # Asked once it is held: another member may be erased at the same moment.
        if household.state is State.CLOSED and households.outlives_its_members(household_id):
            ended = _erase(household_id, later, register, operations, eraser)
            noted.append((ended, MEMBER, NOBODY_LEFT))
    households.lock_heads([one.account_id for one, _, _ in noted])
    for one, who, why in sorted(noted, key=lambda n: (shard_of(n[0].account_id), n[0].account_id)):
        happened = [Happened(Event.ERASED, one.number, why)]
        register.note(one.account_id, happened, who, one.create_time)
    return erasure


def _erase(
    account_id: int, now: datetime, register: Register, operations: Operations, eraser: Eraser
) -> Operation:
    """The operation, begun, with identity's part done."""
    counts = eraser.erase(account_id, now)
    kept = _kept_by_identity(now, eraser.reads_until(account_id))
    number = operations.next_number(account_id)
    parts = [
        Part(service, now, counts, kept) if service == IDENTITY else Part(service)
        for service in PARTS
    ]
    erasure = Operation(account_id, number, Kind.ERASURE, OperationState.RUNNING, now, parts)
    operations.begin(erasure)
    register.set_state(account_id, State.ERASED)
    return erasure


def _require_closed(account: Account) -> None:
    if account.state is not State.CLOSED:
        name, word = account_name(account.account_id), account.state.name.lower()
        raise StateConflict(
            f"{name} is {word}; only a closed account is erased, so close it first",
            metadata={"resource": name, "state": word, "wanted": "closed"},
        )


def _require_no_ward(account_id: int, now: datetime, register: Register) -> None:
    for ward_id in register.wards_of(account_id):
        ward = read_or_refuse(register, ward_id)
        if ward.state is not State.ERASED and ward.guarded(civil_day(to_us(now))):
            name, of = account_name(account_id), account_name(ward_id)
            raise StateConflict(
                f"the holder of {name} decides for {of}, whose holder is under 14; close and "
                "erase that account first",
                metadata={"resource": name, "state": "guardian", "wanted": "no ward"},
            )


def _kept_by_identity(now: datetime, reads_until: datetime | None) -> list[Kept]:
    """What is kept of an account that is erased `now`, all of it under its number only.

    `reads_until` is when the last read in the access log is forgotten; None without reads.
    """
    until = now + RECORDS_KEPT
    kept = [
        Kept(
            "decisions about consents with their notices, and the events of the account",
            "PIPL art. 55 and 56: records of processing are kept for three years at least",
            until,
        ),
        Kept(
            "memberships of households and the shares signed in them",
            "rights of the other members to what was shared out",
        ),
        Kept(
            "the account's number, kind and state, and this record",
            "the ledger names the account, and the erasure can be proved",
        ),
    ]
    if reads_until is not None:
        kept.append(
            Kept(
                "who read personal fields of the account, when and why",
                "PIPL art. 55 and 56: evidence of who looked",
                reads_until,
            )
        )
    return kept
