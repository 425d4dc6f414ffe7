"""Bindings: a partner's user and the account whose holder it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.identity.domain.scopes import Scope

BINDINGS_MAX = 20
"""Bindings of one account that have not ended."""
CODES_MAX = 5
"""Codes of one account and partner that wait to be shown."""
CODE_LIFE = timedelta(minutes=10)
BINDING = "binding"
"""The purpose of the codes, in their digests and refusals."""


@dataclass(frozen=True)
class Binding:
    """A partner's user bound to an account, numbered from 1 within the account.

    `digest` is the keyed one of the subject (16 bytes). `expire_time` is the first moment at which
    the newest consent to the link is over; None when it does not run out.
    """

    account_id: int
    number: int
    partner: str
    digest: bytes
    scope: int
    bind_time: datetime
    end_time: datetime | None
    expire_time: datetime | None

    def holds(self, now: datetime) -> bool:
        """Whether the subject is the account's now."""
        return self.end_time is None and (self.expire_time is None or now < self.expire_time)


@dataclass(frozen=True)
class Code:
    """A one-time code that waits; `digest` is of the code and of the partner it was made for."""

    digest: bytes
    account_id: int
    scope: int
    expire_time: datetime

    def valid(self, now: datetime) -> bool:
        """Whether it may still be used."""
        return now < self.expire_time


def link_scopes(scopes: Mapping[str, Scope]) -> dict[str, Scope]:
    """The scope that links each partner, by the partner's name."""
    return {scope.partner: scope for scope in scopes.values() if scope.purpose == "LINK"}
