"""Comparing two versions names every part that decides or sources a result, and no other."""

from __future__ import annotations

import pytest
from carbonaccount.calculation.v1 import methodology_service_pb2 as pb

from tests.calculation.life_files import BIKE, cap, methodology, version
from tests.calculation.life_world import Life, refused

FILE, NAME = "life-two.toml", "methodologies/life-two/versions"
FUEL = """
[[version.rule.label]]
name = "fuel"
values = ["petrol", "diesel"]
label_zh = "燃料"
label_en = "fuel"
"""
SHARE = """
[[version.rule.factor]]
key = "share"
unit = "1"
by = ["fuel", "region", "date"]
label_zh = "份额"
label_en = "share"
"""
RULES = """
[[version.rule.history]]
name = "mean_metre"
of = "distance_metre"
days = {days}
days_least = 1
source = "{source}"
status = "decision"
label_zh = "日均"
label_en = "mean"

[[version.rule.condition]]
formula = "distance_metre > mean_metre"
source = "{source}"
status = "decision"
label_zh = "高于日均"
label_en = "more than usual"

[[version.rule.grade]]
grade = "recorded"
share = "{share}"
source = "{source}"
status = "decision"
"""
PETROL = 'labels = { fuel = "petrol" }'


def row(fuel: str, value: str, region: str = "", begins: str = "2020-01-01", page: str = "") -> str:
    place = f'region = "{region}"\n' if region else ""
    return f"""
[[version.rule.factor.row]]
fuel = "{fuel}"
{place}from_date = {begins}
value = "{value}"
source = "this test"
page = "{page}"
status = "operator"
"""


def with_table(identity: str, begins: str, *rows: str, head: str = "") -> str:
    """A version whose factor depends on fuel, region and day."""
    return version(
        identity, begins, "30", head=head, rule="".join((FUEL, SHARE, *rows)),
        formula="distance_metre * each * share", case=PETROL,
    )  # fmt: skip


def differences(
    life: Life, before: str = f"{NAME}/1", after: str = f"{NAME}/2"
) -> list[tuple[str, str, str]]:
    request = pb.CompareVersionsRequest(before=before, after=after)
    found = life.call("public").CompareVersions(request).differences
    return [(one.part, one.before, one.after) for one in found]


def compared(life: Life, one: str, other: str) -> list[tuple[str, str, str]]:
    """What differs between versions 1 and 2 of a file of these two; their days are left out."""
    life.into_force(FILE, methodology("life-two", one, other))
    return [told for told in differences(life) if not told[0].endswith("_date")]


ONE, ONE_ENDS = ("1", "2026-01-01"), "end_date = 2026-07-01"
TWO = ("2", "2026-07-01")


def test_a_version_does_not_differ_from_itself_nor_from_its_like(life: Life) -> None:
    life.into_force(FILE, methodology("life-two", version(*ONE, "30", rule=cap("day", "count", 2))))
    life.into_force(
        "life-like.toml", methodology("life-like", version(*ONE, "30", rule=cap("day", "count", 2)))
    )
    assert differences(life, f"{NAME}/1", f"{NAME}/1") == []
    assert differences(life, f"{NAME}/1", "methodologies/life-like/versions/1") == []


def test_versions_of_other_days_differ_in_their_days(life: Life) -> None:
    life.into_force(
        FILE, methodology("life-two", version(*ONE, "30", head=ONE_ENDS), version(*TWO, "30"))
    )
    assert differences(life) == [
        ("effective_date", "2026-01-01", "2026-07-01"),
        ("end_date", "2026-07-01", ""),
    ]
    assert differences(life, f"{NAME}/2", f"{NAME}/1") == [
        ("effective_date", "2026-07-01", "2026-01-01"),
        ("end_date", "", "2026-07-01"),
    ]


def test_a_factor_differs_in_its_value_and_where_it_was_read(life: Life) -> None:
    other = version(*TWO, "30.5").replace('"this test"\npage = ""', '"a new print"\npage = "12"')
    other = other.replace('status = "operator"', 'status = "operator"\ndate = "2025"')
    assert compared(life, version(*ONE, "30", head=ONE_ENDS), other) == [
        (f"{BIKE} factor each date", "", "2025"),
        (f"{BIKE} factor each page", "", "12"),
        (f"{BIKE} factor each source", "this test", "a new print"),
        (f"{BIKE} factor each value", "30", "30.5"),
    ]


def test_a_formula_and_its_measures_differ_as_they_are_written(life: Life) -> None:
    other = version(*TWO, "30", formula="max(distance_metre, 0) * each")
    assert compared(
        life, version(*ONE, "30", head=ONE_ENDS), other.replace("max = 100_000", "max = 90_000")
    ) == [
        (f"{BIKE} formula", "distance_metre * each", "max(distance_metre, 0) * each"),
        (f"{BIKE} measure distance_metre max", "100000", "90000"),
    ]


def test_a_cap_differs_in_its_amount_and_one_that_is_new_in_all_its_parts(life: Life) -> None:
    one = version(*ONE, "30", head=ONE_ENDS, rule=cap("day", "count", 2))
    more = cap("day", "count", 3).replace("this test", "a letter")
    other = version(*TWO, "30", rule=more + cap("month", "result", 900_000, "month"))
    assert compared(life, one, other) == [
        (f"{BIKE} cap month amount", "", "900000"),
        (f"{BIKE} cap month of", "", "result"),
        (f"{BIKE} cap month source", "", "this test"),
        (f"{BIKE} cap month status", "", "decision"),
        (f"{BIKE} cap month window", "", "month"),
        (f"{BIKE} cap most amount", "2", "3"),
        (f"{BIKE} cap most source", "this test", "a letter"),
    ]


def test_rows_of_a_table_differ_by_the_case_that_they_are_for(life: Life) -> None:
    petrol, diesel = row("petrol", "1"), row("diesel", "0.9")
    one = with_table(*ONE, petrol, diesel, row("petrol", "0.8", "440000"), head=ONE_ENDS)
    other = with_table(
        *TWO, petrol, row("diesel", "0.85", page="3"), row("petrol", "0.7", begins="2026-08-01")
    )
    north = f"{BIKE} factor share fuel=petrol region=440000 from=2020-01-01"
    later = f"{BIKE} factor share fuel=petrol from=2026-08-01"
    assert compared(life, one, other) == [
        (f"{BIKE} factor share fuel=diesel from=2020-01-01 page", "", "3"),
        (f"{BIKE} factor share fuel=diesel from=2020-01-01 value", "0.9", "0.85"),
        (f"{later} source", "", "this test"),
        (f"{later} status", "", "operator"),
        (f"{later} value", "", "0.7"),
        (f"{north} source", "this test", ""),
        (f"{north} status", "operator", ""),
        (f"{north} value", "0.8", ""),
    ]


def test_words_of_a_label_differ(life: Life) -> None:
    rows = row("petrol", "1"), row("diesel", "0.9")
    one, other = with_table(*ONE, *rows, head=ONE_ENDS), with_table(*TWO, *rows)
    words = other.replace('["petrol", "diesel"]', '["petrol", "diesel", "gas"]') + "\n"
    words = words.replace(rows[1], rows[1] + row("gas", "0.9"))
    assert (f"{BIKE} label fuel values", "petrol, diesel", "petrol, diesel, gas") in compared(
        life, one, words
    )


def test_conditions_grades_and_the_own_past_differ_with_their_sources(life: Life) -> None:
    one, other = (
        version(identity, begins, "30", head=head, rule=RULES.format(**said))
        for identity, begins, head, said in (
            (*ONE, ONE_ENDS, {"days": 7, "share": "1", "source": "this test"}),
            (*TWO, "", {"days": 14, "share": "1.0", "source": "a letter"}),
        )
    )
    other = other.replace("distance_metre > mean", "distance_metre >= mean")
    assert compared(life, one, other) == [
        (f"{BIKE} condition 1 formula", "distance_metre > mean_metre",
         "distance_metre >= mean_metre"),
        (f"{BIKE} condition 1 source", "this test", "a letter"),
        (f"{BIKE} grade recorded share", "1", "1.0"),
        (f"{BIKE} grade recorded source", "this test", "a letter"),
        (f"{BIKE} history mean_metre days", "7", "14"),
        (f"{BIKE} history mean_metre source", "this test", "a letter"),
    ]  # fmt: skip


def test_what_is_credited_below_zero_and_of_an_interval_differs(life: Life) -> None:
    one = version(*ONE, "30", head=ONE_ENDS)
    other = version(*TWO, "30", head='below_zero = "counts"\ndraft = "unread"')
    other = other.replace("[[version.rule]]", '[[version.rule]]\ncredit = "low"')
    other = other.replace('value = "30"', 'value = "30"\nlow = "30"\nhigh = "31"')
    assert compared(life, one, other) == [
        ("below_zero", "zero", "counts"),
        ("draft", "", "unread"),
        (f"{BIKE} credit", "value", "low"),
        (f"{BIKE} factor each high", "", "31"),
        (f"{BIKE} factor each low", "", "30"),
    ]


@pytest.mark.parametrize(
    "name", [f"{NAME}/3", "methodologies/life-three/versions/1", "methodologies/life-two", "1"]
)
def test_a_version_that_is_not_there_is_refused(life: Life, name: str) -> None:
    life.into_force(FILE, methodology("life-two", version(*ONE, "30")))
    for pair in ((f"{NAME}/1", name), (name, f"{NAME}/1")):
        with refused("NOT_FOUND RESOURCE_NOT_FOUND", name, "GetMethodology lists the versions"):
            differences(life, *pair)


def test_both_versions_must_be_named(life: Life) -> None:
    with refused("FIELD_INVALID", "after is not set"):
        differences(life, f"{NAME}/1", "")
