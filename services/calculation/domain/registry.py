"""Loading the factor registry: every file is checked whole before anything quotes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from services.calculation.domain.factors import FactorValue, Series, in_order, look_up
from services.calculation.domain.faults import LibraryFault, LibraryInvalid
from services.calculation.domain.published import SUMS, changed_values, sums
from services.calculation.domain.reading import FileInvalid, Section, read_toml
from services.calculation.domain.units import UnitMismatch, parse_unit

__all__ = ["CATEGORIES", "FactorValue", "Series", "load_registry", "look_up", "sums"]

CATEGORIES = ("grid", "fuel", "transport", "water", "food", "goods", "gwp")
GAS_SCOPES = ("CO2", "CO2e")
STATUSES = ("official", "reposted", "operator", "secondary", "decision")

_WORD = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_AREA = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)
_CODE = re.compile(r"[1-9][0-9]{5}", re.ASCII)
_YEAR_MAX = 2100


def load_registry(files: Mapping[str, str]) -> dict[str, Series]:
    """The series of `files` (name below factors/ -> text) by id; raises LibraryInvalid.

    Files that do not end in .toml are passed over, but for published.sum: where it is given, a
    value that differs from its line, and a line without its value, are faults.
    """
    faults: list[LibraryFault] = []
    registry: dict[str, Series] = {}
    lines: dict[FactorValue, int] = {}
    for path in sorted(path for path in files if path.endswith(".toml")):
        try:
            series = _series(read_toml(files[path]), path, lines)
            registry[series.id] = series
        except FileInvalid as error:
            faults.append(LibraryFault(path, error.line, error.column, error.message))
    # A series that did not load would be reported as lost, which is not what is wrong with it.
    if not faults:
        faults = changed_values(files.get(SUMS, ""), registry, lines)
    if faults:
        raise LibraryInvalid(
            [LibraryFault(f"factors/{f.file}", f.line, f.column, f.message) for f in faults]
        )
    return registry


def _series(root: Section, path: str, lines: dict[FactorValue, int]) -> Series:
    name, stem = root.text("id"), path.removesuffix(".toml")
    if not _WORD.fullmatch(name):
        raise root.fault(f"id is {name[:60]!r}; write lower-case words joined by hyphens", "id")
    if name != stem:
        raise root.fault(
            f"id is {name!r} in a file named {stem[:80]}.toml; make the two equal", "id"
        )
    unit = _unit(root)
    head = {key: root.text(key) for key in ("title_zh", "title_en")}
    gas_scope = root.choice("gas_scope", GAS_SCOPES)
    category = root.choice("category", CATEGORIES)
    values: dict[tuple[object, ...], FactorValue] = {}
    for row in root.sections("value", at_least=1):
        value = _value(row, name, unit)
        named = (*value.place, value.publish_day)
        if named in values:
            raise row.fault(
                "there are two values for the same region, key, year and publish_date "
                f"({value.value} and, in line {lines[values[named]]}, {values[named].value}); "
                "delete one, or give the newer one its later publish_date", "publish_date",
            )  # fmt: skip
        values[named] = value
        lines[value] = row.place()[0]
    root.close()
    return Series(name, head["title_zh"], head["title_en"], unit, gas_scope, category,
                  in_order(values.values()))  # fmt: skip


def _value(row: Section, series: str, unit: str) -> FactorValue:
    value, exact = row.decimal("value")
    low, high = _ends(row, exact)
    read = FactorValue(
        series=series,
        unit=unit,
        region=_region(row),
        key=_key(row),
        year=row.whole("year", 0, _YEAR_MAX),
        publish_day=row.day("publish_date", required=False),
        value=value,
        low=low,
        high=high,
        source=row.text("source"),
        page=row.text("page", ""),
        status=row.choice("status", STATUSES),
        note=row.text("note", ""),
    )
    row.close()
    return read


def _ends(row: Section, value: Fraction) -> tuple[str, str]:
    """Text of low and high: both or neither, and the value between them."""
    given = [key for key in ("low", "high") if key in row.table]
    if not given:
        return "", ""
    if len(given) == 1:
        raise row.fault(f"{given[0]} stands alone; give low and high, or neither", given[0])
    (low, least), (high, greatest) = row.decimal("low"), row.decimal("high")
    if not least <= value <= greatest:
        raise row.fault(
            f"value {row.table['value']} is not between low {low} and high {high}; correct "
            "the one that was copied wrongly", "low",
        )  # fmt: skip
    return low, high


def _unit(root: Section) -> str:
    text = root.text("unit")
    try:
        parse_unit(text)
    except UnitMismatch as error:
        raise root.fault(str(error), "unit") from error
    return text


def _region(row: Section) -> str:
    region = row.text("region", "")
    if region and not (_CODE.fullmatch(region) or _AREA.fullmatch(region)):
        raise row.fault(
            f'region is {region[:40]!r}; write six digits such as "440000", an area in lower case '
            'such as "south-grid", or "" for everywhere', "region",
        )  # fmt: skip
    return region


def _key(row: Section) -> str:
    key = row.text("key", "")
    if key and not _WORD.fullmatch(key):
        raise row.fault(
            f'key is {key[:40]!r}; write lower-case words such as "petrol-car-medium", or "" in a '
            "series of one kind", "key",
        )  # fmt: skip
    return key
