"""Between the contract's messages and calculation's own types; no rule is decided here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import TypeVar

from carbonaccount.activity.v1.activity_service_pb2 import EvidenceGrade
from carbonaccount.calculation.v1 import assessment_service_pb2 as pb
from google.type import date_pb2
from sqlalchemy import RowMapping

from services.calculation.domain.explain import history_text
from services.calculation.domain.result import label_words, result_digest
from services.calculation.storage.book import Run
from services.calculation.usecases.estimate import Estimate, Estimated
from services.calculation.usecases.read_assessment import Shown
from shared.ids import account_id_of, date_to_day, day_to_date
from shared.refusal import FieldInvalid

Value = TypeVar("Value", int, str)


def read_assessment_name(name: str) -> tuple[int, int]:
    """Account number and activity position of accounts/{account}/assessments/{assessment}."""
    parts = name.split("/")
    well_formed = len(parts) == 4 and parts[2] == "assessments" and len(parts[3]) < 19
    if well_formed and parts[3].isascii() and parts[3].isdigit():
        return account_id_of("/".join(parts[:2])), int(parts[3])
    raise FieldInvalid(
        "name",
        f"name is {name[:96]!r}; it must be accounts/{{account}}/assessments/{{position}} with "
        "the position that the activity shows",
    )


@lru_cache(maxsize=4096)
def read_region(text: str) -> int:
    """A six-digit region code, 0 when empty."""
    if not text:
        return 0
    if len(text) != 6 or not text.isascii() or not text.isdigit():
        raise FieldInvalid("region_code", f"region_code is {text[:16]!r}; it must be six digits")
    return int(text)


def read_day(value: date_pb2.Date, field: str = "civil_date") -> int:
    """A civil day; FieldInvalid when it is no calendar date."""
    try:
        return date_to_day(date(value.year, value.month, value.day))
    except ValueError as error:
        said = f"{value.year}-{value.month}-{value.day}"
        raise FieldInvalid(field, f"{field} is {said}; it is no date") from error


def write_day(day: int) -> date_pb2.Date:
    """A civil day as a date."""
    value = day_to_date(day)
    return date_pb2.Date(year=value.year, month=value.month, day=value.day)


def read_estimate(request: pb.EstimateReductionRequest, today: int) -> Estimate:
    """An activity that need not exist; of today unless it names a day."""
    return Estimate(
        scene=request.scene,
        measures=_plain(request.measures),
        labels=_plain(request.labels),
        history=_plain(request.history),
        day=read_day(request.civil_date) if request.HasField("civil_date") else today,
        region=read_region(request.region_code),
        grade=request.evidence_grade or 1,
        methodology=request.methodology,
    )


def _plain(given: Mapping[str, Value]) -> dict[str, Value]:
    # dict(map) takes twice as long on protobuf's maps, and most are empty.
    return {key: given[key] for key in given} if given else {}


def write_estimates(results: Sequence[Estimated]) -> pb.BatchEstimateReductionsResponse:
    """Each result in order; versions are named once."""
    response = pb.BatchEstimateReductionsResponse()
    places: dict[str, int] = {}
    for one in results:
        if one.version is None:
            refusal = one.refusal.message if one.refusal else ""
            response.estimates.add(refusal=refusal)
            continue
        version = places.setdefault(one.version.name, len(places))
        response.estimates.add(
            version=version,
            verdict=pb.Verdict.ValueType(one.verdict),
            amount=one.amount,
            uncapped=one.uncapped,
        )
    response.methodology_versions.extend(places)
    return response


def write_assessment(shown: Shown) -> pb.Assessment:
    """What an activity earns, with everything that it was computed from."""
    version, act, working = shown.version, shown.act, shown.working
    message = pb.Assessment(
        programme=shown.programme,
        verdict=pb.Verdict.ValueType(shown.verdict),
        reduction_mg=shown.amount,
        uncapped_mg=shown.uncapped,
        civil_date=write_day(shown.day),
        scene=shown.scene,
        measures=shown.measures,
        cap_used_before=shown.used_before[0] if shown.used_before else 0,
        superseding=shown.superseding,
        region_code=f"{act.region:06d}" if act.region else "",
        evidence_grade=EvidenceGrade.ValueType(act.grade),
        steps=[pb.Step(**vars(step)) for step in working.steps] if working else [],
        low_mg=working.low if working else 0,
        high_mg=working.high if working else 0,
    )
    if version is None:
        return message
    message.methodology_version = version.name
    message.methodology_digest = version.digest
    message.asset = version.asset
    message.history.update(history_text(version, act))
    message.labels.update(label_words(version, act))
    for cap, used in zip(version.windowed_caps, shown.used_before, strict=True):
        message.caps.add(cap=cap.key.partition("/")[2], used_before=used)
    if working:
        message.result_digest = result_digest(
            version, shown.scene, act, shown.used_before, shown.amount
        )
    return message


def write_run(run: Run) -> pb.AssessmentRun:
    """A run as stored; the packed columns pass through."""
    columns = run.columns
    message = pb.AssessmentRun(
        shard=run.shard,
        position=run.position,
        count=run.count,
        account_id=columns["account_id"],
        activity_position=columns["activity_position"],
        asset_class=columns["asset_class"],
        civil_day=columns["civil_day"],
        amount=columns["amount"],
        delta=columns["delta"],
        scene=columns["scene"],
        previous_class=columns["previous_class"],
    )
    message.assess_time.FromDatetime(run.assess_time)
    return message


def write_class(row: RowMapping) -> pb.AssetClass:
    """What a class code means."""
    return pb.AssetClass(
        code=row["code"],
        asset=row["asset"],
        methodology_version=row["methodology_version"],
        methodology_digest=row["methodology_digest"],
        programme=row["programme"],
        scene_approval=row["scene_approval"],
        region_code=f"{row['region']:06d}" if row["region"] else "",
        gas_scope=row["gas_scope"],
        vintage_month=row["vintage_month"],
    )
