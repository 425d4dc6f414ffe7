"""The standing auditor: shard after shard, for ever, at a small share of one core."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from shared.ids import SHARDS

SHARE = 20  # an audit that took one second is followed by twenty of rest


async def audit_book(
    audit: Callable[[int], Awaitable[bool]], *, interval_ms: int, failed: Callable[[int], None]
) -> None:
    """Audits one shard every `interval_ms` or longer; tells `failed` which does not add up."""
    shard = 0
    while True:
        started = time.monotonic()
        if not await audit(shard):
            failed(shard)
        shard = (shard + 1) % SHARDS
        took = time.monotonic() - started
        await asyncio.sleep(max(interval_ms / 1000, took * SHARE))
