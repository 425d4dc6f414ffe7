"""Whether collections are covered: one answer for each, as a single call would get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.identity.domain.account import State
from services.identity.domain.scopes import Scope
from shared.ids import account_name, from_us
from shared.refusal import AccountNotOpen, ConsentMissing, Refusal, ResourceNotFound


class Verdict(IntEnum):
    """What a column of checks is answered with; the numbers are those of the contract."""

    COVERED = 1
    CONSENT_MISSING = 2
    ACCOUNT_NOT_OPEN = 3
    NO_ACCOUNT = 4


@dataclass(frozen=True, slots=True)
class Check:
    """One collection; `occur_us` in microseconds since the epoch."""

    account_id: int
    scope: str
    occur_us: int


class Coverage(Protocol):
    """What checking needs of storage; see `storage.consents.ConsentRows`."""

    def check(
        self,
        accounts: NDArray[np.int64],
        scopes: NDArray[np.int64],
        occur_us: NDArray[np.int64],
        now: datetime,
        *,
        as_of: bool = False,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...


def check_consents(
    checks: Sequence[Check | Refusal],
    now: datetime,
    *,
    as_of: bool,
    register: Coverage,
    scopes: Mapping[str, Scope],
) -> list[str | Refusal]:
    """For each check the name of the consent that covers it, or why none does.

    A check that could not be read comes in as its refusal and goes out as it came.
    """
    rows = [check for check in checks if isinstance(check, Check)]
    states, numbers = register.check(
        np.array([check.account_id for check in rows], np.int64),
        np.array([scopes[c.scope].code if c.scope in scopes else 0 for c in rows], np.int64),
        np.array([check.occur_us for check in rows], np.int64),
        now,
        as_of=as_of,
    )
    answers = iter(
        _answer(check, state, number, scopes)
        for check, state, number in zip(rows, states.tolist(), numbers.tolist(), strict=True)
    )
    return [check if isinstance(check, Refusal) else next(answers) for check in checks]


def check_columns(
    accounts: NDArray[np.int64],
    scope: str,
    occur_us: NDArray[np.int64],
    now: datetime,
    *,
    as_of: bool,
    register: Coverage,
    scopes: Mapping[str, Scope],
) -> NDArray[np.uint8]:
    """One Verdict for each collection under `scope`; ResourceNotFound without such a scope."""
    if scope not in scopes:
        raise _no_scope(scope, scopes)
    codes = np.full(len(accounts), scopes[scope].code, np.int64)
    states, numbers = register.check(accounts, codes, occur_us, now, as_of=as_of)
    verdicts = np.full(len(accounts), Verdict.COVERED, np.uint8)
    verdicts[numbers == 0] = Verdict.CONSENT_MISSING
    verdicts[states != State.OPEN] = Verdict.ACCOUNT_NOT_OPEN
    verdicts[states == 0] = Verdict.NO_ACCOUNT
    return verdicts


def _answer(check: Check, state: int, number: int, scopes: Mapping[str, Scope]) -> str | Refusal:
    name = account_name(check.account_id)
    if check.scope not in scopes:
        return _no_scope(check.scope, scopes)
    if state == State.OPEN and number:
        return f"{name}/consents/{number}"
    if not state:
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


def _no_scope(scope: str, scopes: Mapping[str, Scope]) -> ResourceNotFound:
    return ResourceNotFound(scope[:64], f"there are {', '.join(scopes)}")
