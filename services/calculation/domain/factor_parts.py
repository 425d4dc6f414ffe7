"""Factors of a methodology file: plain numbers, tables of rows, and quotations of the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from fractions import Fraction
from itertools import product
from typing import Any

from services.calculation.domain.factors import FactorValue, Series
from services.calculation.domain.reading import Section
from services.calculation.domain.rule import STATUSES, Factor, Label
from services.calculation.domain.tables import DATE, EVER, REGION, Row, Table
from services.calculation.domain.units import UnitMismatch, parse_unit
from shared.ids import date_to_day

_TABLE_LABELS_MAX = 2


def read_factor(
    row: Section, key: str, labels: Sequence[Label], registry: Mapping[str, Series]
) -> Factor:
    """One factor, with its table where it depends on the act; raises FileInvalid."""
    by = row.texts("by", [])
    told = (row.text("label_zh"), row.text("label_en"))
    names = [label.name for label in labels]
    unknown = [name for name in by if name not in (*names, REGION, DATE)]
    if unknown:
        allowed = ", ".join((*names, REGION, DATE))
        raise row.fault(f"by has {unknown[0][:40]!r}; write one of {allowed}", "by")
    if len(set(by)) != len(by) or len(set(by) & set(names)) > _TABLE_LABELS_MAX:
        raise row.fault(f"by names each once, and at most {_TABLE_LABELS_MAX} labels", "by")
    if row.has("series"):
        factor = _quoted(row, key, by, registry, told)
    elif by:
        unit = row.text("unit")
        size = unit_size(row, unit)
        rows = [_row(part, by, labels, size) for part in row.sections("row", at_least=1)]
        _check_rows(row, rows, by, labels)
        factor = Factor(key, "", unit, "", "", "", "", *told, table=_table(by, labels, rows))
    else:
        factor = _plain(row, key, told)
    row.close()
    return factor


def unit_size(row: Section, text: str) -> Fraction:
    """The size of a unit in base units, or a fault at `unit`."""
    try:
        return parse_unit(text)[1]
    except UnitMismatch as error:
        raise row.fault(str(error), "unit") from error


def _plain(row: Section, key: str, told: tuple[str, str]) -> Factor:
    unit = row.text("unit")
    unit_size(row, unit)
    value, low, high = _ends(row)
    return Factor(
        key, value, unit, row.text("date", ""), row.text("source"), row.text("page", ""),
        row.choice("status", STATUSES), *told, low=low, high=high,
    )  # fmt: skip


def _ends(row: Section) -> tuple[str, str, str]:
    """Value, low and high as text; low and high "" when neither is given."""
    value, exact = row.decimal("value")
    if not row.has("low") and not row.has("high"):
        return value, "", ""
    (low, least), (high, greatest) = row.decimal("low"), row.decimal("high")
    if not least <= exact <= greatest:
        raise row.fault(f"{value} must lie between low {low} and high {high}; mend one", "low")
    return value, low, high


def _row(row: Section, by: Sequence[str], labels: Sequence[Label], size: Fraction) -> Row:
    codes = tuple(
        label.values.index(row.choice(label.name, label.values)) + 1
        for label in labels
        if label.name in by
    )
    value, low, high = _ends(row)
    made = Row(
        codes=codes,
        region_prefix=read_region(row) if REGION in by else "",
        from_day=(row.day("from_date") or 0) if DATE in by else EVER,
        ends=_in_base(value, low, high, size),
        value=value, low=low, high=high, source=row.text("source"), page=row.text("page", ""),
        status=row.choice("status", STATUSES),
    )  # fmt: skip
    row.close()
    return made


def _check_rows(
    row: Section, rows: Sequence[Row], by: Sequence[str], labels: Sequence[Label]
) -> None:
    seen: set[tuple[Any, ...]] = set()
    for part, one in zip(row.sections("row"), rows, strict=True):
        place = (one.codes, one.region_prefix, one.from_day)
        if place in seen:
            raise part.fault("another row is for the same case; remove one or change the case")
        seen.add(place)
    named = [label for label in labels if label.name in by]
    told = {one.codes for one in rows}
    for codes in product(*(range(1, len(label.values) + 1) for label in named)):
        if codes not in told:
            case = ", ".join(
                f"{label.name} {label.values[code - 1]!r}"
                for label, code in zip(named, codes, strict=True)
            )
            raise row.fault(f"no row is for {case}; add one or take the value away", "by")


def _quoted(
    row: Section,
    key: str,
    by: Sequence[str],
    registry: Mapping[str, Series],
    told: tuple[str, str],
) -> Factor:
    """A factor that quotes a series as it was known on a day."""
    name, as_of, kind = row.text("series"), row.day("as_of") or 0, row.text("kind", "")
    series = registry.get(name)
    if series is None:
        known = ", ".join(sorted(registry)) or "none"
        raise row.fault(f"series {name[:60]!r} is not in the registry; there is {known}", "series")
    if set(by) - {REGION, DATE}:
        raise row.fault('a series goes by "region" and "date" alone', "by")
    region = "" if REGION in by else row.text("region", "")
    if REGION in by:
        values = (
            series.by_region_and_year(as_of, kind) if DATE in by else series.by_region(as_of, kind)
        )
    elif DATE in by:
        values = series.by_year(as_of, region, kind)
    else:
        latest = series.latest(as_of, region, kind)
        values = [latest] if latest else []
    if not values:
        raise row.fault(
            f"nothing of {name} for region {region or 'everywhere'!r} and kind {kind!r} was "
            "published by then; take a later day or another region", "as_of"
        )  # fmt: skip
    if not by:
        one = values[0]
        date = str(one.year) if one.year else ""
        return Factor(key, one.value, series.unit, date, _source(one), one.page, one.status, *told,
                      low=one.low, high=one.high)  # fmt: skip
    size = unit_size(row, series.unit)
    rows = [_quoted_row(value, by, size) for value in values]
    table = Table((), REGION in by, DATE in by, tuple(rows))
    return Factor(key, "", series.unit, "", "", "", "", *told, table=table)


def _quoted_row(value: FactorValue, by: Sequence[str], size: Fraction) -> Row:
    return Row(
        codes=(),
        region_prefix=prefix_of(value.region),
        from_day=date_to_day(date(value.year, 1, 1)) if DATE in by and value.year else EVER,
        ends=_in_base(value.value, value.low, value.high, size),
        value=value.value, low=value.low, high=value.high, source=_source(value), page=value.page,
        status=value.status,
    )  # fmt: skip


def _source(value: FactorValue) -> str:
    """Where a quoted value stands: its place in the registry, then the document."""
    place = " ".join(filter(None, (value.region, value.key, str(value.year or ""))))
    return f"{value.series} {place}".strip() + f": {value.source}"


def _table(by: Sequence[str], labels: Sequence[Label], rows: Sequence[Row]) -> Table:
    named = tuple(label.name for label in labels if label.name in by)
    return Table(named, REGION in by, DATE in by, tuple(rows))


def _in_base(
    value: str, low: str, high: str, size: Fraction
) -> tuple[Fraction, Fraction, Fraction]:
    return Fraction(value) * size, Fraction(low or value) * size, Fraction(high or value) * size


def read_region(row: Section, key: str = "region") -> str:
    """A region code without its trailing pairs of zeros; "" for everywhere."""
    code = row.text(key, "")
    if code and not (len(code) == 6 and code.isascii() and code.isdigit() and code > "100000"):
        raise row.fault(
            f'{key} is {code[:20]!r}; write six digits such as "440300", or "" for everywhere', key
        )
    return prefix_of(code)


def prefix_of(code: str) -> str:
    """440300 is a city and holds 440305: pairs of zeros at the end name the whole above."""
    while code.endswith("00"):
        code = code[:-2]
    return code
