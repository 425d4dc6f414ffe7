"""The working of one result: every operand, its source, and the rule that was applied.

Nothing of a working is stored: it is computed again from the act, the version and what the
caps had used, and comes to the very milligrams that were credited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from services.calculation.domain.exact import (
    Act,
    Exact,
    assess_act,
    holds,
    rounded,
    row_of,
)
from services.calculation.domain.history import mean_times
from services.calculation.domain.methodology import Version
from services.calculation.domain.parse import tokens_of
from services.calculation.domain.refused import NOT_ELIGIBLE, OUT_OF_RANGE
from services.calculation.domain.rule import Condition, Factor
from services.calculation.domain.wording import (
    Step,
    cap_step,
    decimal_text,
    factor_step,
    step,
)

__all__ = ["Step", "Working", "decimal_text", "explain", "history_text"]


@dataclass(frozen=True)
class Working:
    """The steps in order and what they come to, as `evaluate` gives it.

    `low` and `high` are the ends of the result before caps, rounded as the result is; both are
    `uncapped` where nothing is uncertain.
    """

    steps: tuple[Step, ...]
    credited: int
    uncapped: int
    refused: int
    low: int
    high: int


def explain(version: Version, act: Act, used_before: Sequence[int] = ()) -> Working:
    """How an act earns what it earns when the windowed caps had used `used_before`.

    Both languages are in every step. KeyError when a declared measure is missing.
    """
    exact = assess_act(version, act, used_before)
    steps = _operands(version, act)
    for condition in version.conditions:
        steps.append(_condition(version, condition, act, exact.values))
    if exact.refused == OUT_OF_RANGE:
        steps += _out_of_range(version, act)
    elif exact.refused == NOT_ELIGIBLE:
        steps += _not_eligible(version, act)
    steps += _result(version, act, exact)
    unit = version.unit
    steps.append(
        step("计入账户", "credited", str(exact.credited), str(exact.credited), unit,
             zh="计入 {result} {unit}。", en="Credited: {result} {unit}.")
    )  # fmt: skip
    low, high = _ends(version, act, exact)
    return Working(tuple(steps), exact.credited, exact.uncapped, exact.refused, low, high)


def history_text(version: Version, act: Act) -> dict[str, str]:
    """The means of the account's own past by name, as exact text."""
    return {
        history.name: decimal_text(Fraction(act.history.get(history.name, 0), mean_times(history)))
        for history in version.histories
    }


def _operands(version: Version, act: Act) -> list[Step]:
    steps = [
        step(m.label_zh, m.label_en, m.name, str(act.measures[m.name]), m.unit)
        for m in version.measures
    ]
    for label in version.labels:
        code = act.labels.get(label.name, 0)
        word = label.values[code - 1] if 1 <= code <= len(label.values) else "-"
        steps.append(step(label.label_zh, label.label_en, label.name, word, ""))
    means = history_text(version, act)
    for history in version.histories:
        unit = version.unit_of_history(history.name)
        steps.append(
            step(history.label_zh, history.label_en, history.name, means[history.name], unit,
                 history.source, "", history.status)
        )  # fmt: skip
    return steps + [_factor(factor, act) for factor in version.factors]


def _factor(factor: Factor, act: Act) -> Step:
    if factor.table is None:
        return constant_step(factor)
    row = row_of(factor.table, act)
    if row is None:
        return step(
            factor.label_zh, factor.label_en, factor.key, "-", factor.unit,
            zh="{label}：没有适用于该行为的数值。", en="{label}: no value fits this act.",
        )  # fmt: skip
    return factor_step(factor, row)


def _condition(
    version: Version, condition: Condition, act: Act, values: Mapping[str, Fraction]
) -> Step:
    missing = any(name not in values for name in condition.formula.names)
    result = "-" if missing else ("true" if holds(condition.tree, values) else "false")
    verdict_zh = {"true": "满足", "false": "不满足", "-": "未判断"}[result]
    verdict_en = {"true": "met", "false": "not met", "-": "not judged"}[result]
    return step(
        condition.label_zh, condition.label_en, filled(version, condition.text, act), result, "",
        condition.source, "", condition.status,
        zh="条件“{label}”：{expression}，" + verdict_zh + "。",
        en="Condition “{label}”: {expression}: " + verdict_en + ".",
    )  # fmt: skip


def _out_of_range(version: Version, act: Act) -> list[Step]:
    return [
        step(
            "超出方法学接受的范围", "outside the range that the version accepts",
            f"{m.min} <= {m.name} = {act.measures[m.name]} <= {m.max}", "0", version.unit,
            zh="{label}：{expression} 不成立，不计减排。",
            en="It is {label}: {expression} does not hold, so nothing is earned.",
        )
        for m in version.measures
        if not m.min <= act.measures[m.name] <= m.max
    ]  # fmt: skip


def _not_eligible(version: Version, act: Act) -> list[Step]:
    if not version.grades or act.grade in version.grades:
        return []
    return [
        step("证据等级不被接受", "evidence grade not accepted", str(act.grade), "0",
             version.unit, zh="{label}：{expression}。", en="The {label}: {expression}.")
    ]  # fmt: skip


def _result(version: Version, act: Act, exact: Exact) -> list[Step]:
    if exact.raw is None or exact.graded is None or exact.low is None or exact.high is None:
        return []
    unit, raw = version.unit, decimal_text(exact.raw)
    shown = filled(version, version.formula_text, act)
    steps = [
        step("公式", "formula", version.formula_text, raw, unit,
             zh="公式：{expression}。", en="Formula: {expression}."),
        step("代入数值", "with its inputs", shown, raw, unit,
             zh="代入数值：{expression} = {result} {unit}。",
             en="With its inputs: {expression} = {result} {unit}."),
    ]  # fmt: skip
    base = exact.raw
    if exact.low != exact.raw or exact.high != exact.raw:
        base = exact.low if version.credits_low else exact.raw
        ends = f"{decimal_text(exact.low)} .. {decimal_text(exact.high)}"
        steps.append(
            step("不确定性区间", "interval of uncertainty", ends, decimal_text(base), unit,
                 zh="{label}：{expression} {unit}，取 {result} {unit}。",
                 en="The {label} is {expression} {unit}; {result} {unit} is taken.")
        )  # fmt: skip
    if version.grades:
        own = version.grades[act.grade]
        steps.append(
            step("证据等级折扣", "share of the evidence grade",
                 f"{decimal_text(base)} * {own.text}", decimal_text(exact.graded), unit,
                 own.source, "", own.status)
        )  # fmt: skip
    steps.append(_rounded(version, exact.graded, exact.uncapped))
    return steps + _caps(version, exact)


def _rounded(version: Version, graded: Fraction, uncapped: int) -> Step:
    up, unit = version.rounding == "ceiling", version.unit
    rounding = f"{'ceiling' if up else 'floor'}({decimal_text(graded)})"
    if graded < 0 and not version.below_zero_counts:
        return step("负值按零计入", "below zero counts as zero", f"max(0, {rounding})", "0", unit,
                    zh="{label}。", en="What is {label}.")  # fmt: skip
    unit_zh = "点" if unit == "point" else "毫克"
    word_zh, word_en = ("上", "up") if up else ("下", "down")
    return step(
        f"向{word_zh}取整到{unit_zh}", f"rounded {word_en} to a whole {unit}", rounding,
        str(uncapped), unit, zh="{label}：{result} {unit}。", en="It is {label}: {result} {unit}.",
    )  # fmt: skip


def _caps(version: Version, exact: Exact) -> list[Step]:
    uses = iter(exact.uses)
    return [
        cap_step(version, cap, left, None if cap.window == "act" else next(uses))
        for cap, left in zip(version.caps, exact.left, strict=True)
    ]


def _ends(version: Version, act: Act, exact: Exact) -> tuple[int, int]:
    if exact.low is None or exact.high is None or exact.low == exact.high:
        return exact.uncapped, exact.uncapped
    share = version.grades[act.grade].share if version.grades else Fraction(1)
    low, high = (rounded(version, end * share) for end in (exact.low, exact.high))
    return low, high


def filled(version: Version, text: str, act: Act) -> str:
    """The expression with values and units in the place of names."""
    shown = dict(constants_of(version))
    shown |= {m.name: f"{act.measures[m.name]} {m.unit}" for m in version.measures}
    shown |= {
        name: f"{mean} {version.unit_of_history(name)}"
        for name, mean in history_text(version, act).items()
    }
    for factor in version.factors:
        if factor.table is not None:
            row = row_of(factor.table, act)
            shown[factor.key] = f"{row.value} {factor.unit}" if row else "-"
    return "".join([shown.get(piece, piece) for piece in pieces_of(text)])


@lru_cache(maxsize=4096)
def pieces_of(text: str) -> tuple[str, ...]:
    """A formula in pieces: its words, and what stands between them."""
    out, place = [], 0
    for token in tokens_of(text):
        out += [text[place : token.start], token.text]
        place = token.start + len(token.text)
    return tuple(out)


@lru_cache(maxsize=4096)
def constants_of(version: Version) -> Mapping[str, str]:
    """How the factors of a version that do not depend on the act are shown."""
    plain = [factor for factor in version.factors if factor.table is None]
    return {factor.key: f"{factor.value} {factor.unit}" for factor in plain}


@lru_cache(maxsize=4096)
def constant_step(factor: Factor) -> Step:
    """The line of a factor that does not depend on the act."""
    return factor_step(factor, factor)
