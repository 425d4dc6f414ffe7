"""Payments by kind of merchant: one by one, by month, and what is never turned into emissions."""

from __future__ import annotations

import math
from datetime import date
from fractions import Fraction

import pytest

from services.calculation.domain.spending import (
    Payment,
    Spent,
    codes_of,
    estimate_spending,
    months_of_spending,
    yuan_rate,
)
from shared.ids import date_to_day
from shared.refusal import FieldInvalid
from tests.calculation.calculators_world import TODAY, calculators, library

SPENDING = calculators().spending
JANUARY, FEBRUARY = date_to_day(date(2026, 1, 31)), date_to_day(date(2026, 2, 1))


def paid(merchant: str, amount_fen: int = 10_000, day: int = JANUARY) -> Payment:
    return Payment(merchant, merchant.isdigit(), amount_fen, day)


def spent(*payments: Payment) -> list[Spent]:
    return estimate_spending(SPENDING, payments, today=TODAY)


def refused(payment: Payment) -> FieldInvalid:
    with pytest.raises(FieldInvalid) as caught:
        spent(paid("books"), payment)
    return caught.value


def exactly(amount_fen: int, kg_per_dollar: str) -> Fraction:
    return Fraction(amount_fen, 100) / Fraction("6.7290") * Fraction(kg_per_dollar) * 10**6


def test_a_meal_is_yuan_by_the_rate_of_the_year_by_the_factor_rounded_up() -> None:
    (one,) = spent(paid("restaurants"))
    assert one.emission_mg == math.ceil(exactly(10_000, "0.194"))


def test_a_merchant_code_falls_under_its_category() -> None:
    assert [x.category.named.key for x in spent(paid("5812"), paid("3021"), paid("4511"))] == [
        "restaurants", "airlines", "airlines",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "key"),
    [("5411", "groceries"), ("5410", "unlisted"), ("5499", "groceries"), ("5500", "unlisted"),
     ("3350", "airlines"), ("3351", "car-rental"), ("3500", "car-rental"), ("3501", "hotels"),
     ("0742", "pets"), ("0743", "unlisted")],
)  # fmt: skip
def test_a_range_of_codes_holds_both_its_ends_and_nothing_beyond(code: str, key: str) -> None:
    assert spent(paid(code))[0].category.named.key == key


def test_fuel_is_left_out_because_the_factor_does_not_burn_it() -> None:
    (one,) = spent(paid("5541"))
    assert one.emission_mg == 0
    assert one.interval is None
    assert one.category.rate is None
    assert one.category.left_out is not None
    assert "not the burning" in one.category.left_out.en


def test_a_code_that_nobody_sorted_is_left_out_and_says_so() -> None:
    (one,) = spent(paid("9998"))
    assert (one.category.named.key, one.emission_mg) == ("unlisted", 0)


def test_an_interval_is_that_of_the_category_and_absent_where_one_commodity_fits() -> None:
    meal, shirt = spent(paid("restaurants"), paid("clothing"))
    assert meal.interval is not None
    assert meal.interval.low_mg == math.floor(exactly(10_000, "0.132"))
    assert meal.interval.high_mg == math.ceil(exactly(10_000, "0.255"))
    assert meal.interval.meaning.en == "from snack bars to fast food"
    assert shirt.interval is None


def test_the_source_gives_no_uncertainty_and_that_is_said() -> None:
    assert SPENDING.uncertainty.en.startswith("Not given by the source.")


def test_a_refund_takes_back_what_its_payment_brought_but_for_a_milligram() -> None:
    payment, refund = spent(paid("restaurants", 8_850), paid("restaurants", -8_850))
    assert payment.emission_mg + refund.emission_mg in (0, 1)
    assert refund.interval is not None
    assert refund.interval.low_mg <= refund.emission_mg <= refund.interval.high_mg


def test_nothing_paid_emits_nothing() -> None:
    assert spent(paid("restaurants", 0))[0].emission_mg == 0


def test_months_are_civil_months_and_hold_the_sums_of_their_payments() -> None:
    payments = spent(paid("restaurants"), paid("clothing", 5_000), paid("5541", 20_000),
                     paid("restaurants", 100, FEBRUARY))  # fmt: skip
    january, february = months_of_spending(payments)
    assert (january.year, january.month, february.month) == (2026, 1, 2)
    assert january.emission_mg == payments[0].emission_mg + payments[1].emission_mg
    assert (january.counted_fen, january.left_out_fen) == (15_000, 20_000)
    assert [named.key for named, _ in january.by_category] == ["restaurants", "clothing"]
    assert february.emission_mg == payments[3].emission_mg


def test_a_months_interval_takes_what_has_none_as_it_is() -> None:
    payments = spent(paid("restaurants"), paid("clothing"))
    (month,) = months_of_spending(payments)
    meal, shirt = payments
    assert meal.interval is not None
    assert month.interval is not None
    assert month.interval.low_mg == meal.interval.low_mg + shirt.emission_mg


def test_a_month_of_sure_things_has_no_interval() -> None:
    (month,) = months_of_spending(spent(paid("clothing")))
    assert month.interval is None


def test_the_working_for_a_yuan_shows_rate_factor_and_source() -> None:
    rate = yuan_rate(SPENDING, SPENDING.categories["airlines"], today=TODAY)
    shown = {step.label_en: step for step in rate.steps}
    assert shown["yuan for one US dollar, mean of 2022"].result == "6.7290"
    factor = shown["emission per US dollar of 2022"]
    assert (factor.result, factor.status) == ("0.644", "secondary")
    assert "481111" in factor.page
    assert rate.emission_mg == math.ceil(exactly(100, "0.644"))
    assert rate.steps[-1].result == str(rate.emission_mg)


def test_a_category_that_is_left_out_has_no_rate_for_a_yuan() -> None:
    rate = yuan_rate(SPENDING, SPENDING.categories["transfers"], today=TODAY)
    assert (rate.emission_mg, rate.interval, rate.steps) == (0, None, ())


def test_every_kind_of_the_methodology_is_a_category_and_the_other_way_round() -> None:
    version = library().version_on("calculators-spending", TODAY)
    assert version is not None
    (label,) = version.labels
    counted = {key for key, category in SPENDING.categories.items() if category.rate is not None}
    assert counted == set(label.values)


@pytest.mark.parametrize("code", ["581", "58123", "58a2", "５812"])
def test_a_merchant_code_is_four_digits(code: str) -> None:
    with pytest.raises(FieldInvalid, match="it must be four digits"):
        spent(Payment(code, True, 100, JANUARY))


def test_an_unknown_category_is_refused_with_the_place_of_its_payment() -> None:
    refusal = refused(paid("spaceships"))
    assert refusal.field == "items[1].category"
    assert "spaceships" in refusal.message


@pytest.mark.parametrize("amount_fen", [10_000_000_001, -10_000_000_001])
def test_one_fen_too_much_is_refused(amount_fen: int) -> None:
    refusal = refused(paid("restaurants", amount_fen))
    assert refusal.field == "items[1].amount_fen"
    assert str(amount_fen) in refusal.message


@pytest.mark.parametrize("amount_fen", [10_000_000_000, -10_000_000_000])
def test_the_greatest_amount_is_taken(amount_fen: int) -> None:
    assert spent(paid("restaurants", amount_fen))[0].emission_mg != 0


def test_codes_are_written_one_by_one_or_as_a_range() -> None:
    assert codes_of("0742") == ["0742"]
    assert codes_of("5411-5413") == ["5411", "5412", "5413"]
    assert codes_of("5413-5411") == []
