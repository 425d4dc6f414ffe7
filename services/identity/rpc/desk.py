"""What every servicer of identity works with: the database, the register, who is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from services.identity.domain.scopes import Scope
from services.identity.storage.register import Register
from services.identity.usecases.ending import Ending
from shared.clock import ClockUs
from shared.feed.freshness import freshness_token
from shared.feed.watch import Signal
from shared.ids import shard_of
from shared.rpc.paging import PageTokens
from shared.storage.engine import Database

Result = TypeVar("Result")


@dataclass(frozen=True)
class Desk:
    """Shared by the servicers of one process.

    `reads` is for watches and batches of checks, on threads of its own: a crowd of writers never
    delays a heartbeat. `ending` says what ends with an account or a consent.
    """

    database: Database
    reads: Database
    register: Callable[[sa.Connection], Register]
    ending: Callable[[Register], Ending]
    scopes: Mapping[str, Scope]
    secret: bytes
    page_tokens: PageTokens
    signal: Signal
    clock: ClockUs

    @property
    def by_code(self) -> dict[int, Scope]:
        """Scopes by the code that consents carry."""
        return {scope.code: scope for scope in self.scopes.values()}

    async def change(self, change: Callable[[Register], Result]) -> Result:
        """The result of `change` in one transaction; watchers are told after it."""
        result = await self.database.call(lambda c: change(self.register(c)))
        self.signal.set()
        return result

    async def read(self, read: Callable[[Register], Result]) -> Result:
        """The result of `read`, which only reads."""
        return await self.database.read(lambda c: read(self.register(c)))


def token_of(account_id: int, position: int) -> str:
    """The freshness token of a change that brought the account to `position`."""
    return freshness_token("identity", shard_of(account_id), position)
