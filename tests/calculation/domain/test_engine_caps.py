"""Caps, windows and refusals at their borders."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from services.calculation.domain import grouping
from services.calculation.domain.evaluate import (
    ACTS_MAX,
    NOT_ELIGIBLE,
    OK,
    OUT_OF_RANGE,
    NothingUsed,
    evaluate,
    months_of,
)
from services.calculation.domain.grouping import group
from services.calculation.domain.methodology import Version
from tests.calculation.domain.oracle import Act
from tests.calculation.domain.world import DictStore, evaluate_acts, whole_library

LIBRARY = whole_library()


def version_of(methodology: str) -> Version:
    version = LIBRARY.version_on(methodology, 20_550)
    assert version is not None
    return version


def credits(version: Version, acts: list[Act], store: DictStore | None = None) -> list[int]:
    evaluated = evaluate_acts(version, acts, store or DictStore())
    return [int(credited) for credited in evaluated.credited]


def payment(amount_fen: int = 100, *, account: int = 1, day: int = 20_550) -> Act:
    return Act(account, day, {"count": 1, "amount_fen": amount_fen})


def ride(distance_metre: int, *, account: int = 1, day: int = 20_550, grade: int = 1) -> Act:
    return Act(account, day, {"distance_metre": distance_metre}, grade)


def test_the_second_payment_of_a_day_counts_and_the_third_does_not() -> None:
    assert credits(version_of("day-count"), [payment(), payment(), payment()]) == [5, 5, 0]


def test_another_account_and_another_day_have_caps_of_their_own() -> None:
    acts = [payment(), payment(), payment(account=2), payment(day=20_551), payment()]
    assert credits(version_of("day-count"), acts) == [5, 5, 5, 5, 0]


def test_a_payment_of_less_than_one_yuan_earns_nothing_and_uses_nothing() -> None:
    acts = [payment(99), payment(99), payment(100), payment(100)]
    assert credits(version_of("day-count"), acts) == [0, 0, 5, 5]


def test_the_twentieth_kilometre_counts_and_one_metre_more_does_not() -> None:
    version = version_of("day-distance")
    full, more = credits(version, [ride(20_000)]), credits(version, [ride(20_001)])
    assert full == more == [667_300]


def test_a_ride_over_the_rest_of_the_day_is_trimmed_to_it_and_the_next_earns_nothing() -> None:
    acts = [ride(19_000), ride(5_000), ride(1)]
    assert credits(version_of("day-distance"), acts) == [633_970, 34_030, 0]


def test_a_month_begins_on_its_first_day_in_utc8() -> None:
    last, first = ((date(2026, m, d) - date(1970, 1, 1)).days for m, d in ((3, 31), (4, 1)))
    acts = [ride(1_000, day=last)] * 11 + [ride(1_000, day=first)]
    assert credits(version_of("month-count"), acts) == [46_700] * 10 + [0, 46_700]
    months = months_of(np.array([last, first, -1, 0], np.int64))
    assert months.tolist() == [2026 * 12 + 2, 2026 * 12 + 3, 1969 * 12 + 11, 1970 * 12]


def test_a_result_below_zero_is_credited_as_zero_and_uses_nothing() -> None:
    acts = [ride(-1)] * 20 + [ride(1_000)]
    assert credits(version_of("month-count"), acts) == [0] * 20 + [46_700]


def test_each_trip_has_its_own_cap_when_the_window_is_the_act() -> None:
    version = version_of("act-distance")
    assert credits(version, [ride(8_000), ride(8_001), ride(90_000)]) == [266_666] * 3
    assert evaluate_acts(version, [ride(1)], DictStore()).left_behind == ()


def test_a_grade_that_the_rule_does_not_list_is_not_eligible() -> None:
    acts = [ride(1_000, grade=1), ride(1_000, grade=2), ride(1_000, grade=3), ride(1_000, grade=0)]
    evaluated = evaluate_acts(version_of("day-distance"), acts, DictStore())
    assert evaluated.credited.tolist() == [34_030, 17_015, 0, 0]
    assert evaluated.refused.tolist() == [OK, OK, NOT_ELIGIBLE, NOT_ELIGIBLE]


def test_an_act_outside_the_accepted_range_earns_nothing_and_the_ones_at_its_ends_count() -> None:
    acts = [ride(-1), ride(0), ride(200_000), ride(200_001), ride(2**62)]
    evaluated = evaluate_acts(version_of("sz-pt-2021"), acts, DictStore())
    assert evaluated.refused.tolist() == [OUT_OF_RANGE, OK, OK, OUT_OF_RANGE, OUT_OF_RANGE]
    assert evaluated.credited.tolist() == [0, 0, 5_380_000, 0, 0]


def test_a_window_that_used_more_than_today_allows_keeps_what_it_has_and_earns_nothing() -> None:
    version, store = version_of("day-count"), DictStore()
    store.used["day-count/payments-a-day", 1, 20_550] = 7
    evaluated = evaluate_acts(version, [payment(), payment(), payment(account=2)], store)
    assert evaluated.credited.tolist() == [0, 0, 5]
    assert [column.tolist() for column in evaluated.used_before] == [[7, 7, 0]]
    assert store.used["day-count/payments-a-day", 1, 20_550] == 7


def test_no_acts_give_no_results() -> None:
    evaluated = evaluate_acts(version_of("day-count"), [], DictStore())
    assert evaluated.credited.tolist() == evaluated.refused.tolist() == []


@pytest.mark.parametrize("fault", ["missing measure", "other length", "too many"])
def test_columns_that_do_not_fit_are_refused_with_what_is_wrong(fault: str) -> None:
    size = ACTS_MAX + 1 if fault == "too many" else 3
    days = np.zeros(size, np.int64)
    measures = {"distance_metre": days[: 2 if fault == "other length" else size]}
    with pytest.raises(ValueError, match=r"give (its column|one length)"):
        evaluate(
            version_of("sz-pt-2021"),
            {} if fault == "missing measure" else measures,
            accounts=days,
            days=days,
            caps_used=NothingUsed(),
        )


def test_columns_as_they_come_from_a_feed_earn_the_same() -> None:
    # Feeds carry big-endian columns of several widths; their bytes must not be taken for ours.
    version, size = version_of("day-count"), 200
    random = np.random.default_rng(5)
    accounts, days = random.integers(1, 20, size), random.integers(20_540, 20_545, size)
    measures = {"count": np.ones(size, np.int64), "amount_fen": random.integers(50, 300, size)}
    native, packed = (
        evaluate(
            version,
            {name: column.astype(kinds[0]) for name, column in measures.items()},
            accounts=accounts.astype(kinds[0]),
            days=days.astype(kinds[1]),
            grades=np.ones(size, np.int64).astype(kinds[2]),
            caps_used=NothingUsed(),
        )
        for kinds in ((np.int64, np.int64, np.int64), (">i8", ">i4", ">i1"))
    )
    assert packed.credited.tolist() == native.credited.tolist()
    assert packed.used_before[0].tolist() == native.used_before[0].tolist()
    assert 0 < native.credited.sum() < native.uncapped.sum()


def test_the_callers_columns_are_never_changed() -> None:
    for methodology in ("sz-pt-2021", "citic-2022", "month-count", "wide", "day-distance"):
        version = version_of(methodology)
        columns = {m.name: np.array([m.min, m.max, m.max], np.int64) for m in version.measures}
        copies = {name: column.copy() for name, column in columns.items()}
        days = np.array([1, 2, 3], np.int64)
        evaluate(version, columns, accounts=days, days=days, caps_used=NothingUsed())
        assert all((columns[name] == copies[name]).all() for name in columns)


def test_groups_are_those_of_a_plain_dict_in_record_order() -> None:
    random = np.random.default_rng(3)
    for size, people, days in ((1, 1, 1), (50, 7, 1), (500, 40, 6), (3_000, 2**62, 2), (64, 1, 1)):
        accounts, windows = random.integers(1, people + 1, size), random.integers(0, days, size)
        expected: dict[tuple[int, int], list[int]] = {}
        for place, pair in enumerate(zip(accounts.tolist(), windows.tolist(), strict=True)):
            expected.setdefault(pair, []).append(place)
        groups = group(accounts, windows)
        order = list(range(size)) if groups.order is None else groups.order.tolist()
        found = {
            (int(account), int(window)): order[start : start + length]
            for account, window, start, length in zip(
                groups.accounts, groups.windows, groups.starts, groups.lengths, strict=True
            )
        }
        assert found == expected


def test_two_pairs_with_one_hash_are_still_two_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    # A window factor equal to the account factor makes (1, 2) and (2, 1) collide for certain.
    monkeypatch.setattr(grouping, "_WINDOW_TIMES", grouping._ACCOUNT_TIMES)
    accounts, windows = np.array([1, 2, 1, 2, 1]), np.array([2, 1, 2, 1, 2])
    groups = group(accounts, windows)
    assert sorted(zip(groups.accounts.tolist(), groups.lengths.tolist(), strict=True)) == [
        (1, 3),
        (2, 2),
    ]
    assert groups.order is not None
    assert groups.order.tolist() == [0, 2, 4, 1, 3]
