"""What a customer reads when the past was restated: how much, of how many acts, and why."""

from __future__ import annotations

from typing import Any

import pytest
from carbonaccount.calculation.v1 import restatement_service_pb2 as pb

from services.calculation.domain.notices import notice_of
from services.calculation.usecases.publish_library import Reason
from shared.ids import account_name
from tests.calculation.life_files import (
    BIKE_FILE,
    PROGRAMME,
    RIDES,
    STEP_MASS,
    STEPS,
    WALK,
    WALK_FILE,
    WALKS,
    bike,
    corrected,
    ended,
    entry,
    methodology,
    programme,
    version,
    walk,
)
from tests.calculation.life_world import (
    REASON,
    Doing,
    Life,
    refused,
    told,
)

MINE, THEIRS, UNCHANGED = 64, 128, 192
MARCH = 2026 * 12 + 2


def months(life: Life, account: int = MINE, kind: str = "customer") -> Any:
    request = pb.ListRestatedMonthsRequest(parent=account_name(account))
    return list(life.restatements(kind, account=account).ListRestatedMonths(request).months)


def sentences(life: Life, account: int = MINE) -> list[str]:
    return [month.sentence_en for month in months(life, account)]


def restated(life: Life, path: str, text: str, reason: Reason = REASON) -> str:
    """The text is published and all that waits is restated."""
    name = str(life.into_force(path, text, reason).restatement)
    life.restate()
    return name


def test_a_month_that_lost_grams_says_so_in_both_languages(life: Life) -> None:
    life.record(*[Doing(MINE, measure=100_000)] * 3, Doing(MINE, on="2026-02-28"))
    name = restated(life, BIKE_FILE, corrected("2026-03-01", "29.88"))
    (month,) = months(life)
    assert month.sentence_en == (
        "Your March 2026 total changed by -1.2 kg (3 acts) because: the factor was corrected."
    )
    assert month.sentence_zh == (
        "您 2026 年 3 月的减排量合计变动 -1.2 千克（涉及 3 次行为），原因：系数更正。"
    )
    assert (month.restatement, month.month, month.asset) == (name, told("2026-03-01"), "reduction")
    assert (month.acts, month.delta) == (3, -1_200_000)
    assert month.create_time.seconds > 0


def test_every_month_that_changed_is_told_newest_first(life: Life) -> None:
    days = ("2026-04-30", "2026-03-31", "2026-03-01", "2026-05-20")
    life.record(*(Doing(MINE, on=on) for on in days))
    restated(life, BIKE_FILE, corrected("2026-03-01", "34"), Reason("更正。", "It was wrong."))
    assert sentences(life) == [
        "Your May 2026 total changed by +0.00012 kg (1 act) because: It was wrong.",
        "Your April 2026 total changed by +0.00012 kg (1 act) because: It was wrong.",
        "Your March 2026 total changed by +0.00024 kg (2 acts) because: It was wrong.",
    ]
    assert months(life)[0].sentence_zh == (
        "您 2026 年 5 月的减排量合计变动 +0.00012 千克（涉及 1 次行为），原因：更正。"
    )


def capped(a_day: int) -> str:
    """The walk's file: from March on at most so many points a day."""
    rules = walk().replace('rounding = "floor"', 'rounding = "floor"\nend_date = 2026-03-01')
    begun = walk("10", a_day).partition("[[version]]")[2]
    begun = begun.replace('id = "1"', 'id = "2"', 1).replace("2025-01-01", "2026-03-01")
    return f"{rules}\n[[version]]{begun}"


def test_points_are_told_as_points(life: Life) -> None:
    life.record(*[Doing(MINE, WALK, measure=1)] * 3, *[Doing(THEIRS, WALK, measure=1)] * 2)
    restated(life, WALK_FILE, capped(19))
    (month,) = months(life)
    assert (month.asset, month.delta, month.acts) == (STEPS, -6, 2)
    assert month.sentence_en == (
        "Your March 2026 total changed by -6 points (2 acts) because: the factor was corrected."
    )
    assert month.sentence_zh == (
        "您 2026 年 3 月的积分合计变动 -6 点（涉及 2 次行为），原因：系数更正。"
    )
    assert sentences(life, THEIRS) == [
        "Your March 2026 total changed by -1 point (1 act) because: the factor was corrected."
    ]


def test_an_account_that_nothing_changed_for_reads_nothing(life: Life) -> None:
    life.record(Doing(MINE), Doing(UNCHANGED, on="2026-02-28"), Doing(UNCHANGED, WALK, measure=1))
    restated(life, BIKE_FILE, corrected())
    assert len(months(life)) == 1
    assert months(life, UNCHANGED) == []
    assert months(life, THEIRS) == []


def test_a_result_that_stays_zero_for_another_cause_is_no_news(life: Life) -> None:
    condition = """
[[version.rule.condition]]
formula = "distance_metre > 0"
source = "this test"
status = "decision"
label_zh = "有距离"
label_en = "some distance"
"""
    life.record(Doing(MINE, measure=0), Doing(THEIRS, measure=0), Doing(THEIRS))
    later = version("2", "2026-03-01", "34", rule=condition)
    name = restated(life, BIKE_FILE, bike(ended("2026-03-01"), later))
    assert life.sql("select changed from restatement_shard where shard = 0") == [(3,)]
    assert months(life) == []
    (month,) = months(life, THEIRS)
    assert (month.acts, month.delta, month.restatement) == (1, 120, name)


def test_acts_that_outweigh_each_other_are_told_without_a_change_of_the_total(life: Life) -> None:
    # 4 g/km less than before, and 8 g/km more for what is beyond the first kilometre.
    formula = "distance_metre * each + max(distance_metre - edge, 0) * more"
    later = version("2", "2026-03-01", "29.88", formula=formula, rule=EDGE)
    life.record(Doing(MINE, measure=1000), Doing(MINE, measure=3000))
    restated(life, BIKE_FILE, bike(ended("2026-03-01"), later))
    (month,) = months(life)
    assert (month.acts, month.delta) == (2, 0)
    assert month.sentence_en == (
        "Your March 2026 total stays what it was, and 2 acts of it changed, because: "
        "the factor was corrected."
    )
    assert month.sentence_zh == (
        "您 2026 年 3 月的减排量合计不变，其中 2 次行为有变动，原因：系数更正。"
    )


EDGE = """
[[version.rule.factor]]
key = "edge"
value = "1"
unit = "km"
source = "this test"
page = ""
status = "operator"
label_zh = "界"
label_en = "edge"

[[version.rule.factor]]
key = "more"
value = "8"
unit = "g/km"
source = "this test"
page = ""
status = "operator"
label_zh = "增量"
label_en = "more"
"""


def test_acts_that_count_something_else_now_are_told_of_both_assets(life: Life) -> None:
    life.record(*[Doing(MINE, WALK, measure=1)] * 2, Doing(MINE))
    mass = methodology("life-mass", version("1", "2025-01-01", "5", kind=STEP_MASS))
    life.into_force("life-mass.toml", mass)
    restated(life, PROGRAMME, programme(RIDES, entry(WALK, "life-mass")))
    assert sorted(sentences(life)) == [
        "Your March 2026 total changed by +0.01 kg (2 acts) because: the factor was corrected.",
        "Your March 2026 total changed by -20 points (2 acts) because: the factor was corrected.",
    ]
    assert life.amounts(MINE) == {
        1: ("reduction", 5_000), 2: ("reduction", 5_000), 3: ("reduction", 33_880),
    }  # fmt: skip


def test_acts_that_nothing_credits_any_more_take_their_grams_along(life: Life) -> None:
    life.record(Doing(MINE), Doing(MINE, WALK, measure=1))
    restated(life, PROGRAMME, programme(WALKS))
    assert sentences(life) == [
        "Your March 2026 total changed by -0.03388 kg (1 act) because: the factor was corrected."
    ]
    restated(life, PROGRAMME, programme(RIDES, WALKS), Reason("恢复", "it is credited again"))
    assert sentences(life)[0] == (
        "Your March 2026 total changed by +0.03388 kg (1 act) because: it is credited again."
    )
    assert len(sentences(life)) == 2


def test_an_act_that_was_withdrawn_is_no_part_of_the_news(life: Life) -> None:
    life.record(Doing(MINE), Doing(MINE))
    life.withdraw(MINE, 1)
    restated(life, BIKE_FILE, corrected())
    assert [month.acts for month in months(life)] == [1]


def test_a_customer_reads_of_the_own_account_only(life: Life) -> None:
    life.record(Doing(MINE), Doing(THEIRS, measure=2000))
    restated(life, BIKE_FILE, corrected())
    assert [month.delta for month in months(life)] == [-3_880]
    assert [month.delta for month in months(life, THEIRS)] == [-7_760]
    stub = life.restatements("customer", account=MINE)
    with refused("PERMISSION_DENIED CALLER_NOT_ALLOWED", "reaches the own account"):
        stub.ListRestatedMonths(pb.ListRestatedMonthsRequest(parent=account_name(THEIRS)))
    for kind in ("service", "operator", "auditor"):
        assert [month.delta for month in months(life, THEIRS, kind)] == [-7_760]
    with refused("PERMISSION_DENIED CALLER_NOT_ALLOWED"):
        months(life, MINE, "source")
    with refused("UNAUTHENTICATED TOKEN_INVALID"):
        months(life, MINE, "public")


def test_what_is_no_account_is_refused(life: Life) -> None:
    for parent, said in (("accounts/short", "parent is 'accounts/short'"), ("", "parent is not")):
        with refused("INVALID_ARGUMENT FIELD_INVALID", said):
            life.restatements().ListRestatedMonths(pb.ListRestatedMonthsRequest(parent=parent))


@pytest.mark.parametrize(
    ("asset", "delta", "acts", "said"),
    [
        ("reduction", 1, 1, "+0.000001 kg (1 act)"),
        ("reduction", -999_999, 2, "-0.999999 kg (2 acts)"),
        ("reduction", 12_000_000, 11, "+12 kg (11 acts)"),
        (STEPS, 1, 1, "+1 point (1 act)"),
        (STEPS, 2, 1, "+2 points (1 act)"),
    ],
)
def test_amounts_are_told_exactly(asset: str, delta: int, acts: int, said: str) -> None:
    assert notice_of(MARCH, asset, delta, acts, "a", "b.")[1] == (
        f"Your March 2026 total changed by {said} because: b."
    )


def test_the_first_and_the_last_month_of_a_year_have_their_names() -> None:
    told_of = [notice_of(2026 * 12 + place, STEPS, 3, 1, "甲", "b") for place in (0, 11)]
    assert [en.split(" total")[0] for _, en in told_of] == [
        "Your January 2026", "Your December 2026",
    ]  # fmt: skip
    assert [zh.split("的")[0] for zh, _ in told_of] == ["您 2026 年 1 月", "您 2026 年 12 月"]
