"""What households need besides calls: memberships whose consent runs out by itself end with it."""

from __future__ import annotations

from functools import partial

import structlog

from services.identity.rpc.desk import Desk
from services.identity.rpc.household_servicer import room_of
from services.identity.storage.households import HouseholdStore
from services.identity.storage.register import Register
from services.identity.usecases.household_room import begin_of, day_of
from services.identity.usecases.leave_households import end_lapsed
from services.identity.usecases.rewrap import repeat_step
from shared.ids import from_us

# A guardian's word ends at a midnight: whoever looks at all on the day before is in time.
LOOK_MS = 3_600_000
BATCH_MAX = 200  # members that are looked up at once
_log = structlog.get_logger()


async def keep_households(desk: Desk) -> None:
    """Ends memberships that lose their consent by the end of the civil day, for ever."""
    await repeat_step(partial(end_lapsing, desk), idle_ms=LOOK_MS, failed=_postponed)


async def end_lapsing(desk: Desk) -> int:
    """One look: how many memberships it ended. Several workers may look at once."""
    by = begin_of(day_of(from_us(desk.clock())) + 1)
    found = await desk.read(lambda r: HouseholdStore(r.connection).lapsing(by, BATCH_MAX))
    ended = 0
    for account_id in found:
        ended += await desk.change(partial(_end, desk, account_id))
    return ended


def _end(desk: Desk, account_id: int, register: Register) -> bool:
    return end_lapsed(account_id, room_of(register, desk))


def _postponed(error: Exception) -> None:
    _log.warning("households.postponed", error=str(error)[:200])
