"""The factor registry: what was known on a day, what supersedes what, which files it refuses."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from services.calculation.domain.factors import FactorValue, Series, look_up
from services.calculation.domain.faults import LibraryFault, LibraryInvalid
from services.calculation.domain.registry import load_registry, sums
from services.calculation.factor_files import COMMAND, FACTORS, read_factor_files, seal

SHIPPED = load_registry(read_factor_files())
GRID = SHIPPED["grid-average-cn"]

HEAD = """id = "grid-x"
title_zh = "测试"
title_en = "test"
unit = "kg/kWh"
gas_scope = "CO2"
category = "grid"
"""
VALUE = """
[[value]]
region = "440000"
year = 2022
publish_date = 2024-12-26
value = "0.44"
source = "a page"
status = "reposted"
"""
FILE = HEAD + VALUE
CORRECTED = VALUE.replace("2024-12-26", "2025-03-01").replace("0.44", "0.45")
NEXT_YEAR = VALUE.replace("2022", "2023").replace("2024-12-26", "2025-12-31")
NATION = VALUE.replace("440000", "").replace("0.44", "0.53")


def day(text: str) -> int:
    return date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal()


def series_of(*values: str) -> Series:
    return load_registry({"grid-x.toml": HEAD + "".join(values)})["grid-x"]


def texts(values: list[FactorValue] | tuple[FactorValue, ...]) -> list[str]:
    return [value.value for value in values]


def faults_of(files: dict[str, str]) -> list[LibraryFault]:
    with pytest.raises(LibraryInvalid) as caught:
        load_registry(files)
    return caught.value.faults


def found(region: str, as_of: str, year: int | None = None, key: str = "") -> str:
    value = look_up(GRID, region=region, key=key, as_of_day=day(as_of), year=year)
    return value.value if value else "none"


# --- what the shipped files say


@pytest.mark.parametrize(
    ("as_of", "value"),
    [
        ("2023-02-14", "none"),
        ("2023-02-15", "0.5703"),
        ("2024-04-11", "0.5703"),
        ("2024-04-12", "0.5568"),
        ("2024-12-25", "0.5568"),
        ("2024-12-26", "0.5366"),
        ("2025-06-01", "0.5366"),
        ("2025-12-30", "0.5366"),
        ("2025-12-31", "0.5306"),
        ("2026-01-01", "0.5306"),
    ],
)
def test_the_national_grid_factor_is_that_of_the_newest_year_known(as_of: str, value: str) -> None:
    assert found("", as_of) == value


@pytest.mark.parametrize(
    ("region", "year", "value"),
    [
        ("510000", 2023, "0.1564"),
        ("150000", 2022, "0.6849"),
        ("440000", 2022, "0.4403"),
        ("440000", 2023, "0.4419"),
        ("310000", 2023, "0.5737"),
        ("110000", 2023, "0.5554"),
        ("330000", 2023, "0.4974"),
        ("south-grid", 2023, "0.4042"),
        ("east-grid", 2023, "0.5500"),
        ("north-grid", 2022, "0.6776"),
    ],
)
def test_provinces_and_areas_have_their_published_factors(
    region: str, year: int, value: str
) -> None:
    assert found(region, "2026-01-01", year) == value
    assert found(region, "2023-12-31", year) == "none"


def test_a_province_can_be_four_times_cleaner_than_another() -> None:
    assert 4 * 1564 < 6849
    assert (found("510700", "2026-01-01"), found("150100", "2026-01-01", 2022)) == (
        "0.1564",
        "0.6849",
    )


def test_the_tables_agree_with_what_the_ministry_said_of_them() -> None:
    """From 2022 to 2023, twenty provinces fell and ten rose."""
    pairs = [
        (found(v.region, "2026-01-01", 2022), found(v.region, "2026-01-01", 2023))
        for v in GRID.by_region(day("2026-01-01"))
        if v.region
    ]
    assert sum(after < before for before, after in pairs) == 20
    assert sum(after > before for before, after in pairs) == 10


def test_a_prescribed_number_stands_beside_the_average_and_not_in_it() -> None:
    prescribed = SHIPPED["grid-prescribed"].latest(day("2026-01-01"), "310000")
    average = GRID.latest(day("2026-01-01"), "310000")
    assert prescribed is not None
    assert average is not None
    assert (prescribed.value, average.value) == ("0.42", "0.5737")
    assert SHIPPED["grid-prescribed"].latest(day("2026-01-01"), "440000") is None


@pytest.mark.parametrize(
    ("series", "key", "value"),
    [
        ("grid-market-cn", "", "0.6096"),
        ("fuel-cn-mass", "petrol", "2.9251"),
        ("fuel-cn-mass", "diesel", "3.0959"),
        ("fuel-cn-mass", "lpg", "3.1013"),
        ("fuel-cn-gas", "natural-gas", "2.1622"),
        ("fuel-cn-litre", "petrol", "2.37"),
        ("fuel-cn-litre", "diesel", "2.60"),
        ("fuel-epa-gallon", "petrol", "8.78"),
        ("fuel-epa-litre", "petrol", "2.319"),
        ("car-defra", "petrol-car-medium", "0.172"),
        ("gwp-ar6", "ch4", "27.9"),
        ("gwp-ar5", "ch4", "28"),
        ("paper-cn", "a4-sheet", "2.6"),
        ("goods-reuse-mass", "clothes", "3.6"),
    ],
)
def test_fuels_and_goods_have_their_published_factors(series: str, key: str, value: str) -> None:
    latest = SHIPPED[series].latest(day("2026-01-01"), key=key)
    assert latest is not None
    assert latest.value == value


def test_two_answers_to_one_question_are_two_series_and_both_stay() -> None:
    chinese = SHIPPED["fuel-cn-gas"].latest(day("2026-01-01"), key="natural-gas")
    american = SHIPPED["fuel-epa-gas"].latest(day("2026-01-01"), key="natural-gas")
    assert chinese is not None
    assert american is not None
    assert (chinese.unit, american.unit) == ("g/L", "g/L")
    assert (chinese.value, american.value) == ("2.1622", "1.9225")


def test_nothing_is_called_official_that_nobody_read() -> None:
    statuses = {value.status for series in SHIPPED.values() for value in series.values}
    assert statuses == {"reposted", "secondary"}


def test_numbers_that_the_handbook_rejects_are_not_there() -> None:
    rejected = {"0.232", "0.218", "0.205", "0.215"}
    assert not rejected & {value.value for value in GRID.values}
    assert found("", "2026-01-01", 2021) == "0.5568"  # another list swaps it with 2022's
    assert found("", "2026-01-01", 2022) == "0.5366"


# --- time


def test_a_later_publication_supersedes_the_earlier_from_its_day_on() -> None:
    series = series_of(VALUE, CORRECTED)
    assert texts(series.known(day("2025-02-28"))) == ["0.44"]
    assert texts(series.known(day("2025-03-01"))) == ["0.45"]
    old, new = series.values
    assert (series.superseding(old), series.superseding(new)) == (new, None)


def test_the_answer_as_of_a_day_stays_whatever_is_published_after_it() -> None:
    before, after = series_of(VALUE), series_of(VALUE, CORRECTED, NEXT_YEAR)
    as_of = day("2025-02-28")
    assert before.known(as_of) == after.known(as_of)
    assert before.latest(as_of, "440000") == after.latest(as_of, "440000")


def test_a_value_without_a_day_of_publication_was_always_known_until_one_with_a_day() -> None:
    undated = VALUE.replace("publish_date = 2024-12-26\n", "").replace("0.44", "0.40")
    old = VALUE.replace("2024-12-26", "1969-12-31").replace("0.44", "0.42")
    series = series_of(VALUE, undated, old)
    assert texts(series.known(day("1969-12-30"))) == ["0.40"]
    assert texts(series.known(day("1969-12-31"))) == ["0.42"]
    assert texts(series.known(day("2024-12-26"))) == ["0.44"]


def test_every_known_year_is_listed_and_the_newest_is_the_latest() -> None:
    series = series_of(NEXT_YEAR, VALUE, CORRECTED)
    assert [v.year for v in series.by_year(day("2025-12-30"), "440000")] == [2022]
    assert [v.year for v in series.by_year(day("2025-12-31"), "440000")] == [2022, 2023]
    assert texts(series.by_year(day("2025-12-31"), "440000")) == ["0.45", "0.44"]
    latest = series.latest(day("2025-12-31"), "440000")
    assert latest is not None
    assert latest.year == 2023


def test_latest_asks_exactly_one_region() -> None:
    assert series_of(NATION).latest(day("2026-01-01"), "440000") is None
    assert series_of(VALUE).latest(day("2026-01-01")) is None


# --- place


def test_regions_are_listed_without_areas_each_with_its_newest_year() -> None:
    area = VALUE.replace("440000", "south-grid")
    series = series_of(VALUE, NEXT_YEAR, NATION, area)
    listed = series.by_region(day("2026-01-01"))
    assert [(v.region, v.year) for v in listed] == [("", 2022), ("440000", 2023)]
    every = series.by_region_and_year(day("2026-01-01"))
    assert [(v.region, v.year) for v in every] == [("", 2022), ("440000", 2022), ("440000", 2023)]


def test_the_most_specific_region_that_has_a_value_answers() -> None:
    district = VALUE.replace("440000", "440305").replace("0.44", "0.41")
    city = VALUE.replace("440000", "440300").replace("0.44", "0.42")
    series = series_of(district, city, VALUE, NATION)
    asked = ("440305", "440306", "440100", "510000", "")
    answers = [
        look_up(series, region=region, key="", as_of_day=day("2026-01-01"), year=None)
        for region in asked
    ]
    assert [v.value if v else "" for v in answers] == ["0.41", "0.42", "0.44", "0.53", "0.53"]


def test_an_area_is_asked_alone_and_no_province_falls_into_one() -> None:
    assert found("south-grid", "2026-01-01") == "0.4042"
    assert found("nowhere-grid", "2026-01-01") == "none"
    assert found("540000", "2026-01-01") == found("", "2026-01-01")  # Tibet, not the south-west


def test_a_year_that_is_asked_for_is_found_further_up_or_not_at_all() -> None:
    series = series_of(VALUE, NATION.replace("2022", "2021"))
    assert look_up(series, region="440300", key="", as_of_day=day("2026-01-01"), year=2020) is None
    older = look_up(series, region="440300", key="", as_of_day=day("2026-01-01"), year=2021)
    assert older is not None
    assert older.region == ""


def test_kinds_of_one_series_are_kept_apart() -> None:
    petrol = VALUE.replace("year =", 'key = "petrol"\nyear =')
    diesel = petrol.replace("petrol", "diesel").replace("0.44", "0.46")
    series = series_of(petrol, diesel)
    assert texts(series.by_region(day("2026-01-01"), "diesel")) == ["0.46"]
    assert series.by_region(day("2026-01-01")) == []


# --- faults

BROKEN = {
    # what is broken: (what stands there, what is put there, the line, what is said)
    "another id": ('id = "grid-x"', 'id = "grid-y"', 1, "make the two equal"),
    "id in capitals": ('id = "grid-x"', 'id = "GRID"', 1, "lower-case words"),
    "unknown unit": ("kg/kWh", "kg/mile", 4, "not known"),
    "unknown gas": ('"CO2"', '"CO"', 5, "write one of CO2, CO2e"),
    "unknown category": ('"grid"', '"power"', 6, "write one of grid"),
    "unknown key of the file": ('unit = "kg/kWh"', 'unit = "kg/kWh"\nscope = 2', 5, "scope is not"),
    "unknown key of a value": ("year = 2022", "year = 2022\nyears = 1", 11, "years is not known"),
    "no value": (VALUE, "", 1, "value"),
    "region of five digits": ('"440000"', '"44000"', 9, "write six digits"),
    "region in capitals": ('"440000"', '"South"', 9, "write six digits"),
    "key in capitals": ("year = 2022", 'key = "CH4"\nyear = 2022', 10, "lower-case words"),
    "year in words": ("year = 2022", 'year = "2022"', 10, "year must be a whole number"),
    "no year": ("year = 2022\n", "", 8, "year is missing"),
    "date in quotes": ("2024-12-26", '"2024-12-26"', 11, "date without quotes"),
    "binary fraction": ('"0.44"', "0.44", 12, "text in quotes"),
    "exponent": ('"0.44"', '"4.4e-1"', 12, "write decimal text"),
    "no source": ('source = "a page"\n', "", 8, "source is missing"),
    "empty source": ('"a page"', '" "', 13, "source is empty"),
    "unknown status": ('"reposted"', '"certain"', 14, "write one of official"),
    "low alone": ("source", 'low = "0.4"\nsource', 13, "low stands alone"),
    "value below low": ("source", 'low = "0.45"\nhigh = "0.5"\nsource', 13, "is not between"),
    "value above high": ("source", 'low = "0.4"\nhigh = "0.43"\nsource', 13, "is not between"),
    "not TOML": ("[[value]]", "[[value", 8, "not TOML"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_file_does_not_load_and_says_where_and_how_to_mend_it(broken: str) -> None:
    there, instead, line, said = BROKEN[broken]
    assert there in FILE
    (fault,) = faults_of({"grid-x.toml": FILE.replace(there, instead, 1)})
    assert fault.file == "factors/grid-x.toml"
    assert fault.line == line, fault
    assert said in fault.message


def test_the_same_publication_twice_is_a_fault_and_another_day_is_none() -> None:
    (fault,) = faults_of({"grid-x.toml": FILE + VALUE.replace("0.44", "0.45")})
    assert fault.line == 19
    assert "in line 8" in fault.message
    assert "later publish_date" in fault.message
    assert len(series_of(VALUE, CORRECTED).values) == 2


def test_low_and_high_may_touch_the_value() -> None:
    (value,) = series_of(VALUE.replace("source", 'low = "0.44"\nhigh = "0.440"\nsource')).values
    assert (value.low, value.high) == ("0.44", "0.440")


def test_every_broken_file_is_said_at_once() -> None:
    faults = faults_of({"a.toml": "", "b.toml": "x", "grid-x.toml": FILE})
    assert [fault.file for fault in faults] == ["factors/a.toml", "factors/b.toml"]


# --- published values never change

SEALED = {"grid-x.toml": FILE, "published.sum": sums(load_registry({"grid-x.toml": FILE}))}


def test_published_sum_is_exactly_what_the_files_say() -> None:
    text = (FACTORS / "published.sum").read_text("utf-8")
    assert text == sums(SHIPPED), f"run {COMMAND} and commit factors/published.sum"


def test_the_readme_names_every_series_and_the_command() -> None:
    readme = (FACTORS / "README.md").read_text("utf-8")
    assert [name for name in SHIPPED if f"`{name}`" not in readme] == []
    assert COMMAND in readme


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ('"0.44"', '"0.45"'),
        ('"0.44"', '"0.440"'),
        ('"a page"', '"another page"'),
        ('"reposted"', '"official"'),
        ("kg/kWh", "g/kWh"),
        ('"CO2"', '"CO2e"'),
        ("source", 'low = "0.4"\nhigh = "0.5"\nsource'),
        ("source", 'page = "3"\nsource'),
    ],
)
def test_a_published_value_that_was_edited_does_not_load(there: str, instead: str) -> None:
    (fault,) = faults_of({**SEALED, "grid-x.toml": FILE.replace(there, instead, 1)})
    assert (fault.file, fault.line) == ("factors/grid-x.toml", 8)
    assert "put it back" in fault.message
    assert "later publish_date" in fault.message


@pytest.mark.parametrize(
    ("there", "instead"),
    [("2022", "2023"), ('"440000"', '"450000"'), ("2024-12-26", "2024-12-27"), ("[[value]]", "#")],
)
def test_a_published_value_that_is_gone_does_not_load(there: str, instead: str) -> None:
    changed = FILE.replace(there, instead, 1) if instead != "#" else HEAD + NEXT_YEAR
    (fault,) = faults_of({**SEALED, "grid-x.toml": changed})
    assert (fault.file, fault.line) == ("factors/published.sum", 1)
    assert "grid-x 440000 - 2022 2024-12-26 was published and is gone" in fault.message


def test_a_title_and_a_note_may_be_improved() -> None:
    better = FILE.replace('title_en = "test"', 'title_en = "a test"') + 'note = "seen"\n'
    assert load_registry({**SEALED, "grid-x.toml": better})


def test_a_new_value_loads_before_it_is_sealed() -> None:
    loaded = load_registry({**SEALED, "grid-x.toml": FILE + CORRECTED})
    assert len(loaded["grid-x"].values) == 2


@pytest.mark.parametrize("more", ["nonsense\n", "0" * 64 + "  grid-x 440000\n", "twice"])
def test_a_line_that_no_value_wrote_is_a_fault(more: str) -> None:
    text = SEALED["published.sum"] * 2 if more == "twice" else SEALED["published.sum"] + more
    (fault,) = faults_of({**SEALED, "published.sum": text})
    assert (fault.file, fault.line) == ("factors/published.sum", 2)
    assert "put back what it wrote" in fault.message


def written(directory: Path, **files: str) -> Path:
    for name, text in {**SEALED, **files}.items():
        (directory / name).write_text(text, "utf-8")
    return directory


def test_the_command_seals_what_is_new_and_only_that(tmp_path: Path) -> None:
    place = written(tmp_path, **{"grid-x.toml": FILE + CORRECTED})
    assert seal(place) == 1
    lines = (place / "published.sum").read_text("utf-8").splitlines()
    assert lines[0] == SEALED["published.sum"].strip()
    assert seal(place) == 0


def test_the_command_never_seals_an_edit(tmp_path: Path) -> None:
    place = written(tmp_path, **{"grid-x.toml": FILE.replace("0.44", "0.45")})
    with pytest.raises(LibraryInvalid, match="never edited"):
        seal(place)
    assert (place / "published.sum").read_text("utf-8") == SEALED["published.sum"]


def test_a_registry_without_its_seals_is_not_read(tmp_path: Path) -> None:
    place = written(tmp_path)
    (place / "published.sum").unlink()
    with pytest.raises(FileNotFoundError):
        read_factor_files(place)
