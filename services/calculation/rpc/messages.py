"""Between the contract's messages and calculation's own types; no rule is decided here."""

from __future__ import annotations

from datetime import date

from carbonaccount.calculation.v1 import assessment_service_pb2 as pb
from carbonaccount.calculation.v1 import methodology_service_pb2 as methodology_pb
from google.type import date_pb2
from sqlalchemy import RowMapping

from services.calculation.domain.explain import Step, Working
from services.calculation.domain.methodology import Methodology, Version
from services.calculation.storage.book import Run
from shared.ids import account_id_of, date_to_day, day_to_date
from shared.refusal import FieldInvalid


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


def read_region(text: str) -> int:
    """A six-digit region code, 0 when empty."""
    if not text:
        return 0
    if len(text) != 6 or not text.isascii() or not text.isdigit():
        raise FieldInvalid("region_code", f"region_code is {text[:16]!r}; it must be six digits")
    return int(text)


def read_day(value: date_pb2.Date) -> int:
    """A civil day; FieldInvalid when it is no calendar date."""
    try:
        return date_to_day(date(value.year, value.month, value.day))
    except ValueError as error:
        said = f"{value.year}-{value.month}-{value.day}"
        raise FieldInvalid("civil_date", f"civil_date is {said}; it is no date") from error


def write_day(day: int) -> date_pb2.Date:
    """A civil day as a date."""
    value = day_to_date(day)
    return date_pb2.Date(year=value.year, month=value.month, day=value.day)


def write_steps(working: Working) -> list[pb.Step]:
    """The working, in order."""
    return [_step(step) for step in working.steps]


def _step(step: Step) -> pb.Step:
    return pb.Step(**vars(step))


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


def write_methodology(methodology: Methodology) -> methodology_pb.Methodology:
    """A methodology with every rule of every version."""
    return methodology_pb.Methodology(
        name=f"methodologies/{methodology.id}",
        title_zh=methodology.title_zh,
        title_en=methodology.title_en,
        document=str(methodology.document),
        scenes=sorted(methodology.scenes),
        versions=[_version(version) for version in methodology.versions],
    )


def _version(version: Version) -> methodology_pb.MethodologyVersion:
    factors = [
        methodology_pb.MethodologyVersion.Factor(
            key=f.key, value=f.value, unit=f.unit, source=f.source, page=f.page, status=f.status
        )
        for f in version.factors
    ]
    message = methodology_pb.MethodologyVersion(
        name=version.name,
        digest=version.digest,
        effective_date=write_day(version.effective_day),
        formula=version.formula_text,
        factors=factors,
        status=version.status,
        gas_scope=version.gas_scope,
        asset=version.asset,
    )
    if version.end_day is not None:
        message.end_date.CopyFrom(write_day(version.end_day))
    return message
