"""Between the contract's messages and the factor registry's types; no rule is decided here."""

from __future__ import annotations

from datetime import date

from carbonaccount.calculation.v1 import factor_service_pb2 as pb
from google.type import date_pb2

from services.calculation.domain.factors import FactorValue, Series
from services.calculation.rpc.messages import write_day
from services.calculation.usecases.look_up_factor import PREFIX, FactorQuestion, FoundFactor
from shared.ids import date_to_day
from shared.refusal import FieldInvalid

_YEAR_MAX = 2100


def read_question(request: pb.LookUpFactorRequest, today: int) -> FactorQuestion:
    """What is asked; FieldInvalid for a date or year that is none."""
    if not 0 <= request.year <= _YEAR_MAX:
        raise FieldInvalid(
            "year", f"year is {request.year}; write a data year up to {_YEAR_MAX}, or 0 for any"
        )
    return FactorQuestion(
        series=request.series,
        region=request.region_code,
        key=request.key,
        as_of_day=_read_as_of(request.as_of) if request.HasField("as_of") else today,
        year=request.year or None,
    )


def write_found(found: FoundFactor) -> pb.LookUpFactorResponse:
    """The answer to a question."""
    return pb.LookUpFactorResponse(
        factor=_factor(found.series, found.value),
        reason_zh=found.reason_zh,
        reason_en=found.reason_en,
    )


def write_series(series: Series) -> pb.FactorSeries:
    """A series with every value, superseded ones included."""
    message = write_head(series)
    message.factors.extend(_factor(series, value) for value in series.values)
    return message


def write_head(series: Series) -> pb.FactorSeries:
    """A series without its values."""
    return pb.FactorSeries(
        name=f"{PREFIX}{series.id}",
        title_zh=series.title_zh,
        title_en=series.title_en,
        unit=series.unit,
        gas_scope=series.gas_scope,
        category=series.category,
    )


def _factor(series: Series, value: FactorValue) -> pb.Factor:
    message = pb.Factor(
        series=f"{PREFIX}{series.id}",
        value=value.value,
        unit=value.unit,
        region_code=value.region,
        key=value.key,
        year=value.year,
        low=value.low,
        high=value.high,
        source=value.source,
        page=value.page,
        status=value.status,
        note=value.note,
        gas_scope=series.gas_scope,
    )
    if value.publish_day is not None:
        message.publish_date.CopyFrom(write_day(value.publish_day))
    after = series.superseding(value)
    if after is not None:
        message.superseded_by.value, message.superseded_by.source = after.value, after.source
        if after.publish_day is not None:
            message.superseded_by.publish_date.CopyFrom(write_day(after.publish_day))
    return message


def _read_as_of(value: date_pb2.Date) -> int:
    try:
        return date_to_day(date(value.year, value.month, value.day))
    except ValueError as error:
        said = f"{value.year}-{value.month}-{value.day}"
        raise FieldInvalid("as_of", f"as_of is {said}; it is no calendar date") from error
