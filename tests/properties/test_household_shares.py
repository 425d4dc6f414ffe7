"""Shares as pure functions: exact, blind to the order of rows, and never rewriting a past day."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.identity.domain.household import (
    WEIGHT_MAX,
    WHOLE_PPM,
    History,
    Membership,
    Proposal,
    own_shares,
    share_periods,
    shares_on,
    shares_ppm,
    tie_of,
)
from shared.ids import CIVIL_OFFSET_US, DAY_US, from_us

SECRET = b"s" * 32
HOME = 77 << 6 | 5
MONDAY = 20_454
ids = st.integers(1, 2**63 - 1)
weighing = st.dictionaries(ids, st.integers(0, WEIGHT_MAX), min_size=1, max_size=20).filter(
    lambda weights: any(weights.values())
)


def ties(members: Iterator[int] | list[int] | dict[int, int]) -> dict[int, bytes]:
    return {member: tie_of(SECRET, HOME, member) for member in members}


def noon(day: int) -> datetime:
    return from_us(day * DAY_US - CIVIL_OFFSET_US + DAY_US // 2)


def member(number: int, start: int, end: int | None = None, *, who: int = 0) -> Membership:
    account = who or number
    return Membership(
        HOME, number, account, 1, start, end, 1, noon(start), tie_of(SECRET, HOME, account)
    )


def agreed(number: int, weights: dict[int, int], day: int) -> Proposal:
    """Signed by all on that day."""
    return Proposal(number, weights, {one: noon(day) for one in weights})


@given(weighing)
def test_shares_add_up_exactly(weights: dict[int, int]) -> None:
    assert sum(shares_ppm(weights, ties(weights)).values()) == WHOLE_PPM


@given(weighing)
def test_nobody_gets_a_whole_millionth_more_or_less_than_the_weight_says(
    weights: dict[int, int],
) -> None:
    total = sum(weights.values())
    for one, share in shares_ppm(weights, ties(weights)).items():
        assert abs(share * total - weights[one] * WHOLE_PPM) < total


@given(weighing, st.randoms(use_true_random=False))
def test_shares_do_not_depend_on_the_order_of_rows(
    weights: dict[int, int], order: random.Random
) -> None:
    rows = list(weights.items())
    order.shuffle(rows)
    assert shares_ppm(dict(rows), ties(weights)) == shares_ppm(weights, ties(weights))


@given(weighing)
def test_weight_zero_gets_nothing(weights: dict[int, int]) -> None:
    shares = shares_ppm(weights, ties(weights))
    assert all(shares[one] == 0 for one, weight in weights.items() if weight == 0)


@given(st.integers(1, WEIGHT_MAX), ids)
def test_one_member_gets_everything(weight: int, who: int) -> None:
    assert shares_ppm({who: weight}, ties([who])) == {who: WHOLE_PPM}


def test_of_three_equal_ones_the_keyed_hash_says_who_gets_the_millionth() -> None:
    shares = shares_ppm({1: 1, 2: 1, 3: 1}, {1: b"b", 2: b"a", 3: b"c"})
    assert shares == {1: 333_333, 2: 333_334, 3: 333_333}


def test_the_larger_remainder_goes_before_the_hash() -> None:
    # Of 1 : 2 the remainders are a third and two thirds of a millionth.
    assert shares_ppm({1: 1, 2: 2}, {1: b"a", 2: b"b"}) == {1: 333_333, 2: 666_667}


def test_the_hash_is_of_household_and_member_and_secret() -> None:
    tie = tie_of(SECRET, HOME, 1)
    assert tie == tie_of(SECRET, HOME, 1)
    others = {tie_of(SECRET, HOME, 2), tie_of(SECRET, HOME + 64, 1), tie_of(b"t" * 32, HOME, 1)}
    assert tie not in others
    assert len(others) == 3


@pytest.mark.parametrize(
    ("periods", "memberships"),
    [
        ([(10, {1: WHOLE_PPM})], [member(1, 10)]),
        ([(10, {1: WHOLE_PPM}), (11, {})], [member(1, 10, 11)]),
        ([(10, {})], [member(1, 10, 10)]),
        (
            [(10, {1: WHOLE_PPM}), (12, {1: 500_000, 2: 500_000}), (15, {2: WHOLE_PPM}), (16, {})],
            [member(1, 10, 15), member(2, 12, 16)],
        ),
        # Who joined and left on the same day changes nothing.
        ([(10, {1: WHOLE_PPM})], [member(1, 10), member(2, 12, 12)]),
        # One leaves as another comes: the same day ends and begins.
        ([(10, {1: WHOLE_PPM}), (14, {2: WHOLE_PPM})], [member(1, 10, 14), member(2, 14)]),
        # Back on the very next day: no day is missing and nothing changes.
        ([(10, {1: WHOLE_PPM})], [member(1, 10, 14), member(2, 14, who=1)]),
    ],
)
def test_periods_follow_the_members(
    periods: list[tuple[int, dict[int, int]]], memberships: list[Membership]
) -> None:
    assert share_periods(History(memberships, [])) == periods


THREE_TO_ONE = {1: 750_000, 2: 250_000}
EQUAL = {1: 500_000, 2: 500_000}
TWO = [member(1, 10), member(2, 10)]


def test_an_agreement_begins_on_the_day_after_the_last_signature() -> None:
    signed = Proposal(1, {1: 3, 2: 1}, {1: noon(11), 2: noon(14)})
    assert share_periods(History(TWO, [signed])) == [(10, EQUAL), (15, THREE_TO_ONE)]


def test_a_proposal_that_one_member_has_not_signed_changes_nothing() -> None:
    half = Proposal(1, {1: 3, 2: 1}, {1: noon(11)})
    assert share_periods(History(TWO, [half])) == [(10, EQUAL)]


def test_a_newer_agreement_replaces_the_one_before() -> None:
    history = History(TWO, [agreed(1, {1: 3, 2: 1}, 11), agreed(2, {1: 1, 2: 1}, 20)])
    assert share_periods(history) == [(10, EQUAL), (12, THREE_TO_ONE), (21, EQUAL)]


def test_of_two_agreements_of_one_day_the_newer_counts() -> None:
    history = History(TWO, [agreed(1, {1: 3, 2: 1}, 11), agreed(2, {1: 0, 2: 1}, 11)])
    assert share_periods(history) == [(10, EQUAL), (12, {1: 0, 2: WHOLE_PPM})]


def test_a_newcomer_ends_the_agreement_with_the_day_of_coming() -> None:
    history = History([*TWO, member(3, 20)], [agreed(1, {1: 3, 2: 1}, 11)])
    days = dict(share_periods(history))
    assert days[12] == THREE_TO_ONE
    assert sorted(days[20].values()) == [333_333, 333_333, 333_334]


def test_an_agreement_does_not_come_back_when_the_newcomer_leaves() -> None:
    history = History([*TWO, member(3, 20, 25)], [agreed(1, {1: 3, 2: 1}, 11)])
    assert shares_on(history, 19) == THREE_TO_ONE
    assert shares_on(history, 25) == EQUAL


def test_whoever_leaves_and_comes_back_at_once_has_signed_nothing() -> None:
    history = History(
        [member(1, 10), member(2, 10, 20), member(3, 20, who=2)], [agreed(1, {1: 3, 2: 1}, 11)]
    )
    assert share_periods(history) == [(10, EQUAL), (12, THREE_TO_ONE), (20, EQUAL)]


def test_a_newcomer_of_the_day_of_the_last_signature_is_in_no_agreement() -> None:
    history = History([*TWO, member(3, 12)], [agreed(1, {1: 3, 2: 1}, 11)])
    assert [day for day, _ in share_periods(history)] == [10, 12]
    assert sorted(shares_on(history, 12).values()) == [333_333, 333_333, 333_334]


def test_a_newcomer_who_left_on_the_day_of_joining_ends_no_agreement() -> None:
    history = History([*TWO, member(3, 20, 20)], [agreed(1, {1: 3, 2: 1}, 11)])
    assert shares_on(history, 30) == THREE_TO_ONE


def test_own_shares_are_those_of_the_own_days_only() -> None:
    history = History([member(1, 10, 15), member(2, 12), member(3, 20, who=1)], [])
    periods = share_periods(history)
    assert own_shares(history.memberships[0], periods) == [(10, WHOLE_PPM), (12, 500_000)]
    assert own_shares(history.memberships[1], periods) == [
        (12, 500_000), (15, WHOLE_PPM), (20, 500_000),
    ]  # fmt: skip
    assert own_shares(history.memberships[2], periods) == [(20, 500_000)]


def test_the_head_is_the_longest_standing_and_of_two_the_lower_number() -> None:
    assert History([member(2, 11), member(1, 10)], []).head == member(1, 10)
    assert History([member(1, 10, 12), member(3, 11), member(2, 11)], []).head == member(2, 11)
    assert History([member(1, 10, 12)], []).head is None


@st.composite
def histories(draw: st.DrawFn) -> History:
    """A household of some weeks: people come, go and come back; agreements at random."""
    memberships = [member(1, MONDAY, draw(st.none() | st.integers(MONDAY + 1, MONDAY + 40)))]
    for number in range(2, draw(st.integers(2, 9))):
        start = draw(st.integers(MONDAY + 1, MONDAY + 40))
        end = draw(st.none() | st.integers(start, MONDAY + 45))
        memberships.append(member(number, start, end))
    proposals = []
    for number in range(1, draw(st.integers(1, 4))):
        day = draw(st.integers(MONDAY, MONDAY + 40))
        there = [m.number for m in memberships if m.covers(day + 1)]
        if there:
            weights = {one: draw(st.integers(0, 5)) for one in there}
            weights[there[0]] += 1
            proposals.append(agreed(number, weights, day))
    return History(memberships, proposals)


@given(histories())
@settings(max_examples=300)
def test_every_day_with_a_member_adds_up_and_the_periods_say_the_same(history: History) -> None:
    periods = share_periods(history)
    for day in range(MONDAY, MONDAY + 50):
        shares = shares_on(history, day)
        assert shares.keys() == {m.member_id for m in history.memberships if m.covers(day)}
        assert sum(shares.values()) == (WHOLE_PPM if shares else 0)
        assert [said for start, said in periods if start <= day][-1] == shares
    assert all(one != other for (_, one), (_, other) in itertools.pairwise(periods))


@given(histories(), st.randoms(use_true_random=False))
def test_periods_do_not_depend_on_the_order_of_rows(history: History, order: random.Random) -> None:
    memberships, proposals = list(history.memberships), list(history.proposals)
    order.shuffle(memberships)
    order.shuffle(proposals)
    assert share_periods(History(memberships, proposals)) == share_periods(history)


@given(histories(), st.integers(MONDAY, MONDAY + 45))
@settings(max_examples=300)
def test_what_is_written_after_a_day_does_not_change_it(history: History, today: int) -> None:
    """What was known at the end of `today`: ends, beginnings and signatures of until then."""
    known = History(
        [
            replace(m, end_day=m.end_day if (m.end_day or today + 2) <= today + 1 else None)
            for m in history.memberships
            if m.start_day <= today + 1
        ],
        [p for p in history.proposals if p.start_day <= today + 1],
    )
    for day in range(MONDAY, today + 1):
        assert shares_on(known, day) == shares_on(history, day)


def test_a_signature_at_the_last_microsecond_of_a_day_counts_for_that_day() -> None:
    midnight = datetime(2026, 1, 1, 16, tzinfo=UTC)  # 2026-01-02 in UTC+8 begins
    late = Proposal(1, {1: 1}, {1: midnight - timedelta(microseconds=1)})
    early = Proposal(1, {1: 1}, {1: midnight})
    assert early.start_day == late.start_day + 1
