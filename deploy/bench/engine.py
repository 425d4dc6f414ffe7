"""How fast the evaluator is beside numpy written by hand for the same rule, and how exact.

`python -m deploy.bench.engine` prints the figures; `run` returns them. One million metro rides,
three for each account and day, at most two credited a day, evaluated in batches of 4,096 to
16,384 against a store of what was used that is one array. Rides come in random order within
blocks of 32,768, so that a day's rides of an account meet in one batch or in several.

engine_exact_per_s     acts a second through `evaluate`, with the working kept
engine_ratio_to_numpy  its rate over that of the hand-written function, same batches, same
                       store, same sort, alternated in the same run, medians
engine_trace_cost      extra time to keep what `explain` needs: `used_before` of every act in
                       record order, packed as storage keeps it; against `trace=False`
float64_wrong_mg       of 10^6 rides, how many floor(km * 46.7 * 1000) gets wrong in float64
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.evaluate import Evaluated, evaluate
from services.calculation.domain.library import load_library
from services.calculation.domain.methodology import Version

Ints = NDArray[np.int64]
BATCHES = (4_096, 8_192, 16_384)
DAY, AMOUNT = 20_544, 2
RULE = """
id = "bench-metro"
title_zh = "测速"
title_en = "Bench"
gas_scope = "CO2"
asset = "reduction"

[document]
title = "bench"
publisher = "bench"
date = "2026"
source = "SZ-PT-2021 with a cap of our own"

[[version]]
id = "1"
effective_date = 2022-01-01
rounding = "floor"

[[version.rule]]
scenes = ["scenes/metro-ride"]
formula = "distance_metre * metro_g_per_km"

[[version.rule.measure]]
name = "distance_metre"
unit = "metre"
min = 0
max = 200_000
label_zh = "距离"
label_en = "distance"

[[version.rule.factor]]
key = "metro_g_per_km"
value = "46.7"
unit = "g/km"
source = "SZ-PT-2021"
status = "reposted"
label_zh = "因子"
label_en = "factor"

[[version.rule.cap]]
id = "rides-a-day"
window = "day"
of = "count"
amount = 2
source = "bench"
status = "decision"

[[version.rule.case]]
id = "five"
measures = { distance_metre = 5000 }
expected_mg = 233_500
source = "arithmetic"
"""


class ArrayStore:
    """What each account used on one day, in an array by account number."""

    def __init__(self, accounts: int) -> None:
        self.used = np.zeros(accounts, np.int64)

    def used_before(self, cap_key: str, accounts: Ints, windows: Ints) -> Ints:
        """What each account used."""
        return self.used[accounts]


@dataclass(frozen=True)
class Rides:
    """Columns of all rides, and the batches they come in."""

    distance_metre: Ints
    account: Ints
    day: Ints
    batches: list[slice]

    @property
    def accounts(self) -> int:
        """Count of accounts."""
        return len(self.account) // 3 + 1


def make_rides(count: int, seed: int = 7) -> Rides:
    """`count` rides, three for each account, all on one civil day."""
    random = np.random.default_rng(seed)
    account = np.arange(count) // 3
    for start in range(0, count, 32_768):
        random.shuffle(account[start : start + 32_768])
    batches: list[slice] = []
    start = 0
    while start < count:
        size = BATCHES[len(batches) % len(BATCHES)]
        batches.append(slice(start, min(start + size, count)))
        start += size
    distance = random.integers(0, 60_000, count)
    return Rides(distance, account, np.full(count, DAY), batches)


def by_engine(version: Version, rides: Rides, *, trace: bool) -> int:
    """Total mg by the evaluator; with `trace`, `used_before` is packed as storage keeps it."""
    store, total, kept = ArrayStore(rides.accounts), 0, 0
    for batch in rides.batches:
        evaluated: Evaluated = evaluate(
            version,
            {"distance_metre": rides.distance_metre[batch]},
            accounts=rides.account[batch],
            days=rides.day[batch],
            caps_used=store,
            trace=trace,
        )
        ((_, after),) = evaluated.left_behind
        store.used[after.accounts] = after.used
        total += int(evaluated.credited.sum())
        if trace:
            kept += len(evaluated.used_before[0].astype(">i8").tobytes())
    assert kept == (8 * len(rides.account) if trace else 0)
    return total


def by_hand(rides: Rides) -> int:
    """The same total, as one would write it with numpy for this rule and nothing else."""
    store, total, kept = ArrayStore(rides.accounts), 0, 0
    for batch in rides.batches:
        credited, before = _by_hand(rides.distance_metre[batch], rides.account[batch], store)
        total += int(credited.sum())
        kept += len(before.astype(">i8").tobytes())
    assert kept == 8 * len(rides.account)
    return total


def _by_hand(distance_metre: Ints, account: Ints, store: ArrayStore) -> tuple[Ints, Ints]:
    reduction_mg = distance_metre * 467 // 10
    asks = (reduction_mg > 0).astype(np.int64)
    # Account and place in one number: one plain sort groups stably (it beats a stable argsort).
    bits = len(account).bit_length()
    keys = (account << bits) | np.arange(len(account))
    keys.sort()
    order = keys & ((1 << bits) - 1)
    keys >>= bits
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    lengths = np.diff(starts, append=len(order))
    start = store.used_before("", keys[starts], starts)
    asked = asks[order]
    after = np.cumsum(asked)
    before = after - asked
    offset = np.repeat(start - before[starts], lengths)
    after, before = np.minimum(after + offset, AMOUNT), np.minimum(before + offset, AMOUNT)
    store.used[keys[starts]] = after[starts + lengths - 1]
    granted, used_before = np.empty_like(after), np.empty_like(after)
    granted[order] = after - before
    used_before[order] = before
    return reduction_mg * granted, used_before


def float64_wrong(count: int) -> int:
    """How many of the rides of 0 to `count` - 1 metres float64 rounds to another milligram."""
    metre = np.arange(count)
    in_floats = np.floor(metre / 1000 * 46.7 * 1000).astype(np.int64)
    return int(np.count_nonzero(in_floats != metre * 467 // 10))


def run(quick: bool = False) -> dict[str, float]:
    """Measures everything; `quick` takes a fifth of the rides and fewer rounds."""
    rides = make_rides(200_000 if quick else 1_000_000)
    version = load_library({"bench-metro.toml": RULE}).version_on("bench-metro", DAY)
    assert version is not None
    ways: dict[str, Callable[[], int]] = {
        "traced": lambda: by_engine(version, rides, trace=True),
        "plain": lambda: by_engine(version, rides, trace=False),
        "hand": lambda: by_hand(rides),
    }
    totals = {name: way() for name, way in ways.items()}
    if len(set(totals.values())) != 1:
        raise RuntimeError(f"the ways disagree about the total mg: {totals}")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(5 if quick else 15):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begin)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "engine_exact_per_s": round(len(rides.account) / median["traced"]),
        "engine_ratio_to_numpy": round(median["hand"] / median["traced"], 3),
        "engine_trace_cost": round(median["traced"] / median["plain"] - 1, 3),
        "float64_wrong_mg": float64_wrong(1_000_000),
    }


if __name__ == "__main__":
    json.dump(run(quick="--quick" in sys.argv), sys.stdout, indent=2)
    sys.stdout.write("\n")
