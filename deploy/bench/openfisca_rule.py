"""The rule of the side-by-side, written for OpenFisca-Core; a child process measures it.

Runs with the python of an environment of its own and imports nothing of ours. Lines of standard
input name what to do, each is answered by one line of JSON; the acts are in a file, so that both
sides have the same ones.

An act is OpenFisca's person, an account its group. OpenFisca calculates one period at a time
and remembers nothing from one simulation to the next: the acts are all of one day, and its cap
counts those of this simulation alone, where ours asks a store and says what is used after.
The population is set from arrays, which is the fastest way there is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openfisca_core.entities import build_entity  # type: ignore[import-not-found]
from openfisca_core.periods import DateUnit, period  # type: ignore[import-not-found]
from openfisca_core.simulations import Simulation  # type: ignore[import-not-found]
from openfisca_core.taxbenefitsystems import TaxBenefitSystem  # type: ignore[import-not-found]
from openfisca_core.variables import Variable  # type: ignore[import-not-found]

Ints = NDArray[np.int64]
PARAMETERS = Path(__file__).with_name("openfisca_parameters")
DAY = period("2026-04-01")
CALLS = 1_000
BATCH = 10**6
MEMBER = {"key": "member", "plural": "members", "label": "act of the account"}
ACT = build_entity(key="act", plural="acts", label="one act", is_person=True)
ACCOUNT = build_entity(key="account", plural="accounts", label="one account", roles=[MEMBER])


class distance_metre(Variable):  # noqa: N801  # the class names the variable
    """How far; float32, as OpenFisca keeps every number with a fraction."""

    value_type = float
    entity = ACT
    definition_period = DateUnit.DAY


class ride_mg(Variable):  # noqa: N801
    """The whole ride, rounded down to a milligram: metre times g/km is mg."""

    value_type = float
    entity = ACT
    definition_period = DateUnit.DAY

    def formula(act, day, parameters):  # type: ignore[no-untyped-def]  # noqa: N805
        return np.floor(act("distance_metre", day) * parameters(day).metro.g_per_km)


class reduction_mg(Variable):  # noqa: N801
    """The same of the part that counts."""

    value_type = float
    entity = ACT
    definition_period = DateUnit.DAY

    def formula(act, day, parameters):  # type: ignore[no-untyped-def]  # noqa: N805
        metro = parameters(day).metro
        part = np.minimum(act("distance_metre", day), metro.longest_metre)
        return np.floor(part * metro.g_per_km)


class credited_mg(Variable):  # noqa: N801
    """Of the first rides of the account."""

    value_type = float
    entity = ACT
    definition_period = DateUnit.DAY

    def formula(act, day, parameters):  # type: ignore[no-untyped-def]  # noqa: N805
        place = act.simulation.account.members_position
        return act("reduction_mg", day) * (place < parameters(day).metro.rides_a_day)


class distance_whole_metre(Variable):  # noqa: N801
    """How far, as int32: the formula below then runs in float64."""

    value_type = int
    entity = ACT
    definition_period = DateUnit.DAY


class ride_whole_mg(Variable):  # noqa: N801
    """The whole ride as int32, which is as exact as OpenFisca can be made to be."""

    value_type = int
    entity = ACT
    definition_period = DateUnit.DAY

    def formula(act, day, parameters):  # type: ignore[no-untyped-def]  # noqa: N805
        return np.floor(act("distance_whole_metre", day) * parameters(day).metro.g_per_km)


VARIABLES = (
    distance_metre, ride_mg, reduction_mg, credited_mg, distance_whole_metre, ride_whole_mg
)  # fmt: skip


class Side:
    """The system, and the acts to measure it with."""

    def __init__(self, acts: Path) -> None:
        with np.load(acts) as columns:
            self.distance: Ints = columns["distance"]
            self.account: Ints = columns["account"]
            self.far: Ints = columns["far"]
        self.system = TaxBenefitSystem([ACT, ACCOUNT])
        self.system.load_parameters(str(PARAMETERS))
        self.system.add_variables(*VARIABLES)

    def simulation(self, distance: Ints, account: Ints, *, trace: bool, whole: bool = False) -> Any:
        """A new simulation of these acts; `account` numbers the accounts from 0."""
        populations = self.system.instantiate_entities()
        acts, accounts = populations["act"], populations["account"]
        acts.count, accounts.count = len(distance), int(account.max()) + 1
        acts.ids, accounts.ids = np.arange(acts.count), np.arange(accounts.count)
        accounts.members_entity_id = account
        simulation = Simulation(self.system, populations)
        simulation.trace = trace
        simulation.set_input("distance_whole_metre" if whole else "distance_metre", DAY, distance)
        return simulation

    def vector(self, *, trace: bool) -> dict[str, Any]:
        """All acts at once: seconds from columns to result, and those of the calculation."""
        begin = time.perf_counter()
        simulation = self.simulation(self.distance, self.account, trace=trace)
        ready = time.perf_counter()
        total = int(simulation.calculate("credited_mg", DAY).sum(dtype=np.float64))
        end = time.perf_counter()
        return {"seconds": end - begin, "calculate_seconds": end - ready, "total_mg": total}

    def scalar(self, *, trace: bool) -> dict[str, Any]:
        """One act a call, each in a simulation of its own."""
        alone = np.zeros(1, np.int64)
        total = 0
        begin = time.perf_counter()
        for place in range(CALLS):
            one = self.simulation(self.distance[place : place + 1], alone, trace=trace)
            total += int(one.calculate("credited_mg", DAY)[0])
        return {"seconds": time.perf_counter() - begin, "calls": CALLS, "total_mg": total}

    def exact(self) -> dict[str, Any]:
        """How many acts come to another milligram than in whole numbers, and by how much."""
        wrong = off = wrong_near = wrong_whole = 0
        for start in range(0, len(self.far), BATCH):
            far = self.far[start : start + BATCH].astype(np.int64)
            apart, whole = np.arange(len(far)), far * 467 // 10
            floats = self.simulation(far, apart, trace=False)
            ints = self.simulation(far, apart, trace=False, whole=True)
            error = np.abs(floats.calculate("ride_mg", DAY).astype(np.int64) - whole)
            near = floats.calculate("reduction_mg", DAY).astype(np.int64)
            wrong += int(np.count_nonzero(error))
            off += int(error.sum())
            wrong_near += int(np.count_nonzero(near != np.minimum(far, 20_000) * 467 // 10))
            wrong_whole += int(np.count_nonzero(ints.calculate("ride_whole_mg", DAY) != whole))
        return {
            "wrong": wrong, "off_mg": off, "wrong_near": wrong_near, "wrong_whole": wrong_whole
        }  # fmt: skip


def main() -> None:
    """Answers until standard input ends."""
    side = Side(Path(sys.argv[1]))
    answers: dict[str, Callable[[], dict[str, Any]]] = {
        "vector": lambda: side.vector(trace=False),
        "traced": lambda: side.vector(trace=True),
        "scalar": lambda: side.scalar(trace=False),
        "scalar_traced": lambda: side.scalar(trace=True),
        "exact": side.exact,
    }
    for line in sys.stdin:
        print(json.dumps(answers[line.strip()]()), flush=True)


if __name__ == "__main__":
    main()
