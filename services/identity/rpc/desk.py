"""What every servicer of identity works with: the database, the register, who is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import sqlalchemy as sa

from services.identity.domain.scopes import Scope
from services.identity.rpc.messages import read_reader
from services.identity.storage.register import Register
from services.identity.usecases.acting import read_for
from services.identity.usecases.ending import Ending
from shared.clock import ClockUs
from shared.feed.freshness import freshness_token
from shared.feed.watch import Signal
from shared.ids import account_id_of, shard_of
from shared.rpc.paging import PageTokens, page_size_of
from shared.storage.engine import Database

Result = TypeVar("Result")
Item = TypeVar("Item")


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

    @cached_property
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

    async def page(
        self,
        request: Any,
        method: str,
        read: Callable[[Register, int, tuple[Any, ...] | None, int], Sequence[Item]],
        key: Callable[[Item], tuple[Any, ...]],
        *filters: str,
    ) -> tuple[Sequence[Item], str]:
        """A page of what hangs on the account `request.parent`, and the token of the next.

        `read(register, account_id, after, limit)` gives at most so many that follow the key
        `after`; `key` is that of one. Whoever asks must have the right to act for the account.
        """
        account_id = account_id_of(request.parent, "parent")
        size, query = page_size_of(request.page_size), (method, request.parent, *filters)
        after, asked = self.page_tokens.open(request.page_token, *query), read_reader(method)

        def allowed(register: Register) -> Sequence[Item]:
            read_for(asked, account_id, register=register, clock=self.clock)
            return read(register, account_id, after, size + 1)

        found = await self.read(allowed)
        token = self.page_tokens.seal(key(found[size - 1]), *query) if found[size:] else ""
        return found[:size], token


def token_of(account_id: int, position: int) -> str:
    """The freshness token of a change that brought the account to `position`."""
    return freshness_token("identity", shard_of(account_id), position)
