"""Every rule of the extended format is broken once; the fault names the line and the way out."""

from __future__ import annotations

import pytest

from services.calculation.domain.library import load_library
from tests.calculation.domain.world import SHIPPED, TESTSET, faults_of, files_of, registry

FILES = files_of(SHIPPED, TESTSET)
CAP = """[[version.rule.cap]]
id = "{id}"
window = "{window}"
of = "count"
amount = 1
source = "invented"
status = "decision"

"""
LABEL = """[[version.rule.label]]
name = "size"
values = ["small", "large"]
label_zh = "标签"
label_en = "label"

[[version.rule.label]]
name = "fuel\""""

# What is broken: (file, what stands there, what is put there, what the line holds, what is said)
BROKEN = {
    "branch that is always taken": (
        "month-count", 'value = "10"\nunit = "km"', 'value = "300"\nunit = "km"',
        "distance_metre * near_per_km if", "always True",
    ),
    "branch that is never taken": (
        "month-count", 'value = "10"\nunit = "km"', 'value = "-1"\nunit = "km"',
        "distance_metre * near_per_km if", "always False",
    ),
    "condition that always holds": (
        "day-count", 'value = "1"\nunit = "yuan"', 'value = "0"\nunit = "yuan"',
        'formula = "amount_fen >= least"', "always True",
    ),
    "condition that is no comparison": (
        "day-count", "amount_fen >= least", "amount_fen", 'formula = "amount_fen"', "one of < <=",
    ),
    "condition of two units": (
        "day-count", "amount_fen >= least", "count >= least", 'formula = "count >=',
        "do not go together",
    ),
    "parameter that reads another": (
        "month-count", 'value = "46.7"', 'value = "far_per_km"', 'value = "far_per_km"',
        "decimal text",
    ),
    "parameter with a formula": (
        "month-count", 'value = "46.7"', 'formula = "far_per_km"', "[[version.rule.factor]]",
        "value is missing",
    ),
    "second version of one id": (
        "two-versions", 'id = "two"', 'id = "one"', 'id = "one"', "another version",
    ),
    "versions that overlap by a day": (
        "two-versions", "end_date = 2026-04-16", "end_date = 2026-04-17",
        "effective_date = 2026-04-16", "on the same day",
    ),
    "second cap of one id": (
        "three-caps", 'id = "km-a-trip"', 'id = "trips-a-day"', 'id = "trips-a-day"',
        "has this id",
    ),
    "two caps of one window": (
        "three-caps", "[[version.rule.grade]]",
        CAP.format(id="more", window="day") + "[[version.rule.grade]]",
        'window = "day"', "a cap a day already",
    ),
    "cap that counts the acts of an act": (
        "three-caps", 'window = "day"\nof = "count"', 'window = "act"\nof = "count"',
        'of = "count"', "always one",
    ),
    "cap of what may be negative": (
        "month-count", 'of = "count"', 'of = "distance_metre"', 'of = "distance_metre"',
        "write one of count, result",
    ),
    "one cap of two kinds": (
        "two-versions", 'window = "month"', 'window = "day"', "[[version]]",
        "another window or `of`",
    ),
    "second case of one id": (
        "piecewise", 'id = "long"', 'id = "lucky"', 'id = "lucky"', "another case",
    ),
    "second factor of one key": (
        "month-count", 'key = "far_per_km"', 'key = "near_per_km"', "[[version.rule.factor]]",
        "declared twice",
    ),
    "factor named as a measure": (
        "month-count", 'key = "border"', 'key = "distance_metre"', "[[version.rule.factor]]",
        "declared twice",
    ),
    "history named as a factor": (
        "history-counts", 'name = "own_daily_watt_hour"', 'name = "most"',
        'name = "most"', "end in its unit",
    ),
    "second label of one name": (
        "table-fuel", '[[version.rule.label]]\nname = "fuel"', LABEL, 'name = "size"',
        "declared twice",
    ),
    "word of a label twice": (
        "table-fuel", '"petrol", "diesel"', '"petrol", "petrol"', "values =", "each once",
    ),
    "second grade of one name": (
        "day-distance", 'grade = "shown"', 'grade = "recorded"', 'grade = "recorded"', "twice",
    ),
    "rows that overlap": (
        "table-fuel", 'region = "440000"\nfrom_date = 2026-04-01',
        'region = "440000"\nfrom_date = 2020-01-01', "[[version.rule.factor.row]]",
        "same case",
    ),
    "word without a row": (
        "table-fuel", 'values = ["small", "large"]', 'values = ["small", "large", "huge"]',
        "by = [", "no row is for size 'huge'",
    ),
    "row for an unknown word": (
        "table-fuel", 'fuel = "diesel"', 'fuel = "coal"', 'fuel = "coal"', "write one of petrol",
    ),
    "row without its day": (
        "table-fuel", 'region = "440000"\nfrom_date = 2026-04-01', 'region = "440000"',
        "[[version.rule.factor.row]]", "from_date",
    ),
    "row with a region of four digits": (
        "table-fuel", 'region = "440300"', 'region = "4403"', 'region = "4403"', "six digits",
    ),
    "table by what is no label": (
        "table-fuel", 'by = ["size"]', 'by = ["colour"]', 'by = ["colour"]', "write one of size",
    ),
    "table with a value of its own": (
        "table-fuel", 'by = ["size"]', 'by = ["size"]\nvalue = "1"', 'value = "1"', "not known",
    ),
    "label that nothing reads": (
        "day-distance", "[[version.rule.factor]]",
        '[[version.rule.label]]\nname = "colour"\nvalues = ["red"]\nlabel_zh = "色"\n'
        'label_en = "colour"\n\n[[version.rule.factor]]',
        'name = "colour"', "nothing reads this label",
    ),
    "series that is not there": (
        "quoted-kind", "made-up-fuel", "made-up-oil", 'series = "made-up-oil"',
        "not in the registry; there is",
    ),
    "nothing published by then": (
        "quoted-kind", "2025-06-30", "2024-12-31", "as_of = 2024-12-31", "take a later day",
    ),
    "series of another kind": (
        "quoted-kind", 'kind = "petrol"', 'kind = "wine"', "as_of =", "kind 'wine'",
    ),
    "series by a label": (
        "quoted-grid", 'by = ["date"]', 'by = ["fuel"]', 'by = ["fuel"]', "write one of region",
    ),
    "quotation of another unit": (
        "quoted-grid", 'made-up-grid"\nas_of = 2026-04-09\nregion = "440000"',
        'made-up-fuel"\nas_of = 2026-04-09\nkind = "diesel"', "formula =", "do not go together",
    ),
    "history of what may be negative": (
        "history-counts", "min = 0\nmax = 2000000", "min = -1\nmax = 2000000",
        'of = "energy_watt_hour"', "of is 'energy_watt_hour'",
    ),
    "history that nothing reads": (
        "history-counts", "(own_daily_watt_hour - energy_watt_hour)", "energy_watt_hour",
        'name = "own_daily_watt_hour"', "nothing reads this history",
    ),
    "history of too many days": (
        "history-counts", "days = 3", "days = 32", "days = 32", "from 1 to 31",
    ),
    "history that never has its days": (
        "history-counts", "days_least = 1", "days_least = 4", "days_least = 4", "from 1 to 3",
    ),
    "history that passes 62 bits": (
        "history-counts", "days = 3\ndays_least = 1", "days = 31\ndays_least = 1",
        "days_least = 1", "2**62",
    ),
    "low above the value": (
        "uncertain-low", 'low = "0.19"', 'low = "0.23"', 'low = "0.23"', "must lie between",
    ),
    "low without high": (
        "uncertain-low", 'high = "0.2605"\n', "", "[[version.rule.factor]]", "high is missing",
    ),
    "a divisor that can be zero at an end": (
        "uncertain-shown", "count * base / 3", "count * base / 3 / zero", "formula =", "zero",
    ),
    "credit of the greatest": (
        "uncertain-low", 'credit = "low"', 'credit = "high"', 'credit = "high"', "write one of",
    ),
    "reduction rounded up": (
        "tiered", 'rounding = "floor"', 'rounding = "ceiling"', "rounding =", "write one of floor",
    ),
    "emission rounded down": (
        "emission", 'rounding = "ceiling"', 'rounding = "floor"', "rounding =", "of ceiling",
    ),
    "draft without words": (
        "quoted-kind", 'draft = "a test of drafts: nothing is missing but a document"',
        "draft = true", "draft =", "text in quotes",
    ),
    "below zero, otherwise": (
        "history-counts", 'below_zero = "counts"', 'below_zero = "yes"', "below_zero", "counts",
    ),
    "result past 64 bits by a row of a table": (
        "table-fuel", 'value = "0.333333333333333333"', 'value = "999999999999999999"',
        "formula =", "narrow",
    ),
    "case with an unknown word": (
        "table-fuel", '{ fuel = "petrol", size = "small" }', '{ fuel = "wind", size = "small" }',
        "labels =", "the rule takes",
    ),
    "case on a day before the version": (
        "table-fuel", "day = 2026-03-31", "day = 2019-12-31", "day = 2019-12-31", "in force",
    ),
    "case of no act": (
        "three-caps", "count = 4", "count = 0", "count = 0", "whole number from 1",
    ),
    "case with a past that the rule has not": (
        "tiered", 'expected_mg = 369600', 'history = { own_mean_litre = 5 }\nexpected_mg = 369600',
        "history =", "exactly those",
    ),
    "case past 64 bits": (
        "tiered", "{ water_litre = 50000 }", "{ water_litre = 99999999999999999999 }",
        "water_litre = 99999", "whole number",
    ),
    "number of 5,000 digits": (
        "tiered", "amount = 60000", f"amount = {'9' * 5_000}", "", "TOML",
    ),
    "cap with the name of a history": (
        "history-household", 'id = "kg-a-month"', 'id = "own_mean_watt_hour"', "own_mean_watt_hour",
        "own_mean_watt_hour",
    ),
}  # fmt: skip


def broken(name: str) -> tuple[str, str]:
    """The file's name, and its text with that one thing broken."""
    file, before, after, *_ = BROKEN[name]
    text = FILES[f"{file}.toml"]
    assert before in text
    text = text.replace(before, after, 1)
    if name == "a divisor that can be zero at an end":
        factor = text[text.index('[[version.rule.factor]]\nkey = "most"') :]
        factor = factor[: factor.index("\n\n") + 2]
        one = factor.replace('"most"', '"zero"').replace('"2.5"', '"1"').replace('"kg"', '"1"')
        text = text.replace(factor, factor + one)
    return f"{file}.toml", text


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_its_line_and_a_sentence(name: str) -> None:
    *_, near, said = BROKEN[name]
    path, text = broken(name)
    (fault,) = faults_of({path: text})
    assert fault.file == path
    assert said in fault.message
    assert near in text.split("\n")[fault.line - 1]


@pytest.mark.parametrize("file", sorted({file for file, *_ in BROKEN.values()}))
def test_the_unbroken_file_loads(file: str) -> None:
    assert load_library({f"{file}.toml": FILES[f"{file}.toml"]}, registry())


def test_one_broken_file_keeps_every_other_from_serving_too() -> None:
    path, text = broken("rows that overlap")
    faults = faults_of({**{file: FILES[file] for file in FILES if "/" not in file}, path: text})
    assert [fault.file for fault in faults] == [path]


PLACES = {
    # A fault is at its own line whatever stands above it and however it is written.
    "formula on the line of its quotes": (
        'formula = "distance_metre * bike_g_per_km"',
        'formula = """distance_metre * bike"""',
    ),
    "header with spaces": (
        '[[version.rule.factor]]\nkey = "bike_g_per_km"\nvalue = "33.88"',
        '[[ version . rule . factor ]]\nkey = "bike_g_per_km"\nvalue = "bike"',
    ),
    "key in quotes": ('value = "33.88"', '"value" = "bike"'),
    "line separator in a comment": ('value = "33.88"', 'value = "bike" # \u2028'),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_fault_is_at_its_own_line_however_the_file_is_written(name: str) -> None:
    before, after = PLACES[name]
    text = FILES["hello-2022.toml"]
    assert before in text
    text = text.replace(before, after).replace("哈啰骑行减排因子", "哈啰骑行\u2028减排因子")
    (fault,) = faults_of({"hello-2022.toml": text})
    line = text.split("\n")[fault.line - 1]
    assert "bike" in line
    assert not line.startswith("title")
