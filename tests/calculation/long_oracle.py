"""python -m tests.calculation.long_oracle: the evaluator beside the oracle over ten million acts.

Every rule of the library and of the test set gets its share, in batches that the rules of a
methodology take in turn, so that caps and pasts go on from one to the next; random rules come on
top. Writes var/oracle/report.json and ends with 1 when a single act differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from services.calculation.domain.library import LibraryInvalid, load_library
from services.calculation.domain.methodology import Version
from tests.calculation.domain.drawn import random_columns
from tests.calculation.domain.oracle import Memory, Oracle, oracles
from tests.calculation.domain.random_rules import NAME, random_file
from tests.calculation.domain.world import (
    ROOT,
    DictStore,
    differing,
    evaluate_columns,
    methodologies,
    outcomes_of,
    told_of,
)

REPORT = ROOT / "var" / "oracle" / "report.json"
BATCH, TASK_BATCHES, RANDOM_ACTS = 2_000, 10, 300
ACCOUNTS, SHOWN_MAX = 80, 20
SAY_SECONDS = 10.0

Rule = tuple[str, Version, Oracle]
Task = tuple[str, int, int]
"""A methodology's id, or NAME for a random file, a seed, and the acts of a batch."""


@dataclass
class Tally:
    """What a task or a run came to; `shown` are the first differences, as text."""

    acts: Counter[str] = field(default_factory=Counter)
    differing: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Adds what another came to."""
        self.acts += other.acts
        self.differing += other.differing
        self.met += other.met
        self.shown = (self.shown + other.shown)[:SHOWN_MAX]

    def check(self, rule: Rule, store: DictStore, memory: Memory, seed: int, size: int) -> None:
        """Evaluates one batch of random acts in both ways and counts what differs."""
        label, version, oracle = rule
        columns = random_columns(version, size, seed, ACCOUNTS, people=seed >> 16 or seed)
        own = oracle.remembering(memory)
        self.acts[label] += size
        try:
            ours = evaluate_columns(version, columns, store)
        except Exception as error:
            self.fails(label, size, seed, error)
            return
        theirs = outcomes_of(own, version, columns)
        wrong = differing(version, ours, theirs)
        self.met["capped"] += int(np.count_nonzero(ours.credited < ours.uncapped))
        self.met["refused"] += int(np.count_nonzero(ours.refused))
        self.met["credited below zero"] += int(np.count_nonzero(ours.credited < 0))
        self.met["with a past"] += sum(int(np.count_nonzero(past)) for past in ours.histories)
        if wrong:
            self.differing[label] += len(wrong)
            act = columns.take([wrong[0]]).acts(version)[0]
            told = told_of(version, ours, theirs, wrong[0])
            self.shown.append(f"seed {seed}, act {wrong[0]} of {size}: {told}: {act}")

    def fails(self, label: str, size: int, seed: int, error: Exception) -> None:
        """Counts acts that came to nothing because the evaluator broke down."""
        self.differing[label] += size
        self.shown.append(f"{label}, seed {seed}: {type(error).__name__}: {error}")


@cache
def library() -> dict[str, list[Rule]]:
    """The rules of every file, read once in each process."""
    return methodologies()


def run_task(task: Task) -> Tally:
    """One task in a process of the pool."""
    name, seed, size = task
    tally = Tally()
    if name == NAME:
        try:
            rule = _random_rule(seed)
        except Exception as error:
            tally.fails("random rules", size, seed, error)
            return tally
        if rule is not None:
            tally.check(rule, DictStore(), Memory(), seed, size)
        return tally
    rules, store, memory = library()[name], DictStore(), Memory()
    draw = random.Random(seed)
    for batch in range(TASK_BATCHES):
        tally.check(draw.choice(rules), store, memory, (seed << 16) + batch, size)
    return tally


def _random_rule(seed: int) -> Rule | None:
    text = random_file(seed)
    try:
        versions = load_library({f"{NAME}.toml": text}).methodologies[NAME].versions
    except LibraryInvalid:
        return None
    return "random rules", versions[0], oracles(text)[0]


def tasks_of(acts: int, seed: int) -> Iterator[Task]:
    """Tasks that come to at least `acts`, as many for each rule; one random rule for each."""
    weights = [name for name, rules in library().items() for _ in rules]
    size = min(BATCH, -(-acts // (len(weights) * TASK_BATCHES)))
    for number in range(-(-acts // (size * TASK_BATCHES))):
        yield weights[number % len(weights)], seed * 10**6 + number + 1, size
        yield NAME, seed * 10**6 + number + 1, RANDOM_ACTS


def run(acts: int, processes: int, seed: int) -> Tally:
    """Runs everything, with a line of progress."""
    total, started, said = Tally(), time.monotonic(), 0.0
    tasks = list(tasks_of(acts, seed))
    # Rules of one methodology stand side by side; mixed, the pace says when it will end.
    random.Random(seed).shuffle(tasks)
    with ProcessPoolExecutor(processes) as pool:
        for done, future in enumerate(as_completed([pool.submit(run_task, t) for t in tasks]), 1):
            total.add(future.result())
            now = time.monotonic() - started
            if now - said > (1.0 if sys.stderr.isatty() else SAY_SECONDS) or done == len(tasks):
                said = now
                _say(total, done / len(tasks), now)
    return total


def _say(total: Tally, part: float, seconds: float) -> None:
    acts = total.acts.total()
    line = f"{part:4.0%}  {acts:,} acts, {total.differing.total():,} differ, "
    line += f"{acts / seconds:,.0f} acts/s, {seconds / part - seconds:,.0f} s to go"
    end = "\r" if sys.stderr.isatty() and part < 1 else "\n"
    print(f"{line:100}", end=end, file=sys.stderr, flush=True)


def main() -> int:
    """0 when no act differs; the report is written either way."""
    parser = argparse.ArgumentParser(prog="make oracle")
    parser.add_argument("--acts", type=int, default=10**7, help="acts in all")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other acts")
    asked = parser.parse_args()
    started = time.monotonic()
    total = run(asked.acts, asked.processes, asked.seed)
    report = {
        "acts": total.acts.total(),
        "mismatches": total.differing.total(),
        "seconds": round(time.monotonic() - started, 1),
        "seed": asked.seed,
        "processes": asked.processes,
        "met": dict(total.met),
        "rules": {
            label: {"acts": total.acts[label], "mismatches": total.differing[label]}
            for label in sorted(total.acts)
        },
        "differences": total.shown,
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8")
    for text in total.shown:
        print(text)
    print(
        f"{report['acts']:,} acts over {len(total.acts)} rules, {report['mismatches']:,} differ, "
        f"{report['seconds']} s; {REPORT.relative_to(ROOT)}"
    )
    return 1 if total.differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
