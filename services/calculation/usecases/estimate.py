"""What an activity would earn: the evaluator of the live path, nothing kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.calculation.domain.assess import Verdict
from services.calculation.domain.evaluate import NOT_ELIGIBLE, OUT_OF_RANGE
from services.calculation.domain.explain import explain
from services.calculation.domain.library import Library
from services.calculation.domain.methodology import Programme, Version
from services.calculation.usecases.read_assessment import Shown
from shared.ids import day_to_date
from shared.refusal import FieldInvalid, MethodologyMissing, ResourceNotFound


@dataclass(frozen=True)
class Estimate:
    """An activity that need not exist; `methodology` asks one that does not credit here."""

    scene: str
    measures: Mapping[str, int]
    day: int
    region: int
    grade: int
    methodology: str


def estimate_reduction(estimate: Estimate, *, library: Library, programme: Programme) -> Shown:
    """The assessment it would get with no cap used, with its working.

    ResourceNotFound for an unknown methodology, MethodologyMissing when nothing prices the
    scene there and then, FieldInvalid for measures that the version does not declare or that
    lie outside what it accepts.
    """
    version, name = _version(estimate, library, programme)
    declared = {measure.name for measure in version.measures}
    unknown = set(estimate.measures) - declared
    if unknown or not declared & set(estimate.measures):
        given = min(unknown, default="nothing")[:64]
        raise FieldInvalid(
            "measures",
            f"measures names {given}; {version.name} takes {', '.join(sorted(declared))}",
        )
    for measure in version.measures:
        value = estimate.measures.get(measure.name, 0)
        if not measure.min <= value <= measure.max:
            raise FieldInvalid(
                f"measures.{measure.name}",
                f"{measure.name} is {value}; {version.name} takes {measure.min} to {measure.max}",
            )
    measures = dict.fromkeys(sorted(declared), 0) | dict(estimate.measures)
    working = explain(version, measures, grade=estimate.grade, used_before=0)
    credited, uncapped = working.credited, working.uncapped
    verdict = {OUT_OF_RANGE: Verdict.OUT_OF_RANGE, NOT_ELIGIBLE: Verdict.NOT_ELIGIBLE}.get(
        working.refused, Verdict.CAPPED if credited < uncapped else Verdict.GRANTED
    )
    return Shown(
        version=version,
        programme=name,
        scene=estimate.scene,
        measures=dict(estimate.measures),
        day=estimate.day,
        verdict=verdict,
        amount=credited,
        uncapped=uncapped,
        cap_used_before=0,
        superseding=False,
        working=working,
    )


def _version(estimate: Estimate, library: Library, programme: Programme) -> tuple[Version, str]:
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
