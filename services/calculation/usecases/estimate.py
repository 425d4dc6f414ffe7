"""What activities would earn: the evaluator of the live path, nothing kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.assess import Verdict, absent_value
from services.calculation.domain.evaluate import (
    NOT_ELIGIBLE,
    OUT_OF_RANGE,
    NothingUsed,
    evaluate,
)
from services.calculation.domain.exact import Act
from services.calculation.domain.explain import explain
from services.calculation.domain.history import mean_times
from services.calculation.domain.library import Library
from services.calculation.domain.methodology import Programme, Version
from services.calculation.usecases.read_assessment import Shown
from shared.ids import day_to_date
from shared.refusal import FieldInvalid, MethodologyMissing, Refusal, ResourceNotFound

Ints = NDArray[np.int64]
_VERDICTS = {OUT_OF_RANGE: Verdict.OUT_OF_RANGE, NOT_ELIGIBLE: Verdict.NOT_ELIGIBLE}


class Estimate(NamedTuple):
    """An activity that need not exist; `methodology` asks one that does not credit here.

    `history` has means of the account's own past, whole numbers in the measure's base unit.
    """

    scene: str
    measures: Mapping[str, int]
    labels: Mapping[str, str]
    history: Mapping[str, int]
    day: int
    region: int
    grade: int
    methodology: str


class Estimated(NamedTuple):
    """One result of many, or the refusal that it met."""

    version: Version | None
    verdict: int
    amount: int
    uncapped: int
    refusal: Refusal | None = None


def estimate_reduction(estimate: Estimate, *, library: Library, programme: Programme) -> Shown:
    """The assessment it would get with no cap used, with its working.

    ResourceNotFound for an unknown methodology, MethodologyMissing when nothing prices the
    scene there and then, FieldInvalid for measures, labels or history that the version does not
    declare or that lie outside what it accepts.
    """
    version, name = version_for(estimate, library, programme)
    act = read_act(estimate, version)
    working = explain(version, act)
    return Shown(
        version=version,
        programme=name,
        scene=estimate.scene,
        measures=dict(estimate.measures),
        day=estimate.day,
        verdict=_verdict(working.refused, working.credited, working.uncapped),
        amount=working.credited,
        uncapped=working.uncapped,
        used_before=(0,) * len(version.windowed_caps),
        act=act,
        superseding=False,
        working=working,
    )


def estimate_many(
    estimates: Sequence[Estimate], *, library: Library, programme: Programme
) -> list[Estimated]:
    """What each would get alone, without working; those of one version are evaluated together."""
    results: list[Estimated | None] = [None] * len(estimates)
    versions: dict[tuple[str, str, int, int], Version] = {}
    groups: dict[Version, list[tuple[int, Act]]] = {}
    for place, estimate in enumerate(estimates):
        try:
            asked = (estimate.methodology, estimate.scene, estimate.region, estimate.day)
            version = versions.get(asked)
            if version is None:
                version = versions[asked] = version_for(estimate, library, programme)[0]
            groups.setdefault(version, []).append((place, read_act(estimate, version)))
        except Refusal as refusal:
            results[place] = Estimated(None, 0, 0, 0, refusal)
    for version, rows in groups.items():
        for (place, _), result in zip(rows, _together(version, rows), strict=True):
            results[place] = result
    return [result for result in results if result is not None]


def version_for(estimate: Estimate, library: Library, programme: Programme) -> tuple[Version, str]:
    """The version to ask, and the programme under which it credits ("" when it does not)."""
    if estimate.methodology:
        methodology = library.methodologies.get(estimate.methodology.removeprefix("methodologies/"))
        if methodology is None:
            raise ResourceNotFound(estimate.methodology, "ListMethodologies lists the library")
        version = methodology.version_on(estimate.scene, estimate.day)
        if version is not None:
            return version, ""
    else:
        credit = programme.credit_for(estimate.scene, estimate.region, estimate.day)
        if credit is not None:
            return credit.version, credit.programme
    day = day_to_date(estimate.day).isoformat()
    raise MethodologyMissing(
        f"nothing prices {estimate.scene[:64]} in region {estimate.region or 'unknown'} on {day}; "
        "ask for a scene, region and day that a methodology covers",
        metadata={"scene": estimate.scene[:64], "region": estimate.region, "day": day},
    )


def read_act(estimate: Estimate, version: Version) -> Act:
    """The act as the version reads it; FieldInvalid for what it does not take."""
    measures = absent_measures(version).copy()
    if not measures.keys() >= estimate.measures.keys() or not estimate.measures:
        given = min(set(estimate.measures) - measures.keys(), default="nothing")[:64]
        raise FieldInvalid(
            "measures", f"measures names {given}; {version.name} takes {', '.join(measures)}"
        )
    measures |= estimate.measures
    for measure in version.measures:
        value = measures[measure.name]
        if not measure.min <= value <= measure.max:
            raise FieldInvalid(
                f"measures.{measure.name}",
                f"{measure.name} is {value}; {version.name} takes {measure.min} to {measure.max}",
            )
    return Act(
        measures, estimate.grade, estimate.region, estimate.day,
        labels=_codes(estimate, version), history=_parts(estimate, version),
    )  # fmt: skip


@lru_cache(maxsize=4096)
def absent_measures(version: Version) -> dict[str, int]:
    """What each measure of a version is that an act does not carry; to be copied."""
    return {measure.name: absent_value(measure.name) for measure in version.measures}


def _codes(estimate: Estimate, version: Version) -> dict[str, int]:
    if not version.labels and not estimate.labels:
        return {}
    known = {label.name: label for label in version.labels}
    for name in sorted(known.keys() | estimate.labels.keys()):
        word = estimate.labels.get(name, "")
        if name not in known or word not in known[name].values:
            allowed = "; ".join(f"{n} {', '.join(lb.values)}" for n, lb in known.items()) or "none"
            raise FieldInvalid(
                f"labels.{name[:64]}",
                f"{name[:64]} is {word[:64]!r}; {version.name} takes {allowed}",
            )
    return {name: known[name].values.index(word) + 1 for name, word in estimate.labels.items()}


def _parts(estimate: Estimate, version: Version) -> dict[str, int]:
    if not version.histories and not estimate.history:
        return {}
    known = {history.name: history for history in version.histories}
    for name, mean in estimate.history.items():
        if name not in known or not 0 <= mean <= known[name].max:
            allowed = ", ".join(f"{h.name} of 0 to {h.max}" for h in known.values()) or "none"
            raise FieldInvalid(
                f"history.{name[:64]}", f"{name[:64]} is {mean}; {version.name} takes {allowed}"
            )
    return {h.name: estimate.history.get(h.name, 0) * mean_times(h) for h in version.histories}


def _together(version: Version, rows: Sequence[tuple[int, Act]]) -> list[Estimated]:
    acts = [act for _, act in rows]

    def column(values: list[int]) -> Ints:
        return np.array(values, np.int64)

    evaluated = evaluate(
        version,
        {m.name: column([act.measures[m.name] for act in acts]) for m in version.measures},
        accounts=np.arange(len(acts)),  # nobody shares a cap with anybody
        days=column([act.day for act in acts]),
        grades=column([act.grade for act in acts]),
        regions=column([act.region for act in acts]),
        labels={lb.name: column([act.labels[lb.name] for act in acts]) for lb in version.labels},
        histories={
            h.name: column([act.history[h.name] for act in acts]) for h in version.histories
        },
        caps_used=NothingUsed(),
        trace=False,
    )
    told = zip(
        evaluated.refused.tolist(), evaluated.credited.tolist(), evaluated.uncapped.tolist(),
        strict=True,
    )  # fmt: skip
    return [Estimated(version, _verdict(r, c, u), c, u) for r, c, u in told]


def _verdict(refused: int, credited: int, uncapped: int) -> int:
    granted = Verdict.CAPPED if credited != uncapped else Verdict.GRANTED
    return _VERDICTS.get(refused, granted)
