"""The working of one result: every operand, its source, the rule that was applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from services.calculation.domain.evaluate import NOT_ELIGIBLE, OUT_OF_RANGE, Evaluated, one
from services.calculation.domain.methodology import Version


@dataclass(frozen=True)
class Step:
    """One line of the working; `result` is exact decimal text."""

    label_zh: str
    label_en: str
    expression: str
    result: str
    unit: str
    source: str = ""
    page: str = ""
    status: str = ""


@dataclass(frozen=True)
class Working:
    """The steps in order and what they come to; the numbers are those of `evaluate`."""

    steps: tuple[Step, ...]
    evaluated: Evaluated


def explain(version: Version, measures: Mapping[str, int], *, grade: int, used: int) -> Working:
    """How an act of these measures earns what it earns, when the window had used `used`."""
    evaluated = one(version, measures, grade=grade, used=used)
    steps = [_measure(measure.name, measures, measure.unit) for measure in version.measures]
    steps += [
        Step(f.label_zh, f.label_en, f.key, f.value, f.unit, f.source, f.page, f.status)
        for f in version.factors
        if f.key in version.formula.names
    ]
    refused, unit = evaluated.refused[0], _unit(version)
    if refused == OUT_OF_RANGE:
        steps.append(Step("超出方法学适用范围", "outside what the version accepts", "", "0", unit))
    elif refused == NOT_ELIGIBLE:
        steps += [
            Step(c.label_zh, c.label_en, c.formula.text, "not met", "") for c in version.conditions
        ]
    else:
        steps += _formula(version, measures, grade, evaluated)
    if version.caps:
        steps.append(_cap(version, evaluated))
    steps.append(
        Step("计入账户的减排量", "credited", "floor", str(int(evaluated.credited[0])), unit)
    )
    return Working(tuple(steps), evaluated)


def _unit(version: Version) -> str:
    return "mg" if version.asset == "reduction" else "point"


def _measure(name: str, measures: Mapping[str, int], unit: str) -> Step:
    return Step("活动数据", "reported", name, str(measures.get(name, 0)), unit)


def _formula(
    version: Version, measures: Mapping[str, int], grade: int, evaluated: Evaluated
) -> list[Step]:
    filled = version.formula.text
    for name in sorted(version.formula.names, key=len, reverse=True):
        factor = next((f for f in version.factors if f.key == name), None)
        shown = f"{factor.value} {factor.unit}" if factor else str(measures.get(name, 0))
        filled = filled.replace(name, f"({shown})")
    exact = exact_value(version, measures)
    steps = [Step("公式", "formula", filled, decimal_text(exact), _unit(version))]
    share = version.grades.get(grade, Fraction(1))
    if share != 1:
        steps.append(
            Step(
                "证据等级折扣",
                "evidence grade",
                f"x {share}",
                decimal_text(exact * share),
                _unit(version),
            )
        )
    steps.append(
        Step("向下取整", "rounded down", "floor", str(int(evaluated.uncapped[0])), _unit(version))
    )
    return steps


def _cap(version: Version, evaluated: Evaluated) -> Step:
    cap = version.caps[0]
    return Step(
        "封顶规则",
        f"cap of {cap.amount} {cap.of} a {cap.window}",
        f"used before: {int(evaluated.used_before[0])}",
        str(int(evaluated.credited[0])),
        _unit(version),
        cap.source,
        "",
        cap.status,
    )


def exact_value(version: Version, measures: Mapping[str, int]) -> Fraction:
    """The formula's exact value in mg or points, before rounding."""
    columns = {m.name: np.array([measures.get(m.name, 0)], np.int64) for m in version.measures}
    return Fraction(int(version.formula.numerators(columns)[0]), version.formula.denominator)


def decimal_text(value: Fraction) -> str:
    """An exact fraction as decimal text; as p/q where the decimals never end."""
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    if denominator != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = 0
    while value * 10**digits != int(value * 10**digits):
        digits += 1
    whole = str(int(abs(value) * 10**digits)).rjust(digits + 1, "0")
    text = f"{whole[:-digits]}.{whole[-digits:]}" if digits else whole
    return f"-{text}" if value < 0 else text
