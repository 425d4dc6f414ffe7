"""What identity does beside calls, in small batches and for ever: rows that have had their time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from services.identity.opening import find_outdated, renew
from services.identity.rpc.desk import Desk
from services.identity.rpc.household_servicer import room_of
from services.identity.storage import wrapping
from services.identity.storage.access_log import forget_old
from services.identity.storage.households import HouseholdStore
from services.identity.storage.notices import read_heads
from services.identity.storage.register import Register
from services.identity.storage.sessions import purge
from services.identity.upstream.key_management import KeyManagement
from services.identity.usecases.leave_households import end_lapsed
from shared.clock import ClockUs
from shared.ids import civil_day, civil_day_begin_us, from_us
from shared.log import in_short
from shared.storage.engine import Database

BATCH_MAX = 200  # rows that one transaction locks: tens of milliseconds
REWRAP_IDLE_MS = 2_000  # how long after a rotation data keys begin to move
FORGET_IDLE_MS = 3_600_000
PURGE_IDLE_MS = 60_000
# A guardian's word ends at a midnight: whoever looks at all on the day before is in time.
LAPSING_IDLE_MS = 3_600_000
# How long a consent covers that a worker of the release before writes to its older text.
OUTDATED_IDLE_MS = 1_000
_log = structlog.get_logger()


def keep(desk: Desk, keys: KeyManagement) -> list[Coroutine[Any, Any, None]]:
    """All of it; every worker does it, and several may at once."""
    return [
        rewrap_keys(desk.database, keys),
        forget_reads(desk.database, desk.clock),
        purge_sessions(desk.database, desk.clock),
        repeat_step("households", partial(end_lapsing, desk), idle_ms=LAPSING_IDLE_MS),
        repeat_step("notices", Outdated(desk).end_some, idle_ms=OUTDATED_IDLE_MS),
    ]


async def rewrap_keys(database: Database, keys: KeyManagement) -> None:
    """Moves data keys under the newest wrapping key."""
    rewrap = partial(wrapping.rewrap_some, keys=keys, limit=BATCH_MAX)
    await repeat_step("rewrap", lambda: database.call(rewrap), idle_ms=REWRAP_IDLE_MS)


async def forget_reads(database: Database, clock: ClockUs) -> None:
    """Takes away rows of the access log that are past their time."""

    async def forget() -> int:
        return await database.call(lambda c: forget_old(c, from_us(clock()), BATCH_MAX))

    await repeat_step("access_log", forget, idle_ms=FORGET_IDLE_MS)


async def purge_sessions(database: Database, clock: ClockUs) -> None:
    """Takes away expired sessions and tickets: a tenth of a sign-in, were it done there."""

    async def purge_some() -> int:
        return await database.call(lambda c: purge(c, from_us(clock())))

    await repeat_step("sessions", purge_some, idle_ms=PURGE_IDLE_MS)


async def end_lapsing(desk: Desk) -> int:
    """Ends memberships that lose their consent by the end of the civil day; how many."""
    by = from_us(civil_day_begin_us(civil_day(desk.clock()) + 1))
    found = await desk.read(lambda r: HouseholdStore(r.connection).lapsing(by, BATCH_MAX))
    ended = 0
    for account_id in found:
        ended += await desk.change(partial(_end, desk, account_id))
    return ended


class Outdated:
    """Ends consents to older texts that workers of the release before go on to write.

    The first look reads every consent: between the start that settled the texts and this one
    nobody may have looked. After it the feed says which accounts have moved.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._seen: dict[int, int] | None = None

    async def end_some(self) -> int:
        """Ends them in some accounts; in how many it looked for them."""
        desk = self._desk
        heads = await desk.reads.read(read_heads)
        if heads == self._seen:
            return 0
        database = desk.database if self._seen is None else desk.reads
        found = await database.read(partial(find_outdated, desk, moved_after=self._seen))
        for account_id in found:
            await desk.change(partial(renew, desk, account_id))
        if not found:
            self._seen = heads
        return len(found)


async def repeat_step(work: str, step: Callable[[], Awaitable[int]], *, idle_ms: int) -> None:
    """Does `step` again and again, until cancelled; it does a batch and says how much that was.

    Between batches it rests as long as the last one took, so that callers keep half of the
    machine. When nothing was left, or a step failed, it rests for `idle_ms`.
    """
    while True:
        begin = time.monotonic()
        try:
            done = await step()
        except Exception as error:
            _log.warning("keeping.postponed", work=work, error=in_short(error))
            done = 0
        took = time.monotonic() - begin
        await asyncio.sleep(took if done else idle_ms / 1000)


def _end(desk: Desk, account_id: int, register: Register) -> bool:
    return end_lapsed(account_id, room_of(register, desk))
