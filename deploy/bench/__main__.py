"""python -m deploy.bench: section 6 of the architecture, measured; writes var/bench/report.json.

Every figure is beside a floor or an alternative that was measured in the same run. Bars are
printed, never enforced: a report is not a test.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable

from deploy.bench import (
    consents,
    engine,
    estimates,
    ledger,
    library,
    openfisca,
    races,
    restate,
    unary,
)
from deploy.bench.floor import Floor
from deploy.bench.openfisca_env import NotMeasured
from deploy.bench.pipeline import Passed, freshness_ms, paced, pass_through, sizes
from deploy.bench.reads import reads_per_s
from deploy.bench.world import World, appends, running_world, wait_until_known
from services.launch.layout import CHECKOUT

Figures = dict[str, float]
APPEND = 1000
BARS = {
    "pipeline_per_s": (20_000, ">="),
    "pipeline_ratio_to_floor": (1.0, ">="),
    "pipeline_cpu_ratio": (0.6, ">="),
    "ledger_hot_pool_per_s": (20_000, ">="),
    "ledger_ratio_to_sql": (0.5, ">="),
    "engine_exact_per_s": (2_000_000, ">="),
    "engine_ratio_to_numpy": (0.5, ">="),
    "engine_trace_cost": (0.2, "<="),
    "engine_wrong_mg": (0, "<="),
    "openfisca_ratio_scalar": (1.0, ">="),
    "openfisca_ratio_vector": (1.0, ">="),
    "openfisca_ratio_traced": (1.0, ">="),
    "library_load_ms": (1000, "<="),
    "estimate_per_s": (1500, ">="),
    "estimate_p99_ms": (12, "<="),
    "estimate_batch_items_per_s": (50_000, ">="),
    "restate_per_s": (100_000, ">="),
    "record_unary_ratio": (0.5, ">="),
    "freshness_p50_ms": (100, "<="),
    "freshness_p99_ms": (500, "<="),
    "flatness_10k_to_1m": (0.8, ">="),
    "bytes_per_act": (600, "<="),
    "wal_bytes_per_act": (1500, "<="),
    "consent_checks_per_s": (50_000, ">="),
    "consent_withdrawal_p99_ms": (2_000, "<="),
    "consent_accepted_after_bound": (0, "<="),
    "overspend_races": (0, "<="),
}


def main() -> None:
    """Runs everything, prints a table and writes the report."""
    quick = "--quick" in sys.argv[1:]
    started = time.time()
    figures: Figures = {}
    _say("engine")
    figures.update(engine.run(quick))
    _say("library")
    figures.update(library.run(quick))
    _say("OpenFisca beside ours")
    not_measured = _openfisca(figures, quick)
    _say("estimates")
    figures.update(estimates.run(quick))
    _with_a_suite(figures, quick)
    for name in BARS.keys() - figures.keys():
        not_measured.setdefault(name, "no part of this run gave it")
    report = {
        "figures": figures,
        "not_measured": not_measured,
        "bars": {name: f"{sign} {bar}" for name, (bar, sign) in BARS.items()},
        "distribution": "3 rides an account on one civil day, far apart in the stream; "
        "one ingest stream of appends of 1,000 acts for each of two lanes",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "quick": quick,
        "seconds": round(time.time() - started),
    }
    path = CHECKOUT / "var" / "bench" / "report.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    for name, value in figures.items():
        bar, sign = BARS.get(name, (0, ""))
        met = "" if not sign else ("met" if _meets(value, bar, sign) else "MISSED")
        print(f"{name:32} {value:>14,.3f}   {f'{sign} {bar:,}' if sign else '':>14} {met}")
    for name, why in sorted(not_measured.items()):
        print(f"{name:32} not measured: {why}")
    print(f"report: {path}")


def _with_a_suite(figures: Figures, quick: bool) -> None:
    """Everything that is measured on running services."""
    with running_world(20_000 if quick else 333_334) as world:
        _say("accounts")
        wait_until_known(world)
        _pipeline(world, figures, quick)
        _say("unary")
        figures.update(unary.measure(world, 2 if quick else 8))
        _say("ledger")
        assert world.supervisor.postgres is not None
        world.supervisor.postgres.create_database("ledger_bench")
        figures.update(ledger.run(world.url("ledger_bench"), quick=quick))
        _say("races")
        figures.update(races.run(world, quick=quick))
        _say("restatement")
        figures.update(restate.run(world, quick=quick))
        # Last: nobody after it meets an account that has withdrawn.
        _say("consents")
        figures.update(
            consents.measure(world, 20 * 10**6, figures["pipeline_per_s"] / 2, quick=quick)
        )


def _openfisca(figures: Figures, quick: bool) -> dict[str, str]:
    """The side by side; where OpenFisca cannot be installed, why there is none, by name."""
    figures.update(openfisca.engine_exactness(quick))
    try:
        figures.update(openfisca.run(quick))
    except NotMeasured as error:
        return {name: str(error) for name in BARS if name.startswith("openfisca_")}
    return {}


def _pipeline(world: World, figures: Figures, quick: bool) -> None:
    """Pipeline and floor in turn, A B A B; then sizes, flatness and freshness."""
    small = 10_000
    _say("the first 10,000 acts")
    _pass(world, "small", 0, small)
    early = reads_per_s(world, 0, small)
    acts = 40_000 if quick else 500_000
    floor_acts = 20_000 if quick else 200_000
    floor, floors, passes = Floor(world), [], []
    before = sizes(world)
    for turn in range(2):
        _say(f"pipeline, turn {turn + 1}")
        first = small + turn * acts
        passes.append(_pass(world, f"turn{turn}", first, acts))
        _say(f"floor, turn {turn + 1}")
        messages = list(appends(world, turn * floor_acts, floor_acts, APPEND))
        grown = sizes(world)
        floors.append(floor.run(messages, floor_acts))
        wal = sizes(world)[1] - grown[1]
        before = (before[0], before[1] + wal)  # the floor's own WAL is not the pipeline's
    after = sizes(world)
    floor.close()
    rate = statistics.mean(p.per_s for p in passes)
    figures["pipeline_per_s"] = round(rate)
    figures["floor_per_s"] = round(statistics.mean(f.per_s for f in floors))
    figures["pipeline_ratio_to_floor"] = round(rate / figures["floor_per_s"], 3)
    figures["pipeline_cpu_us_per_act"] = round(statistics.mean(p.cpu_us_per_act for p in passes), 1)
    figures["floor_cpu_us_per_act"] = round(statistics.mean(f.cpu_us_per_act for f in floors), 1)
    figures["pipeline_cpu_ratio"] = round(
        figures["floor_cpu_us_per_act"] / figures["pipeline_cpu_us_per_act"], 3
    )
    figures["acts_per_transaction"] = round(
        sum(p.acts for p in passes) / sum(p.transactions for p in passes)
    )
    figures["bytes_per_act"] = round((after[0] - before[0]) / (2 * acts))
    figures["wal_bytes_per_act"] = round((after[1] - before[1]) / (2 * acts))
    late = reads_per_s(world, 0, small)
    for name, one in (("balance", 0), ("duplicate", 1)):
        figures[f"{name}_per_s_10k"], figures[f"{name}_per_s_1m"] = (
            round(early[one]),
            round(late[one]),
        )
    figures["flatness_10k_to_1m"] = round(min(late[0] / early[0], late[1] / early[1]), 3)
    _freshness(world, figures, rate, quick)


def _freshness(world: World, figures: Figures, rate: float, quick: bool) -> None:
    """Half of the reached rate, batches of 500: warm-up, then what counts."""
    half, number = rate / 2, 5 * 10**6
    for name, seconds in (("warm", 2 if quick else 10), ("counted", 5 if quick else 60)):
        _say(f"freshness, {name}")
        acts = round(half * seconds / 500) * 500
        after = _last_batch(world)
        messages = list(appends(world, number, acts, 500))
        asyncio.run(paced(world, messages, f"paced-{name}", half, 500))
        number += acts
    p50, p99, worst = freshness_ms(world, after)
    figures["freshness_offered_per_s"] = round(half)
    figures["freshness_p50_ms"] = round(p50, 1)
    figures["freshness_p99_ms"] = round(p99, 1)
    figures["freshness_max_ms"] = round(worst, 1)


def _pass(world: World, name: str, first: int, acts: int) -> Passed:
    """`acts` acts through two lanes at once, serialised before the clock starts."""
    half = acts // 2
    lanes = [
        (f"{name}-{lane}", list(appends(world, first + lane * half, half, APPEND)))
        for lane in range(2)
    ]
    return asyncio.run(pass_through(world, lanes, 2 * half))


def _last_batch(world: World) -> int:
    with world.connect("activity") as connection:
        row = connection.execute("select coalesce(max(batch), 0) from activity_run").fetchone()
    assert row is not None
    return int(str(row[0]))


def _meets(value: float, bar: float, sign: str) -> bool:
    meets: dict[str, Callable[[], bool]] = {">=": lambda: value >= bar, "<=": lambda: value <= bar}
    return meets[sign]()


def _say(what: str) -> None:
    print(f"... {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
