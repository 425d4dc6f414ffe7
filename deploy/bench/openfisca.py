"""Our evaluator beside OpenFisca-Core: the same rule, the same acts, in turn, in one run.

`python -m deploy.bench.openfisca` prints the figures; `run` returns them. The rule is
floor(min(distance, 20 km) * 46.7 g/km) for at most two rides of an account and day. The acts are
a million rides, three an account, of 1 to 59,999 m. Both sides go from columns to milligrams:
OpenFisca sets up a population and calculates in float32, we check ranges, ask what the caps had
used and say what is used after. `openfisca_rule` says what else OpenFisca does otherwise.

openfisca_ratio_vector     a million at once: our acts a second over theirs, medians
openfisca_ratio_calculate  the same, of theirs only the calculation, its population made before
openfisca_ratio_traced     a million at once with what explains each result: their trace keeps
                           intermediate columns, ours `used_before`, packed as storage keeps it
openfisca_ratio_in_runs    the same, ours in runs of 65,536, whose columns stay in the processor's
                           cache; OpenFisca cannot go in runs, for its cap forgets between them
openfisca_ratio_scalar     one act a call: our EstimateReduction without the wire, which words its
                           working in two languages, over a simulation an act without trace
openfisca_ratio_scalar_traced  the same over a simulation with trace
openfisca_ratio_scalar_exact   our plain evaluator, result only, over the one without trace
openfisca_wrong_mg         of 10^7 rides of 0 to 200,000 m, those whose milligrams are others than
                           those of whole numbers; `openfisca_off_mg` is the sum of the errors
openfisca_wrong_mg_to_20_km  the same with the rule's limit of 20 km: float32 is enough there
openfisca_wrong_mg_in_int  the same, all 200 km, written with integer variables: then numpy
                           calculates in float64
engine_wrong_mg            the same of ours, checked by whole-number arithmetic of numpy
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deploy.bench import openfisca_env
from deploy.bench.engine import DAY, RULE, Ints, Rides, by_engine
from deploy.bench.openfisca_env import Child, NotMeasured
from services.calculation.domain.evaluate import NothingUsed, evaluate
from services.calculation.domain.exact import Act, assess_act
from services.calculation.domain.library import load_library
from services.calculation.domain.methodology import Library, Version
from services.calculation.usecases.estimate import Estimate, estimate_reduction

CALLS = 1_000
FAR_METRE = 200_000
_LONGEST = """
[[version.rule.factor]]
key = "longest"
value = "20"
unit = "km"
source = "bench"
status = "reposted"
label_zh = "计入的路程"
label_en = "the part that counts"

[[version.rule.cap]]"""
NEAR_RULE = RULE.replace('= "distance_metre *', '= "min(distance_metre, longest) *').replace(
    "\n[[version.rule.cap]]", _LONGEST
)
PROGRAMME = """
id = "bench"
title_zh = "测速"
title_en = "Bench"
demo = true

[[entry]]
scene = "scenes/metro-ride"
region = "440300"
methodology = "bench-metro"
scene_approval = "demo: bench"
from_date = 2022-01-01
"""

Answer = dict[str, Any]


def make_rides(count: int) -> Rides:
    """`count` rides of one day, three an account, in random order within blocks of 32,768."""
    random = np.random.default_rng(11)
    account = np.arange(count) // 3
    for start in range(0, count, 32_768):
        random.shuffle(account[start : start + 32_768])
    distance = random.integers(1, 60_000, count)
    return Rides(distance, account, np.full(count, DAY), [])


class Ours:
    """Our side: the same words as theirs."""

    def __init__(self, rides: Rides) -> None:
        self._rides = rides
        self._library: Library = load_library(
            {"bench-metro.toml": NEAR_RULE, "programmes/bench.toml": PROGRAMME}
        )
        self._version = _version_of(self._library)

    def vector(self, *, trace: bool, run_acts: int = 10**6) -> Answer:
        """All acts at once, or so many at once."""
        size = len(self._rides.account)
        batches = [slice(start, start + run_acts) for start in range(0, size, run_acts)]
        rides = replace(self._rides, batches=batches)
        begin = time.perf_counter()
        total = by_engine(self._version, rides, trace=trace)
        return {"seconds": time.perf_counter() - begin, "total_mg": total}

    def scalar(self) -> Answer:
        """One estimate a call, with its working, as EstimateReduction makes it."""
        programme = self._library.programmes["bench"]

        def call(metre: int) -> int:
            asked = Estimate(
                scene="scenes/metro-ride", measures={"distance_metre": metre}, labels={},
                history={}, day=DAY, region=440300, grade=1, methodology="",
            )  # fmt: skip
            return estimate_reduction(asked, library=self._library, programme=programme).amount

        return self._calls(call)

    def scalar_exact(self) -> Answer:
        """One result a call, in fractions, without working."""
        return self._calls(
            lambda metre: assess_act(self._version, Act({"distance_metre": metre})).credited
        )

    def _calls(self, call: Callable[[int], int]) -> Answer:
        metres = self._rides.distance_metre[:CALLS].tolist()
        begin = time.perf_counter()
        total = sum(map(call, metres))
        return {"seconds": time.perf_counter() - begin, "calls": CALLS, "total_mg": total}


def far_rides(quick: bool) -> Ints:
    """The metres of 10^7 rides, or of a tenth of them, drawn anew alike each time."""
    return np.random.default_rng(13).integers(0, FAR_METRE + 1, 10**6 if quick else 10**7)


def engine_exactness(quick: bool = False) -> dict[str, float]:
    """`engine_wrong_mg`: rides to which our evaluator gives others than whole numbers do."""
    far = far_rides(quick)
    version = _version_of(load_library({"bench-metro.toml": RULE}))
    wrong = 0
    for start in range(0, len(far), 10**6):
        metre = far[start : start + 10**6].astype(np.int64)
        apart = np.arange(len(metre))
        evaluated = evaluate(
            version, {"distance_metre": metre}, accounts=apart,
            days=np.full(len(metre), DAY), caps_used=NothingUsed(),
        )  # fmt: skip
        # At most 200,000 * 467: whole numbers of 64 bits hold it, so this is exact.
        wrong += int(np.count_nonzero(evaluated.credited != metre * 467 // 10))
    return {"engine_exactness_acts": len(far), "engine_wrong_mg": wrong}


def run(quick: bool = False) -> dict[str, float]:
    """Measures everything; `quick` takes a fifth of the rides and fewer rounds.

    NotMeasured when OpenFisca cannot be installed here or its side fails.
    """
    rides = make_rides(200_000 if quick else 10**6)
    far = far_rides(quick)
    ours = Ours(rides)
    with _saved(rides, far) as acts, openfisca_env.child(acts) as theirs:
        taken = _in_turn(theirs, ours, 5 if quick else 15)
        exact = theirs.ask("exact")
    return {
        **_figures(taken, len(rides.account)),
        "openfisca_exactness_acts": len(far),
        "openfisca_wrong_mg": exact["wrong"],
        "openfisca_off_mg": exact["off_mg"],
        "openfisca_wrong_mg_to_20_km": exact["wrong_near"],
        "openfisca_wrong_mg_in_int": exact["wrong_whole"],
    }


def _in_turn(theirs: Child, ours: Ours, rounds: int) -> dict[str, Answer]:
    """Medians of all ways, theirs and ours in turn; the first round only warms."""
    ways: dict[str, Callable[[], Answer]] = {
        "theirs_vector": lambda: theirs.ask("vector"),
        "vector": lambda: ours.vector(trace=False),
        "theirs_traced": lambda: theirs.ask("traced"),
        "traced": lambda: ours.vector(trace=True),
        "in_runs": lambda: ours.vector(trace=True, run_acts=65_536),
        "theirs_scalar": lambda: theirs.ask("scalar"),
        "scalar": ours.scalar,
        "theirs_scalar_traced": lambda: theirs.ask("scalar_traced"),
        "scalar_exact": ours.scalar_exact,
    }
    answers: dict[str, list[Answer]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            answers[name].append(way())
    for mine, other in (("vector", "theirs_vector"), ("scalar", "theirs_scalar")):
        ours_mg, theirs_mg = answers[mine][0]["total_mg"], answers[other][0]["total_mg"]
        if abs(ours_mg - theirs_mg) > ours_mg // 10**6:
            raise RuntimeError(f"{mine}: {ours_mg} mg here and {theirs_mg} mg there: two rules")
    return {
        name: {key: statistics.median(one[key] for one in many[1:]) for key in many[0]}
        for name, many in answers.items()
    }


def _figures(taken: dict[str, Answer], acts: int) -> dict[str, float]:
    rates = {name: taken[name].get("calls", acts) / taken[name]["seconds"] for name in taken}
    rates["theirs_calculate"] = acts / taken["theirs_vector"]["calculate_seconds"]
    ratios = {
        "vector": ("vector", "theirs_vector"),
        "calculate": ("vector", "theirs_calculate"),
        "traced": ("traced", "theirs_traced"),
        "in_runs": ("in_runs", "theirs_traced"),
        "scalar": ("scalar", "theirs_scalar"),
        "scalar_traced": ("scalar", "theirs_scalar_traced"),
        "scalar_exact": ("scalar_exact", "theirs_scalar"),
    }
    figures: dict[str, float] = {}
    for name, rate in rates.items():
        who = "openfisca" if name.startswith("theirs_") else "beside_openfisca"
        figures[f"{who}_{name.removeprefix('theirs_')}_per_s"] = round(rate)
    for name, (mine, other) in ratios.items():
        figures[f"openfisca_ratio_{name}"] = round(rates[mine] / rates[other], 3)
    return figures


@contextmanager
def _saved(rides: Rides, far: Ints) -> Iterator[Path]:
    """A file with all acts, for the other side; it is gone after the block."""
    openfisca_env.HOME.mkdir(parents=True, exist_ok=True)
    path = openfisca_env.HOME / "acts.npz"
    np.savez(path, distance=rides.distance_metre, account=rides.account, far=far.astype(np.int32))
    try:
        yield path
    finally:
        path.unlink()


def _version_of(library: Library) -> Version:
    version = library.version_on("bench-metro", DAY)
    assert version is not None
    return version


def main() -> None:
    """Prints the figures, or why there are none."""
    quick = "--quick" in sys.argv
    try:
        json.dump({**engine_exactness(quick), **run(quick)}, sys.stdout, indent=2)
    except NotMeasured as error:
        sys.exit(f"not measured: {error}")
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
