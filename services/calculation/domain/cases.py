"""Published cases: read with their rule, and run before the rule may serve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.calculation.domain.evaluate import NothingUsed, evaluate
from services.calculation.domain.exact import Act
from services.calculation.domain.explain import explain
from services.calculation.domain.factor_parts import read_region
from services.calculation.domain.formula import INT64_MAX
from services.calculation.domain.history import mean_times
from services.calculation.domain.methodology import Version
from services.calculation.domain.reading import Section
from services.calculation.domain.rule import GRADES, Case, Label

_COUNT_MAX = 10_000
_TOLERANCE_PARTS = 1000


def read_case(row: Section, asset: str, labels: Sequence[Label]) -> Case:
    """A published input and its answer."""
    expected = "expected_point" if asset.startswith("point:") else "expected_mg"
    read_region(row)
    region = row.text("region", "")
    case = Case(
        id=row.text("id"),
        measures=row.wholes("measures"),
        labels=_codes(row, labels),
        history=row.wholes("history", {}),
        region=int(region) if region else 0,
        day=row.day("day", required=False),
        grade=GRADES[row.choice("grade", tuple(GRADES), "recorded")],
        count=row.whole("count", 1, _COUNT_MAX, 1),
        expected=row.whole(expected, -INT64_MAX, INT64_MAX),
        tolerance=row.whole("tolerance", 0, INT64_MAX, 0),
        source=row.text("source"),
    )
    row.close()
    return case


def _codes(row: Section, labels: Sequence[Label]) -> dict[str, int]:
    words, known = row.words("labels"), {label.name: label for label in labels}
    for name, word in words.items():
        if name not in known or word not in known[name].values:
            allowed = "; ".join(f"{n}: {', '.join(label.values)}" for n, label in known.items())
            raise row.fault(f"labels has {name} = {word!r}; the rule takes {allowed or 'none'}",
                            "labels")  # fmt: skip
    return {name: known[name].values.index(word) + 1 for name, word in words.items()}


def run_case(row: Section, version: Version, case: Case) -> None:
    """FileInvalid when the case does not come to what was published."""
    for kind, given, declared in (
        ("measures", set(case.measures), {measure.name for measure in version.measures}),
        ("labels", set(case.labels), {label.name for label in version.labels}),
        ("history", set(case.history), {history.name for history in version.histories}),
    ):
        if given != declared and (kind != "history" or given):
            names = ", ".join(sorted(declared)) or "none"
            raise row.fault(f"{kind} must be exactly those of the rule: {names}", kind)
    day = version.effective_day if case.day is None else case.day
    if not version.in_force(day):
        raise row.fault("day must be one on which the version is in force", "day")
    act = Act(
        case.measures, case.grade, region=case.region, day=day, labels=case.labels,
        history={
            history.name: case.history.get(history.name, 0) * mean_times(history)
            for history in version.histories
        },
    )  # fmt: skip
    got = sum(credited_of(version, act, case.count))
    told = explain(version, act).credited if case.count == 1 else got
    if case.tolerance > max(1, abs(case.expected) // _TOLERANCE_PARTS):
        raise row.fault("tolerance is more than a thousandth of what is expected", "tolerance")
    if abs(got - case.expected) > case.tolerance or told != got:
        raise row.fault(
            f"must give {case.expected} and gives {got}; mend the formula, a factor or the case"
        )


def credited_of(version: Version, act: Act, count: int = 1) -> list[int]:
    """What `count` such acts of one account on one day are credited by the evaluator."""
    evaluated = evaluate(
        version,
        {name: np.full(count, value, np.int64) for name, value in act.measures.items()},
        accounts=np.ones(count, np.int64),
        days=np.full(count, act.day, np.int64),
        grades=np.full(count, act.grade, np.int64),
        regions=np.full(count, act.region, np.int64),
        labels={name: np.full(count, code, np.int64) for name, code in act.labels.items()},
        histories={name: np.full(count, parts, np.int64) for name, parts in act.history.items()},
        caps_used=NothingUsed(),
    )
    return [int(credited) for credited in evaluated.credited]
