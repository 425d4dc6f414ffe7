"""Between the contract's messages and the types of spending and trips; no rule is decided here."""

from __future__ import annotations

from collections.abc import Sequence

from carbonaccount.calculation.v1 import footprint_service_pb2 as pb

from services.calculation.domain.rates import Where
from services.calculation.domain.spending import Month, Payment, Spending, Spent, YuanRate
from services.calculation.domain.trips import Credited, TripComparison, TripMode, Trips
from services.calculation.rpc.footprint_messages import (
    write_interval,
    write_notes,
    write_steps,
    write_total,
)
from services.calculation.rpc.messages import read_day, read_region
from services.calculation.usecases.estimate_spending import SpendingAnswer
from shared.refusal import FieldInvalid

_Spending = pb.EstimateSpendingResponse
_Trips = pb.CompareTripsResponse


def read_payments(request: pb.EstimateSpendingRequest) -> list[Payment]:
    """The payments, in order; FieldInvalid for one without a merchant or a date."""
    return [_payment(item, f"items[{place}]") for place, item in enumerate(request.items)]


def _payment(item: pb.SpendingItem, field: str) -> Payment:
    kind = item.WhichOneof("merchant")
    if kind is None:
        raise FieldInvalid(
            f"{field}.category", f"{field} names no merchant; set category or merchant_code"
        )
    try:
        day = read_day(item.civil_date)
    except FieldInvalid as refusal:
        raise FieldInvalid(f"{field}.civil_date", f"{field}.{refusal.message}") from refusal
    return Payment(
        merchant=item.category if kind == "category" else item.merchant_code,
        is_code=kind == "merchant_code",
        amount_fen=item.amount_fen,
        day=day,
    )


def read_where(request: pb.CompareTripsRequest, today: int) -> Where:
    """Where and when the trip is made."""
    day = read_day(request.civil_date) if request.HasField("civil_date") else today
    return Where(today, day, read_region(request.region_code))


def write_categories(
    rates: Sequence[YuanRate], spending: Spending, version: str
) -> pb.ListSpendingCategoriesResponse:
    """Every kind of merchant."""
    return pb.ListSpendingCategoriesResponse(
        categories=[_category(rate, spending) for rate in rates], methodology_version=version
    )


def write_spending(answer: SpendingAnswer, spending: Spending) -> pb.EstimateSpendingResponse:
    """Payments, months, and the kinds that occur."""
    return pb.EstimateSpendingResponse(
        items=[_item(spent) for spent in answer.items],
        months=[_month(month) for month in answer.months],
        categories=[_category(rate, spending) for rate in answer.rates],
        methodology_version=answer.version.name,
        methodology_digest=answer.version.digest,
        notes=write_notes((spending.note,)),
    )


def _item(spent: Spent) -> pb.EstimateSpendingResponse.ItemEstimate:
    return _Spending.ItemEstimate(
        category=spent.category.named.key,
        emission_mg=spent.emission_mg,
        interval=write_interval(spent.interval),
        left_out=spent.category.rate is None,
    )


def _month(month: Month) -> pb.EstimateSpendingResponse.MonthEstimate:
    return _Spending.MonthEstimate(
        year=month.year,
        month=month.month,
        emission_mg=month.emission_mg,
        interval=write_interval(month.interval),
        categories=[write_total(named, total) for named, total in month.by_category],
        counted_fen=month.counted_fen,
        left_out_fen=month.left_out_fen,
    )


def _category(rate: YuanRate, spending: Spending) -> pb.SpendingCategory:
    category, left_out = rate.category, rate.category.left_out
    return pb.SpendingCategory(
        key=category.named.key,
        label_zh=category.named.label_zh,
        label_en=category.named.label_en,
        merchant_codes=category.merchant_codes,
        emission_mg_per_yuan=rate.emission_mg,
        interval_per_yuan=write_interval(rate.interval),
        uncertainty_zh="" if left_out else spending.uncertainty.zh,
        uncertainty_en="" if left_out else spending.uncertainty.en,
        steps=write_steps(rate.steps),
        left_out_zh=left_out.zh if left_out else "",
        left_out_en=left_out.en if left_out else "",
    )


def write_trips(comparison: TripComparison, trips: Trips) -> pb.CompareTripsResponse:
    """The modes, the least emission first."""
    return pb.CompareTripsResponse(
        modes=[_mode(mode) for mode in comparison.modes],
        left_out=[
            _Trips.LeftOutMode(key=mode.named.key, reason_zh=why.zh, reason_en=why.en)
            for mode, why in comparison.left_out
        ],
        notes=write_notes((trips.note,)),
    )


def _mode(trip: TripMode) -> pb.CompareTripsResponse.TripMode:
    named, version = trip.mode.named, trip.priced.version if trip.priced else None
    return _Trips.TripMode(
        key=named.key,
        label_zh=named.label_zh,
        label_en=named.label_en,
        emission_mg=trip.emission_mg,
        interval=write_interval(trip.interval),
        gas_scope=version.gas_scope if version else "CO2",
        status=trip.status,
        methodology_version=version.name if version else "",
        formula_zh=trip.formula.zh,
        formula_en=trip.formula.en,
        steps=write_steps(trip.steps),
        notes=write_notes(trip.notes),
        credits=[_credit(credited) for credited in trip.credits],
    )


def _credit(credited: Credited) -> pb.CompareTripsResponse.TripCredit:
    return _Trips.TripCredit(
        methodology_version=credited.version.name,
        status=credited.version.status,
        reduction_mg=credited.reduction_mg,
        programme=credited.programme,
    )
