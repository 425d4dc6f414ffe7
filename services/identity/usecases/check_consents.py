"""Whether collections are covered: one answer for each, as a single call would get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.identity.domain.account import State
from services.identity.domain.scopes import Scope
from shared.clock import ClockUs
from shared.ids import account_name, from_us
from shared.refusal import AccountNotOpen, ConsentMissing, Refusal, ResourceNotFound


@dataclass(frozen=True, slots=True)
class Check:
    """One collection; `occur_us` in microseconds since the epoch."""

    account_id: int
    scope: str
    occur_us: int


class Coverage(Protocol):
    """What checking needs of storage; see `storage.register.Register`."""

    def check(
        self, accounts: Sequence[int], scopes: Sequence[int], occur_us: Sequence[int], now: datetime
    ) -> dict[int, tuple[int | None, int | None]]:
        """For each row: state of the account, number of the covering consent; None without."""


def check_consents(
    checks: Sequence[Check | Refusal],
    *,
    register: Coverage,
    scopes: Mapping[str, Scope],
    clock: ClockUs,
) -> list[str | Refusal]:
    """For each check the name of the consent that covers it, or why none does.

    A check that could not be read comes in as its refusal and goes out as it came.
    """
    rows = [check for check in checks if isinstance(check, Check)]
    found = register.check(
        [check.account_id for check in rows],
        [scopes[check.scope].code if check.scope in scopes else 0 for check in rows],
        [check.occur_us for check in rows],
        from_us(clock()),
    )
    answers = iter(_answer(check, *found[row], scopes=scopes) for row, check in enumerate(rows))
    return [check if isinstance(check, Refusal) else next(answers) for check in checks]


def _answer(
    check: Check, state: int | None, number: int | None, *, scopes: Mapping[str, Scope]
) -> str | Refusal:
    name = account_name(check.account_id)
    if state == State.OPEN and number is not None and check.scope in scopes:
        return f"{name}/consents/{number}"
    if check.scope not in scopes:
        return ResourceNotFound(check.scope[:64], f"there are {', '.join(scopes)}")
    if state is None:
        return ResourceNotFound(name)
    if state != State.OPEN:
        word = State(state).name.lower()
        return AccountNotOpen(
            f"{name} is {word}; nothing more is collected for it",
            metadata={"account": name, "state": word},
        )
    moment = from_us(check.occur_us).isoformat()
    return ConsentMissing(
        f"no consent of {name} to {check.scope} is in force and covers {moment}; the customer "
        "must grant one before it is collected",
        metadata={"account": name, "scene": "", "scope": check.scope, "occur_time": moment},
    )
