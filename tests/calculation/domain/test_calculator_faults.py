"""A broken calculator file never loads; each fault names file and line, and says how to mend it."""

from __future__ import annotations

import re

import pytest

from tests.calculation.calculators_world import calculator_files, calculators, faults_of

FOOTPRINT, SPENDING, TRIPS = "annual-footprint.toml", "spending.toml", "trips.toml"


def line_of(text: str, near: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if near in line)


BROKEN = {
    # what is broken: (file, what stands there, what is put there, the line at fault, what is said)
    "unknown methodology": (
        FOOTPRINT,
        'methodology = "calculators-food"',
        'methodology = "calculators-foot"',
        'methodology = "calculators-foot"',
        "not in the library",
    ),
    "scene that the methodology does not price": (
        FOOTPRINT,
        'scene = "scenes/food-use"',
        'scene = "scenes/feast"',
        'scene = "scenes/feast"',
        "it prices scenes/food-use",
    ),
    "a reduction in the place of an emission": (
        TRIPS,
        'methodology = "calculators-travel-cn"\nscene = "scenes/metro-travel"',
        'methodology = "sz-pt-2021"\nscene = "scenes/metro-ride"',
        'methodology = "sz-pt-2021"',
        "a calculator takes emissions alone",
    ),
    "word that the label does not have": (
        FOOTPRINT,
        'labels = { food = "rice" }',
        'labels = { food = "ice" }',
        'labels = { food = "ice" }',
        "takes beef",
    ),
    "label that is missing": (
        FOOTPRINT,
        'labels = { food = "rice" }\n',
        "",
        'key = "rice"\ncategory = "food"\nlabel_zh',
        "labels must be exactly those",
    ),
    "measure that the rule does not take": (
        FOOTPRINT,
        'measures = { sheet_count = "paper" }',
        'measures = { page_count = "paper" }',
        'measures = { page_count = "paper" }',
        "measures must be exactly those",
    ),
    "measure that names no question": (
        FOOTPRINT,
        'measures = { sheet_count = "paper" }',
        'measures = { sheet_count = "papyrus" }',
        'measures = { sheet_count = "papyrus" }',
        "which is no question",
    ),
    "question in another unit than the measure": (
        FOOTPRINT,
        'unit = "count"\nshown_zh = "张"',
        'unit = "gram"\nshown_zh = "张"',
        'measures = { sheet_count = "paper" }',
        "paper is asked in gram and sheet_count is in count",
    ),
    "question that goes further than the rule": (
        FOOTPRINT,
        "max = 5000\nperiod",
        "max = 1_000_001\nperiod",
        'measures = { sheet_count = "paper" }',
        "narrow the question",
    ),
    "question that nobody reads": (
        FOOTPRINT,
        'count = "domestic-flight-count"\n',
        "",
        'key = "domestic-flight-count"',
        "no line reads the answer",
    ),
    "persons that can be nobody": (
        FOOTPRINT,
        "min = 1\nmax = 9",
        "min = 0\nmax = 9",
        'divide = "car-persons"',
        "nothing is divided by 0",
    ),
    "period that is none": (
        FOOTPRINT,
        'max = 5000\nperiod = "week"',
        'max = 5000\nperiod = "fortnight"',
        'period = "fortnight"',
        "write one of each, year, month, week, day",
    ),
    "category that is none": (
        FOOTPRINT,
        'key = "paper"\ncategory = "home"',
        'key = "paper"\ncategory = "office"',
        'category = "office"',
        "write one of home",
    ),
    "key that is there twice": (
        FOOTPRINT,
        'key = "mutton"\ncategory = "food"\ntext_zh',
        'key = "beef"\ncategory = "food"\ntext_zh',
        'text_zh = "您在家每周吃多少千克羊肉？"',
        "is there twice",
    ),
    "interval without words for its ends": (
        FOOTPRINT,
        'interval_zh = "从奶牛群到肉牛群"\ninterval_en = "from dairy to beef herds"\n',
        "",
        'labels = { food = "beef" }',
        "say what they stand for",
    ),
    "words for an interval that there is none of": (
        FOOTPRINT,
        'labels = { food = "rice" }\n',
        'labels = { food = "rice" }\ninterval_zh = "从低到高"\ninterval_en = "from low to high"\n',
        'interval_zh = "从低到高"',
        "leave interval_zh and interval_en out",
    ),
    "period without a source": (
        FOOTPRINT,
        'times = 52\nlabel_zh = "每周"\nlabel_en = "a week"\nsource = ',
        'times = 52\nlabel_zh = "每周"\nlabel_en = "a week"\norigin = ',
        'key = "week"',
        "source is missing",
    ),
    "average without a source": (
        FOOTPRINT,
        'year = 2017\nsource = "1.5-Degree',
        'year = 2017\norigin = "1.5-Degree',
        'key = "china-2017"',
        "source is missing",
    ),
    "a case that comes out otherwise": (
        FOOTPRINT,
        "expected_mg = 743",
        "expected_mg = 742",
        "expected_mg = 742",
        "must give 742 and gives 743",
    ),
    "a case whose answers are refused": (
        FOOTPRINT,
        "answers = { plastic-bags = 1 }",
        "answers = { plastic-bag = 1 }",
        "answers = { plastic-bag = 1 }",
        "its answers are refused",
    ),
    "a key that the format does not know": (
        FOOTPRINT,
        'divide = "household"',
        'share = "household"',
        'share = "household"',
        "is not known here",
    ),
    "merchant code in two categories": (
        SPENDING,
        'merchant_codes = ["5814"]',
        'merchant_codes = ["5812"]',
        'merchant_codes = ["5812"]',
        "merchant code 5812 is in restaurants too",
    ),
    "merchant code that is none": (
        SPENDING,
        'merchant_codes = ["5814"]',
        'merchant_codes = ["58"]',
        'merchant_codes = ["58"]',
        "must be like",
    ),
    "range that runs backwards": (
        SPENDING,
        'merchant_codes = ["5814"]',
        'merchant_codes = ["5815-5814"]',
        'merchant_codes = ["5815-5814"]',
        "must be like",
    ),
    "kind that the methodology does not have": (
        SPENDING,
        'key = "fast-food"',
        'key = "slow-food"',
        'key = "slow-food"',
        "merchant is 'slow-food'",
    ),
    "nothing for codes that are not listed": (
        SPENDING,
        'key = "unlisted"',
        'key = "others"',
        "[[left_out]]",
        "there must be a [[left_out]] with key unlisted",
    ),
    "left out without a reason": (
        SPENDING,
        'reason_en = "No good or service was bought."\n',
        "",
        'key = "public-bodies"',
        "reason_en is missing",
    ),
    "distances that the rule does not take": (
        TRIPS,
        'methodology = "calculators-travel-cn"\nscene = "scenes/metro-travel"',
        'methodology = "calculators-travel-uk"\nscene = "scenes/hotel-night"',
        'scene = "scenes/hotel-night"',
        "must take distance_metre and nothing else",
    ),
    "credit that no methodology gives": (
        TRIPS,
        'credit_scene = "scenes/metro-ride"',
        'credit_scene = "scenes/metro-rode"',
        'credit_scene = "scenes/metro-rode"',
        "no reduction methodology prices",
    ),
    "a mode counted as nothing without a source": (
        TRIPS,
        "nothing_source = ",
        "nothing_reason = ",
        'key = "walk"',
        "nothing_source is missing",
    ),
    "another id than the file's name": (
        TRIPS,
        'id = "trips"',
        'id = "trip"',
        'id = "trip"',
        "as the file is named",
    ),
    "no TOML": (
        SPENDING,
        'id = "spending"',
        'id = "spending',
        'id = "spending',
        "this is not TOML",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_its_line_and_how_to_mend_it(case: str) -> None:
    name, old, new, near, said = BROKEN[case]
    files = calculator_files()
    assert old in files[name], "the fault is still put where it was meant"
    text = files[name].replace(old, new, 1)
    (fault,) = faults_of({**files, name: text})
    assert fault.file == f"calculators/{name}"
    assert said in fault.message
    # A key is at fault in its own line; a missing one in the first line of its table.
    place = text.index(near)
    first = text.rindex("[[", 0, place) if "[[" in text[:place] else 0
    lines = [text.count("\n", 0, start) + 1 for start in (first, place)]
    assert lines[0] <= fault.line <= lines[1]


def test_the_files_that_ship_load() -> None:
    assert len(calculators().questionnaire.questions) == 50
    assert len(calculators().spending.categories) == 54
    assert len(calculators().trips.modes) == 11


@pytest.mark.parametrize("name", [FOOTPRINT, SPENDING, TRIPS])
def test_a_file_that_is_not_there_is_missed(name: str) -> None:
    files = {path: text for path, text in calculator_files().items() if path != name}
    (fault,) = faults_of(files)
    assert str(fault) == f"calculators/{name}:1:1: the file is missing; put it back"


def test_faults_of_all_files_are_said_at_once() -> None:
    files = {name: re.sub(r'id = "', 'id = "x', text, count=1)
             for name, text in calculator_files().items()}  # fmt: skip
    assert [fault.file for fault in faults_of(files)] == [
        f"calculators/{name}" for name in (FOOTPRINT, SPENDING, TRIPS)
    ]
