"""What the library must show: late factors, provinces, numbers of its own, caps, a past."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from fractions import Fraction

import pytest

from services.calculation.domain.evaluate import Usage
from services.calculation.domain.factors import look_up
from services.calculation.domain.library import load_library
from services.calculation.domain.registry import load_registry
from shared.ids import date_to_day
from tests.calculation.domain.world import DictStore
from tests.methodologies.reference import (
    FACTORS,
    METHODOLOGIES,
    Deed,
    credited,
    evaluated,
    files_below,
    library,
    version_of,
)

KWH = {"energy_watt_hour": 1000}
REGISTRY = load_registry(files_below(FACTORS))
SHANGHAI, SICHUAN, INNER_MONGOLIA = 310_000, 510_000, 150_000


def used_on(day: date, methodology: str = "grid-cn", region: int = 0) -> int:
    """Milligrams of one kilowatt-hour."""
    deed = Deed(methodology, "electricity-use", KWH, day=date_to_day(day), region=region)
    return credited([deed])


def ant(scene: str, day: date, fen: int | None = None) -> Deed:
    """An act that Ant Forest gives energy for."""
    paid = {} if fen is None else {"amount_fen": fen}
    return Deed("ant-forest", scene, {"count": 1, **paid}, day=date_to_day(day))


def test_until_a_factor_is_published_the_one_before_counts() -> None:
    assert used_on(date(2025, 6, 1)) == 536_600  # data of 2022
    assert used_on(date(2025, 12, 30)) == 536_600
    assert used_on(date(2025, 12, 31)) == 530_600  # data of 2023, published that day


def test_a_factor_that_is_published_two_years_late_reaches_back_where_the_rule_says_so() -> None:
    late = date(2023, 5, 1)
    assert used_on(late, "grid-year-cn") == 530_600
    # The same file as it would have stood a day before the publication, cases and all.
    text = (METHODOLOGIES / "grid-year-cn.toml").read_text("utf-8")
    old = text.replace("as_of = 2025-12-31", "as_of = 2025-12-30")
    old = old.replace("530_600", "536_600").replace("441_900", "440_300")
    assert text.count("as_of = 2025-12-31") == 1
    version = load_library({"grid-year-cn.toml": old}, REGISTRY).version_on(
        "grid-year-cn", date_to_day(late), "electricity-use"
    )
    assert version is not None
    deed = Deed("grid-year-cn", "electricity-use", KWH, day=date_to_day(late))
    assert evaluated(version, [deed]).credited.tolist() == [536_600]


def test_a_year_without_a_factor_of_its_own_is_counted_by_the_last_one() -> None:
    assert used_on(date(2022, 12, 31), "grid-year-cn") == 536_600
    assert used_on(date(2023, 1, 1), "grid-year-cn") == 530_600
    assert used_on(date(2026, 1, 1), "grid-year-cn") == 530_600


def test_the_same_kilowatt_hour_differs_between_provinces_by_more_than_four_times() -> None:
    day = date(2025, 6, 1)
    least, most = used_on(day, region=SICHUAN), used_on(day, region=INNER_MONGOLIA)
    assert (least, most) == (140_400, 684_900)
    assert most > 4 * least


def test_a_methodology_that_prescribes_its_own_number_is_not_moved_by_the_ministrys() -> None:
    day = date(2026, 1, 15)
    made = Deed("sh-dpv-2024", "home-solar", KWH, day=date_to_day(day), region=SHANGHAI)
    assert credited([made]) == 420_000
    assert used_on(day, region=SHANGHAI) == 573_700


@pytest.mark.parametrize(
    ("methodology", "scene", "factor", "series", "region", "key"),
    [
        ("sh-dpv-2024", "home-solar", "grid_sh", "grid-prescribed", "310000", ""),
        ("t-csae-235-2021", "ev-ride", "fuel_kg_per_litre", "fuel-cn-litre", "", "petrol"),
        ("t-csae-235-2021", "ev-ride", "fuel_kg_per_litre", "fuel-cn-litre", "", "diesel"),
    ],
)
def test_a_number_that_a_document_prescribes_is_the_one_the_registry_holds(
    methodology: str, scene: str, factor: str, series: str, region: str, key: str
) -> None:
    version = library().version_on(methodology, date_to_day(date(2026, 1, 1)), scene)
    assert version is not None
    (held,) = [one for one in version.factors if one.key == factor]
    texts = {row.value for row in held.table.rows} if held.table else {held.value}
    known = look_up(REGISTRY[series], region=region, key=key, as_of_day=20_500, year=None)
    assert known is not None
    assert known.value in texts


@pytest.mark.parametrize("fuel", ["petrol", "diesel", "lpg", "kerosene", "raw-coal"])
def test_a_fuels_derivation_comes_to_the_coefficient_of_the_registry(fuel: str) -> None:
    burnt = Deed("fuel-cn", f"{fuel}-use", {"mass_gram": 1000})
    known = look_up(REGISTRY["fuel-cn-mass"], region="", key=fuel, as_of_day=20_500, year=None)
    assert known is not None
    # The document prints four decimals, and an emission is rounded up to the milligram.
    assert abs(credited([burnt]) - Fraction(known.value) * 10**6) <= 100


def test_a_payment_below_the_least_amount_uses_up_no_cap() -> None:
    day = date(2026, 3, 2)
    small = [ant("offline-payment", day, fen=99)] * 20
    right = [ant("offline-payment", day, fen=100)] * 11
    assert credited(small + right) == 10 * 5


def test_a_cap_of_a_day_is_fresh_the_next_day_and_that_of_a_month_only_the_next_month() -> None:
    rides = [ant("metro-ride", date(2026, 3, day)) for day in (2, 3) for _ in range(6)]
    assert credited(rides) == 2 * 5 * 52
    visits = [ant("hospital-visit", date(2026, 3, day)) for day in range(1, 9)]
    assert credited(visits) == 5 * 277
    assert credited([*visits, ant("hospital-visit", date(2026, 4, 1))]) == 6 * 277


def days_of_use(watt_hours: Sequence[int]) -> list[Deed]:
    """A household's days, one after the other."""
    first = date_to_day(date(2026, 3, 2))
    return [
        Deed("sz-he-2022", "home-electricity-day", {"energy_watt_hour": used}, day=first + place)
        for place, used in enumerate(watt_hours)
    ]


def test_a_household_above_the_baseline_is_measured_by_its_own_seven_days_before() -> None:
    deeds = days_of_use([11_200] * 7 + [9_600])
    earned = evaluated(version_of(deeds[0]), deeds, DictStore(), past=False).credited
    assert earned.tolist() == [0] * 7 + [500_000]


def test_six_days_before_are_no_past_and_a_day_below_the_baseline_needs_none() -> None:
    deeds = days_of_use([11_200] * 6 + [9_600, 6_400])
    earned = evaluated(version_of(deeds[0]), deeds, DictStore(), past=False).credited
    assert earned.tolist() == [0] * 7 + [500_000]


def test_the_past_goes_on_from_what_a_store_remembers() -> None:
    deeds, store = days_of_use([11_200] * 7 + [9_600]), DictStore()
    version = version_of(deeds[0])
    for key, usage in evaluated(version, deeds[:7], store, past=False).left_behind:
        assert isinstance(usage, Usage)
        store.keep(key, usage)
    assert evaluated(version, deeds[7:], store, past=False).credited.tolist() == [500_000]
