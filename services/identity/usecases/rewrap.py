"""Background work in batches, such as moving data keys under the newest wrapping key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def repeat_step(
    step: Callable[[], Awaitable[int]], *, idle_ms: int, failed: Callable[[Exception], None]
) -> None:
    """Does `step` again and again, until cancelled; it does a batch and says how much that was.

    Between batches it rests as long as the last one took, so that callers keep half of the
    machine. When nothing was left, or a step failed, it rests for `idle_ms`.
    """
    while True:
        begin = time.monotonic()
        try:
            done = await step()
        except Exception as error:
            failed(error)
            done = 0
        took = time.monotonic() - begin
        await asyncio.sleep(took if done else idle_ms / 1000)
