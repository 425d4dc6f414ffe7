"""What ends together: with an account all that hangs on it, with a consent what rests on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.identity.domain.account import Account, Consent, Happened

Hook = Callable[[Account, Consent | None, datetime], list[Happened]]
"""Ends what rests on an account's consent that has ended, or on all of them (None), in the
transaction of the caller, and says what is to be noted of the account."""


@dataclass(frozen=True)
class Ending:
    """The hooks of all rooms, on one connection."""

    hooks: Sequence[Hook]

    def with_consent(self, account: Account, consent: Consent, now: datetime) -> list[Happened]:
        """Ends what rests on one consent."""
        return [one for hook in self.hooks for one in hook(account, consent, now)]

    def with_account(self, account: Account, now: datetime) -> list[Happened]:
        """Ends what rests on any consent of the account."""
        return [one for hook in self.hooks for one in hook(account, None, now)]
