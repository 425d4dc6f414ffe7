"""The working of one result: every operand, its source, and the rule that was applied.

Nothing of a working is stored: it is computed again from the act, the version and what the
window had used, and comes to the very milligrams that were credited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from services.calculation.domain.exact import Act, Exact, assess_act, holds
from services.calculation.domain.methodology import Cap, Condition, Version
from services.calculation.domain.parse import tokens_of
from services.calculation.domain.refused import NOT_ELIGIBLE, OUT_OF_RANGE

_OF = {"count": ("次", "acts")}
_WINDOW = {
    "act": ("每次", "per act"),
    "day": ("每自然日", "per day"),
    "month": ("每自然月", "per month"),
}


@dataclass(frozen=True)
class Step:
    """One line of the working; `result` is exact decimal text, p/q where it never ends."""

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
    """The steps in order and what they come to, as `evaluate` gives it."""

    steps: tuple[Step, ...]
    credited: int
    uncapped: int
    refused: int


def explain(
    version: Version, measures: Mapping[str, int], *, used_before: int, grade: int
) -> Working:
    """How an act earns what it earns when its window had used `used_before` of the cap.

    Both languages are in every step. KeyError when a declared measure is missing.
    """
    act = Act(measures, grade)
    exact = assess_act(version, act, used_before)
    steps = _operands(version, measures)
    steps += [_condition(version, condition, exact, measures) for condition in version.conditions]
    if exact.refused == OUT_OF_RANGE:
        steps += _out_of_range(version, measures)
    elif exact.refused == NOT_ELIGIBLE and version.grades and grade not in version.grades:
        steps.append(
            Step("证据等级不被接受", "evidence grade not accepted", str(grade), "0", version.unit)
        )
    elif exact.raw is not None and exact.graded is not None:
        steps += _result(version, measures, exact.raw)
        if version.grades:
            steps.append(_grade(version, grade, exact.raw, exact.graded))
        steps.append(_rounded(version, exact.graded, exact.uncapped))
        steps += [_cap(version, cap, exact) for cap in version.caps]
    label = ("计入账户", "credited")
    steps.append(Step(*label, str(exact.credited), str(exact.credited), version.unit))
    return Working(tuple(steps), exact.credited, exact.uncapped, exact.refused)


def _operands(version: Version, measures: Mapping[str, int]) -> list[Step]:
    read = [version.formula_text, *(condition.text for condition in version.conditions)]
    used = {token.text for text in read for token in tokens_of(text)}
    steps = [
        Step(m.label_zh, m.label_en, m.name, str(measures[m.name]), m.unit)
        for m in version.measures
    ]
    return steps + [
        Step(f.label_zh, f.label_en, f.key, f.value, f.unit, f.source, f.page, f.status)
        for f in version.factors
        if f.key in used
    ]


def _condition(
    version: Version, condition: Condition, exact: Exact, measures: Mapping[str, int]
) -> Step:
    result = "-"
    if exact.refused != OUT_OF_RANGE:
        values = {m.name: measures[m.name] * version.values[m.name] for m in version.measures}
        result = "true" if holds(condition.tree, {**version.values, **values}) else "false"
    return Step(
        condition.label_zh, condition.label_en, _filled(version, condition.text, measures),
        result, "", condition.source, "", condition.status,
    )  # fmt: skip


def _out_of_range(version: Version, measures: Mapping[str, int]) -> list[Step]:
    return [
        Step("超出方法学接受的范围", "outside the range that the version accepts",
             f"{m.min} <= {m.name} = {measures[m.name]} <= {m.max}", "0", version.unit)
        for m in version.measures
        if not m.min <= measures[m.name] <= m.max
    ]  # fmt: skip


def _result(version: Version, measures: Mapping[str, int], raw: Fraction) -> list[Step]:
    filled = _filled(version, version.formula_text, measures)
    return [
        Step("公式", "formula", version.formula_text, decimal_text(raw), version.unit),
        Step("代入数值", "with its inputs", filled, decimal_text(raw), version.unit),
    ]


def _grade(version: Version, grade: int, raw: Fraction, graded: Fraction) -> Step:
    own = version.grades[grade]
    return Step(
        "证据等级折扣", "share of the evidence grade", f"{decimal_text(raw)} * {own.text}",
        decimal_text(graded), version.unit, own.source, "", own.status,
    )  # fmt: skip


def _rounded(version: Version, graded: Fraction, uncapped: int) -> Step:
    floor = f"floor({decimal_text(graded)})"
    if graded < 0:
        return Step(
            "负值按零计入", "below zero counts as zero", f"max(0, {floor})", "0", version.unit
        )
    unit_zh = "点" if version.unit == "point" else "毫克"
    return Step(
        f"向下取整到{unit_zh}", f"rounded down to a whole {version.unit}", floor,
        str(uncapped), version.unit,
    )  # fmt: skip


def _cap(version: Version, cap: Cap, exact: Exact) -> Step:
    of_zh, of_en = _OF.get(cap.of, (cap.of, cap.of))
    window_zh, window_en = _WINDOW[cap.window]
    return Step(
        cap.label_zh or f"{window_zh}上限（{of_zh}）",
        cap.label_en or f"cap {window_en} ({of_en})",
        f"used before {exact.used_before}, at most {cap.amount}, used after {exact.used_after}",
        str(exact.credited), version.unit, cap.source, "", cap.status,
    )  # fmt: skip


def _filled(version: Version, text: str, measures: Mapping[str, int]) -> str:
    """The expression with values and units in the place of names."""
    shown = {m.name: f"{measures[m.name]} {m.unit}" for m in version.measures}
    shown |= {f.key: f"{f.value} {f.unit}" for f in version.factors}
    out, place = [], 0
    for token in tokens_of(text):
        out += [text[place : token.start], shown.get(token.text, token.text)]
        place = token.start + len(token.text)
    return "".join(out)


def decimal_text(value: Fraction) -> str:
    """An exact fraction as decimal text; as p/q where the decimals never end."""
    twos = fives = 0
    rest = value.denominator
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = max(twos, fives)
    whole = str(abs(value.numerator) * 10**digits // value.denominator).rjust(digits + 1, "0")
    text = f"{whole[:-digits]}.{whole[-digits:]}" if digits else whole
    return f"-{text}" if value < 0 else text
