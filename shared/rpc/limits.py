"""Calls a second: one bucket for each peer and method, in bounded memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from shared.refusal import LimitReached

PEERS_MAX = 10_000


class CallLimits:
    """Token buckets that refill at the rate a method states; a burst is one second's worth.

    At most `peers_max` buckets are kept; the one that was used longest ago makes room.
    """

    def __init__(
        self, peers_max: int = PEERS_MAX, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._peers_max = peers_max
        self._clock_s = clock_s
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def spend(self, peer: str, method: str, rate: int) -> None:
        """Takes one call from the peer's bucket; LimitReached says when there is one again.

        A refused call costs nothing, so that a peer that hammers still gets its rate.
        """
        now = self._clock_s()
        calls, since = self._buckets.pop((peer, method), (float(rate), now))
        calls = min(float(rate), calls + (now - since) * rate)
        enough = calls >= 1
        if len(self._buckets) >= self._peers_max:
            self._buckets.popitem(last=False)
        self._buckets[peer, method] = (calls - 1 if enough else calls, now)
        if not enough:
            raise LimitReached(
                f"{method} takes {rate} calls a second from one peer; wait and call again",
                retry_after_ms=int((1 - calls) / rate * 1000) + 1,
                metadata={"limit": "calls_per_second", "value": rate},
            )


def host_of(peer: str) -> str:
    """The host part of gRPC's peer text: a peer with many connections is still one peer."""
    return peer.rpartition(":")[0]
