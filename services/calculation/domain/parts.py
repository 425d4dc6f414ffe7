"""The small parts of a methodology file: measures, factors, caps, grades."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from services.calculation.domain.methodology import GRADES, STATUSES, Cap, Factor, Grade, Measure
from services.calculation.domain.parse import RESERVED
from services.calculation.domain.reading import Section
from services.calculation.domain.units import MEASURE_UNITS, Unit, UnitMismatch, parse_unit

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MEASURE_MAX = 2**53  # what JSON carries exactly
_CAP_MAX = 2**40


def read_measure(row: Section) -> Measure:
    """A declared measure with the range it is accepted in."""
    name, unit = _name(row, "name"), row.choice("unit", MEASURE_UNITS)
    if name != unit and not name.endswith(f"_{unit}"):
        raise row.fault(f"name must end in its unit, such as {name}_{unit}", "name")
    low = row.whole("min", -_MEASURE_MAX, _MEASURE_MAX)
    measure = Measure(
        name=name, unit=unit, min=low, max=row.whole("max", low, _MEASURE_MAX),
        label_zh=row.text("label_zh"), label_en=row.text("label_en"),
    )  # fmt: skip
    row.close()
    return measure


def read_factor(row: Section) -> Factor:
    """A number with its unit, source and status."""
    value, _ = row.decimal("value")
    factor = Factor(
        key=_name(row, "key"),
        value=value,
        unit=row.text("unit"),
        date=row.text("date", ""),
        source=row.text("source"),
        page=row.text("page", ""),
        status=row.choice("status", STATUSES),
        label_zh=row.text("label_zh"),
        label_en=row.text("label_en"),
    )
    unit_of(row, factor.unit, "unit")
    row.close()
    return factor


def read_cap(row: Section, methodology: str, measures: Sequence[Measure]) -> Cap:
    """The most that may be used in a window."""
    identity = row.text("id")
    names = [measure.name for measure in measures if measure.min >= 0]
    cap = Cap(
        key=f"{methodology}/{identity}",
        window=row.choice("window", ("act", "day", "month")),
        of=row.choice("of", ("count", "result", *(name for name in names if name != "count"))),
        amount=row.whole("amount", 0, _CAP_MAX),
        source=row.text("source"),
        status=row.choice("status", STATUSES),
        label_zh=row.text("label_zh", ""),
        label_en=row.text("label_en", ""),
    )
    if cap.window == "act" and cap.of == "count":
        raise row.fault("an act is always one; cap a measure or the result, or a day", "of")
    row.close()
    return cap


def read_grade(row: Section) -> tuple[int, Grade]:
    """The share of the result that an evidence grade earns."""
    code = GRADES[row.choice("grade", tuple(GRADES))]
    text, share = row.decimal("share")
    if not Fraction(0) <= share <= 1:
        raise row.fault(f"share is {text}; write a decimal from 0 to 1", "share")
    grade = Grade(share, text, row.text("source"), row.choice("status", STATUSES))
    row.close()
    return code, grade


def unit_of(row: Section, text: str, key: str) -> tuple[Unit, Fraction]:
    """A unit and its size in base units, or a fault at `key`."""
    try:
        return parse_unit(text)
    except UnitMismatch as error:
        raise row.fault(str(error), key) from error


def _name(row: Section, key: str) -> str:
    name = row.text(key)
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise row.fault(f"{key} is {name[:40]!r}; use lower-case letters, digits and _", key)
    return name
