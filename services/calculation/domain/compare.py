"""What differs between two versions, part by part, in the words of their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.calculation.domain.methodology import Version
from services.calculation.domain.rule import GRADES
from services.calculation.domain.tables import EVER, Row
from shared.ids import day_to_date

_SOURCE = ("source", "status")
_GRADES = {code: name for name, code in GRADES.items()}


@dataclass(frozen=True)
class Difference:
    """One part that is not the same; "" where a version has none."""

    part: str
    before: str
    after: str


def differences_of(before: Sequence[Version], after: Sequence[Version]) -> list[Difference]:
    """Every part that differs between the rules of two versions, in order of parts."""
    old, new = parts_of(before), parts_of(after)
    return [
        Difference(part, old.get(part, ""), new.get(part, ""))
        for part in sorted(old.keys() | new.keys())
        if old.get(part, "") != new.get(part, "")
    ]


def parts_of(rules: Sequence[Version]) -> dict[str, str]:
    """Every part of a version that decides or sources a result, by its place."""
    parts: dict[str, str] = {}
    for rule in rules:
        days = [rule.effective_day, rule.end_day]
        head = {
            "asset": rule.asset,
            "gas_scope": rule.gas_scope,
            "draft": rule.draft,
            "effective_date": str(day_to_date(rule.effective_day)),
            "end_date": str(day_to_date(days[1])) if days[1] is not None else "",
            "below_zero": "counts" if rule.below_zero_counts else "zero",
        }
        parts.update(head)
        for scene in sorted(rule.scenes):
            parts |= {f"{scene} {part}": text for part, text in _rule(rule)}
    return parts


def _rule(rule: Version) -> Iterator[tuple[str, str]]:
    yield "formula", rule.formula_text
    yield "credit", "low" if rule.credits_low else "value"
    for measure in rule.measures:
        yield from _told(f"measure {measure.name}", measure, ("unit", "min", "max"))
    for label in rule.labels:
        yield f"label {label.name} values", ", ".join(label.values)
    for factor in rule.factors:
        yield f"factor {factor.key} unit", factor.unit
        for place, row in rows_of(rule, factor.key):
            yield from _told(
                f"factor {factor.key} {place}".rstrip(), row,
                ("value", "low", "high", "source", "page", "status"),
            )  # fmt: skip
        yield f"factor {factor.key} date", factor.date
    for history in rule.histories:
        parts = ("of", "days", "days_least", *_SOURCE)
        yield from _told(f"history {history.name}", history, parts)
    for number, condition in enumerate(rule.conditions, 1):
        yield f"condition {number} formula", condition.text
        yield from _told(f"condition {number}", condition, _SOURCE)
    for cap in rule.caps:
        parts = ("window", "of", "amount", *_SOURCE)
        yield from _told(f"cap {cap.key.partition('/')[2]}", cap, parts)
    for code, grade in sorted(rule.grades.items()):
        yield f"grade {_GRADES[code]} share", grade.text
        yield from _told(f"grade {_GRADES[code]}", grade, _SOURCE)


def rows_of(rule: Version, key: str) -> list[tuple[str, Any]]:
    """The values of a factor, each with the case that it is for ("" for a plain number)."""
    factor = next(factor for factor in rule.factors if factor.key == key)
    if factor.table is None:
        return [("", factor)]
    labels = {label.name: label.values for label in rule.labels}
    return [(_case(row, factor.table.labels, labels), row) for row in factor.table.rows]


def _case(row: Row, names: Sequence[str], labels: Mapping[str, Sequence[str]]) -> str:
    words = [
        f"{name}={labels[name][code - 1]}" for name, code in zip(names, row.codes, strict=True)
    ]
    if row.region_prefix:
        words.append(f"region={row.region_prefix.ljust(6, '0')}")
    if row.from_day != EVER:
        words.append(f"from={day_to_date(row.from_day)}")
    return " ".join(words) or "otherwise"


def _told(place: str, part: object, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        yield f"{place} {name}", str(getattr(part, name))
