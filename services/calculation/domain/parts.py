"""The small parts of a methodology file: measures, labels, histories, caps, grades."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from keyword import iskeyword

from services.calculation.domain.history import mean_times
from services.calculation.domain.parse import RESERVED
from services.calculation.domain.reading import Section
from services.calculation.domain.rule import (
    GRADES,
    STATUSES,
    Cap,
    Grade,
    History,
    Label,
    Measure,
)
from services.calculation.domain.units import MEASURE_UNITS

KEBAB = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ROW_KEYS = frozenset({"value", "low", "high", "source", "page", "status", "region", "from_date"})
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MEASURE_MAX = 2**53  # what JSON carries exactly
_CAP_MAX = 2**40
_LABEL_VALUES_MAX = 64
_HISTORY_DAYS_MAX = 31
_MEAN_MAX = 2**62


def read_measure(row: Section) -> Measure:
    """A declared measure with the range it is accepted in."""
    name, unit = read_name(row, "name"), row.choice("unit", MEASURE_UNITS)
    if name != unit and not name.endswith(f"_{unit}"):
        raise row.fault(f"name must end in its unit, such as {name}_{unit}", "name")
    low = row.whole("min", -_MEASURE_MAX, _MEASURE_MAX)
    measure = Measure(
        name=name, unit=unit, min=low, max=row.whole("max", low, _MEASURE_MAX),
        label_zh=row.text("label_zh"), label_en=row.text("label_en"),
    )  # fmt: skip
    row.close()
    return measure


def read_label(row: Section) -> Label:
    """A word out of a closed list."""
    name = read_name(row, "name")
    if name in _ROW_KEYS:
        raise row.fault(f"{name} has a meaning in rows of a table; choose another name", "name")
    values = row.texts("values")
    if not 1 <= len(values) <= _LABEL_VALUES_MAX or len(set(values)) != len(values):
        raise row.fault(f"values must be 1 to {_LABEL_VALUES_MAX} words, each once", "values")
    label = Label(name, tuple(values), row.text("label_zh"), row.text("label_en"))
    row.close()
    return label


def read_history(row: Section, methodology: str, measures: Sequence[Measure]) -> History:
    """The mean of a measure over the account's own days before."""
    name = read_name(row, "name")
    past = {measure.name: measure for measure in measures if measure.min >= 0}
    measure = past.get(row.choice("of", tuple(past)))
    assert measure is not None
    if not name.endswith(f"_{measure.unit}"):
        raise row.fault(f"name must end in its unit, such as {name}_{measure.unit}", "name")
    days = row.whole("days", 1, _HISTORY_DAYS_MAX)
    history = History(
        key=f"{methodology}/{name}", name=name, of=measure.name, days=days,
        days_least=row.whole("days_least", 1, days), min=measure.min, max=measure.max,
        source=row.text("source"), status=row.choice("status", STATUSES),
        label_zh=row.text("label_zh"), label_en=row.text("label_en"),
    )  # fmt: skip
    row.close()
    if history.max * mean_times(history) > _MEAN_MAX:
        raise row.fault(
            f"its parts can pass 2**62; narrow {measure.name} or let days_least be nearer to days",
            "days_least",
        )
    return history


def read_cap(row: Section, methodology: str, measures: Sequence[Measure]) -> Cap:
    """The most that may be used in a window."""
    identity = row.text("id")
    if not KEBAB.fullmatch(identity):
        raise row.fault("id must be lower-case letters, digits and hyphens", "id")
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


def read_name(row: Section, key: str) -> str:
    """A name that formulas may use."""
    name = row.text(key)
    # An independent reader may be Python's own, so what Python keeps for itself is no name.
    if not _NAME.fullmatch(name) or name in RESERVED or iskeyword(name):
        raise row.fault(f"{key} is {name[:40]!r}; use lower-case letters, digits and _", key)
    return name
