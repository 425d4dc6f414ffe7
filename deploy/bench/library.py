"""How long the whole shipped library takes to load, as every start of calculation loads it.

`python -m deploy.bench.library` prints the figures; `run` returns them. Reading all files (the
methodologies, programmes, factors and calculators), checking and compiling them and running
their cases are counted; importing modules is not.

library_load_ms       the first load of a fresh process, median of several processes
library_load_warm_ms  later loads in a process that has loaded it before, median
library_methodologies and library_versions say how much was loaded
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from services.calculation.domain.methodology import Library
from services.calculation.domain.registry import load_registry
from services.calculation.factor_files import read_factor_files
from services.calculation.storage.shelf import Shelf
from services.calculation.wiring import HERE, read_texts
from services.launch.layout import CHECKOUT

LOADS = 5


def load() -> Library:
    """What ships, loaded as a start of the service does it."""
    registry = load_registry(read_factor_files())
    return Shelf(read_texts(), registry, "demo", read_texts(HERE / "calculators")).library


def loads_ms(count: int) -> list[float]:
    """Milliseconds of each of `count` loads in this process."""
    taken = []
    for _ in range(count):
        begin = time.perf_counter()
        load()
        taken.append((time.perf_counter() - begin) * 1000)
    return taken


def fresh_ms() -> list[float]:
    """The loads of a process of their own, the first of which is the fresh one."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.bench.library", "--loads"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        check=True,
    )
    taken: list[float] = json.loads(done.stdout)
    return taken


def run(quick: bool = False) -> dict[str, float]:
    """Measures the library that ships; `quick` starts fewer processes."""
    processes = [fresh_ms() for _ in range(2 if quick else 5)]
    library = load()
    return {
        "library_load_ms": round(statistics.median(taken[0] for taken in processes), 1),
        "library_load_warm_ms": round(
            statistics.median(one for taken in processes for one in taken[1:]), 1
        ),
        "library_methodologies": len(library.methodologies),
        "library_versions": sum(len(m.versions) for m in library.methodologies.values()),
    }


if __name__ == "__main__":
    told = loads_ms(LOADS) if "--loads" in sys.argv else run(quick="--quick" in sys.argv)
    json.dump(told, sys.stdout, indent=2)
    sys.stdout.write("\n")
