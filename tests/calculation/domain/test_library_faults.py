"""A broken file never loads; each fault names file and line, and says how to mend it."""

from __future__ import annotations

import pytest

from services.calculation.domain.library import changed_versions, load_library
from tests.calculation.domain.world import SHIPPED, TESTSET, faults_of

HELLO = (SHIPPED / "hello-2022.toml").read_text("utf-8")
GRADED = (TESTSET / "day-distance.toml").read_text("utf-8")
SECOND_VERSION = HELLO[HELLO.index("[[version]]") :].replace('id = "1"', 'id = "2"', 1)


def line_of(text: str, near: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if near in line)


BROKEN = {
    # what is broken: (what stands there, what is put there, what the line holds, what is said)
    "no source": (
        'source = "mm.chinapower.com.cn 2022-07-21"\npage',
        "page",
        "[[version.rule.factor",
        "source is missing",
    ),
    "empty source": (
        'source = "mm.chinapower.com.cn 2022-07-21"\npage',
        'source = " "\npage',
        'source = " "',
        "source is empty",
    ),
    "unit mismatch": (
        'unit = "g/km"',
        'unit = "g/kWh"',
        "formula =",
        "mend a unit",
    ),
    "unknown unit": (
        'unit = "g/km"',
        'unit = "g/mile"',
        'unit = "g/mile"',
        "not known",
    ),
    "measure not in base units": (
        'unit = "metre"',
        'unit = "km"',
        'unit = "km"',
        "write one of",
    ),
    "measure not named by its unit": (
        'unit = "metre"',
        'unit = "second"',
        'name = "distance_metre"',
        "must end in its unit",
    ),
    "unknown measure in the formula": (
        "distance_metre *",
        "walk_metre *",
        "formula =",
        "not declared",
    ),
    "float value": (
        'value = "33.88"',
        "value = 33.88",
        "value = 33.88",
        "text in quotes",
    ),
    "exponent": (
        'value = "33.88"',
        'value = "3e1"',
        'value = "3e1"',
        "decimal text",
    ),
    "unknown status": (
        'status = "operator"',
        'status = "rumour"',
        'status = "rumour"',
        "write one of official",
    ),
    "failing case": (
        "expected_mg = 101_640",
        "expected_mg = 101_641",
        "[[version.rule.case",
        "must give 101641 and gives 101640",
    ),
    "case with an unknown measure": (
        "{ distance_metre = 3000 }",
        "{ distance_mile = 2 }",
        "measures =",
        "exactly those",
    ),
    "case in floats": (
        "{ distance_metre = 3000 }",
        "{ distance_metre = 3e3 }",
        "measures =",
        "whole number",
    ),
    "no case": (
        HELLO[HELLO.index("[[version.rule.case") :],
        "",
        "[[version.rule]]",
        "case is missing",
    ),
    "unknown key": (
        'rounding = "floor"',
        'rounding = "floor"\ncap_per_day = 2',
        "cap_per_day",
        "not known here",
    ),
    "other rounding": (
        'rounding = "floor"',
        'rounding = "half-up"',
        "rounding =",
        "write one of floor",
    ),
    "overlapping versions": (
        "[[version]]",
        SECOND_VERSION + "\n[[version]]",
        "effective_date",
        "on the same day",
    ),
    "end before beginning": (
        'rounding = "floor"',
        'rounding = "floor"\nend_date = 2022-07-21',
        "end_date",
        "after effective_date",
    ),
    "date as text": (
        "effective_date = 2022-07-21",
        'effective_date = "2022-07-21"',
        "effective_date",
        "without quotes",
    ),
    "range upside down": (
        "min = 0",
        "min = 100_001",
        "max =",
        "whole number from 100001",
    ),
    "gas scope": (
        'gas_scope = "CO2"',
        'gas_scope = "CH4"',
        "gas_scope",
        "write one of CO2, CO2e",
    ),
    "asset": (
        'asset = "reduction"',
        'asset = "money"',
        "asset =",
        "point:",
    ),
    "not TOML": (
        "[document]",
        "[document",
        "[document",
        "not TOML",
    ),
    "no publisher": (
        'publisher = "哈啰"\n',
        "",
        "[document]",
        "publisher is missing",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_its_line_and_a_sentence(name: str) -> None:
    before, after, near, said = BROKEN[name]
    assert before in HELLO
    text = HELLO.replace(before, after, 1)
    (fault,) = faults_of({"hello-2022.toml": text})
    assert fault.file == "hello-2022.toml"
    assert said in fault.message
    assert near in text.splitlines()[fault.line - 1]
    assert str(fault).startswith(f"hello-2022.toml:{fault.line}:{fault.column}: ")


def test_the_unbroken_file_loads() -> None:
    assert load_library({"hello-2022.toml": HELLO}).methodologies.keys() == {"hello-2022"}


def test_a_result_that_could_pass_64_bits_is_refused_and_one_that_cannot_is_not() -> None:
    wide = HELLO.replace("max = 100_000", "max = 9_007_199_254_740_992")
    assert load_library({"hello-2022.toml": wide})
    wider = wide.replace('value = "33.88"', 'value = "33880.5"')
    (fault,) = faults_of({"hello-2022.toml": wider})
    assert "narrow the measures' ranges" in fault.message
    assert fault.line == line_of(wider, "formula =")


def test_a_fault_inside_a_formula_is_at_its_own_line_and_column_in_the_file() -> None:
    text = HELLO.replace("distance_metre * bike_g_per_km", "distance_metre * bike_g_per_mile")
    (fault,) = faults_of({"hello-2022.toml": text})
    line = text.splitlines()[fault.line - 1]
    assert line[fault.column - 1 :].startswith("bike_g_per_mile")
    long = HELLO.replace('"distance_metre * bike_g_per_km"', '"""\ndistance_metre\n  * bike_g"""')
    (fault,) = faults_of({"hello-2022.toml": long})
    assert long.splitlines()[fault.line - 1][fault.column - 1 :].startswith("bike_g")


def test_a_factor_that_nothing_reads_is_refused() -> None:
    spare = HELLO[HELLO.index("[[version.rule.factor]]") : HELLO.index("[[version.rule.case]]")]
    text = HELLO.replace(
        "[[version.rule.case]]", spare.replace("bike_g", "car_g") + "[[version.rule.case]]"
    )
    (fault,) = faults_of({"hello-2022.toml": text})
    assert "nothing reads" in fault.message
    assert "car_g" in text.splitlines()[fault.line - 1]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            'of = "distance_metre"',
            'of = "walk_metre"',
            "write one of count, result, distance_metre",
        ),
        ('window = "day"', 'window = "week"', "write one of act, day, month"),
        ("amount = 20000", "amount = -1", "whole number from 0"),
        ('share = "0.5"', 'share = "1.5"', "from 0 to 1"),
        ('grade = "shown"', 'grade = "sworn"', "write one of recorded"),
    ],
)
def test_a_broken_cap_or_grade_is_refused(before: str, after: str, said: str) -> None:
    assert before in GRADED
    (fault,) = faults_of({"day-distance.toml": GRADED.replace(before, after)})
    assert said in fault.message


def test_a_cap_is_of_one_kind_in_all_rules_of_a_file() -> None:
    rule = GRADED[GRADED.index("[[version.rule]]") :].replace("scenes/day-distance", "scenes/other")
    same = {"day-distance.toml": f"{GRADED}\n{rule}"}
    assert len(load_library(same).methodologies["day-distance"].versions) == 2
    other = rule.replace('window = "day"', 'window = "month"')
    (fault,) = faults_of({"day-distance.toml": f"{GRADED}\n{other}"})
    assert "another window" in fault.message


def test_an_id_is_that_of_its_file_and_taken_once() -> None:
    (fault,) = faults_of({"other.toml": HELLO})
    assert "make the two equal" in fault.message
    (fault,) = faults_of({"hello-2022.toml": HELLO, "more/hello-2022.toml": HELLO})
    assert (fault.file, "taken by another file" in fault.message) == ("more/hello-2022.toml", True)


def test_every_broken_file_is_named_at_once() -> None:
    files = {
        "a.toml": "id = ",
        "b.toml": 'id = "c"',
        "README.md": "no rule",
        "hello-2022.toml": HELLO,
    }
    assert [fault.file for fault in faults_of(files)] == ["a.toml", "b.toml"]


def test_the_digest_changes_with_a_factor_and_not_with_a_case_or_a_comment() -> None:
    def digest(text: str) -> str:
        version = load_library({"hello-2022.toml": text}).version_on("hello-2022", 20_000)
        assert version is not None
        return version.digest

    own = digest(HELLO)
    assert len(own) == 64
    assert digest("# more\n" + HELLO.replace('id = "hello-bike-3"', 'id = "three"')) == own
    assert digest(HELLO.replace('page = ""', 'page = "3"')) != own
    assert digest(HELLO.replace("max = 100_000", "max = 100_001")) != own


def test_a_version_that_has_credited_may_not_change_and_any_other_may() -> None:
    name = "methodologies/hello-2022/versions/1"
    library = load_library({"hello-2022.toml": HELLO})
    version = library.version_on("hello-2022", 20_000)
    assert version is not None
    credited = [(name, version.digest)]
    text = HELLO.replace('"33.88"', '"33.89"').replace("101_640", "101_670")
    changed = load_library({"hello-2022.toml": text})
    assert changed_versions(library, credited) == []
    assert changed_versions(changed, []) == []
    (said,) = changed_versions(changed, credited)
    assert name in said
    assert version.digest[:16] in said
    assert "write the change as a new version" in said
    (said,) = changed_versions(load_library({}), credited)
    assert "the library has none" in said
