"""What the vault needs besides calls: a start that is safe, and quiet work in the background."""

from __future__ import annotations

import asyncio

import structlog

from services.identity.storage import wrapping
from services.identity.storage.access_log import forget_old
from services.identity.storage.people import give_back_old_pages, seal_old_people
from services.identity.storage.vault import Vault
from services.identity.upstream.key_management import KeyManagement
from services.identity.usecases.rewrap import repeat_step
from shared.clock import ClockUs
from shared.ids import from_us
from shared.settings import StartRefused
from shared.storage.engine import Database

BATCH_MAX = 200  # rows that one transaction locks: tens of milliseconds
REWRAP_IDLE_MS = 2_000  # how long after a rotation data keys begin to move
FORGET_IDLE_MS = 3_600_000
_log = structlog.get_logger()


def open_up(database: Database, vault: Vault, keys: KeyManagement) -> None:
    """Before serving, after the migrations: every clear-text person is sealed.

    StartRefused when a wrapping key that data keys lie under is not in the key directory.
    """
    with database.transaction() as connection:
        lacking = wrapping.missing(connection, keys)
    if lacking:
        raise StartRefused(
            f"data keys are wrapped under {', '.join(lacking)}, which the directory wrapping/ of "
            "CARBONACCOUNT_IDENTITY_KEYS_DIR does not hold whole; put the file back from its copy"
        )
    moved = 1
    while moved:
        with database.transaction() as connection:
            moved = seal_old_people(connection, vault, BATCH_MAX)
    with database.transaction() as connection:
        give_back_old_pages(connection)


async def keep(database: Database, keys: KeyManagement, clock: ClockUs) -> None:
    """Re-wraps data keys after a rotation and forgets old rows of the access log, for ever."""

    async def rewrap() -> int:
        return await database.call(lambda c: wrapping.rewrap_some(c, keys, BATCH_MAX))

    async def forget() -> int:
        now = from_us(clock())
        return await database.call(lambda c: forget_old(c, now, BATCH_MAX))

    await asyncio.gather(
        repeat_step(rewrap, idle_ms=REWRAP_IDLE_MS, failed=_postponed),
        repeat_step(forget, idle_ms=FORGET_IDLE_MS, failed=_postponed),
    )


def _postponed(error: Exception) -> None:
    _log.warning("vault.postponed", error=str(error)[:200])
