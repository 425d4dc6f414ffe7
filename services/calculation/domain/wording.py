"""How lines of a working are put into words, in Chinese and English."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from services.calculation.domain.exact import CapUse
from services.calculation.domain.methodology import Version
from services.calculation.domain.rule import Cap, Factor
from services.calculation.domain.tables import Row

_WINDOW = {
    "act": ("每次", "per act"),
    "day": ("每自然日", "per day"),
    "month": ("每自然月", "per month"),
}
_STATUS = {
    "official": ("官方原文", "read in the official document"),
    "reposted": ("官方数值的转载", "an official value read in a re-post"),
    "operator": ("运营方公布", "published by the operator"),
    "secondary": ("二手来源，未经确认", "a secondary source, unconfirmed"),
    "decision": ("本产品的设定", "a decision of ours"),
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
    sentence_zh: str = ""
    sentence_en: str = ""


def step(
    label_zh: str,
    label_en: str,
    expression: str,
    result: str,
    unit: str,
    source: str = "",
    page: str = "",
    status: str = "",
    *,
    zh: str = "",
    en: str = "",
) -> Step:
    """A line with its two sentences; the patterns may name label, expression, result and unit."""
    told = {"expression": expression, "result": result, "unit": unit}
    amount = f"{result} {unit}" if unit else result
    sentence_zh = zh.format(label=label_zh, **told).rstrip() if zh else f"{label_zh}：{amount}"
    name = label_en[:1].upper() + label_en[1:]
    if en:
        name = name if en.startswith("{label}") else label_en
        sentence_en = en.format(label=name, **told).rstrip()
    else:
        sentence_en = f"{name}: {amount}"
    if source:
        page_zh, page_en = (f"，{page}", f", {page}") if page else ("", "")
        status_zh, status_en = _STATUS[status]
        sentence_zh = f"{sentence_zh.rstrip('。')}（{status_zh}：{source}{page_zh}）"
        sentence_en = f"{sentence_en.rstrip('.')} ({status_en}: {source}{page_en})"
    return Step(
        label_zh, label_en, expression, result, unit, source, page, status,
        sentence_zh.rstrip("。") + "。", sentence_en.rstrip(".") + ".",
    )  # fmt: skip


def factor_step(factor: Factor, row: Factor | Row) -> Step:
    """The line of a factor; `row` has its value, where it was read, and how sure it is."""
    value = f"{row.value} ({row.low} .. {row.high})" if row.low else row.value
    return step(
        factor.label_zh, factor.label_en, factor.key, value, factor.unit,
        row.source, row.page, row.status,
    )  # fmt: skip


def cap_step(version: Version, cap: Cap, left: int, use: CapUse | None) -> Step:
    """The line of a cap: what was used, what may be, what is left of the result."""
    measure = next((m for m in version.measures if m.name == cap.of), None)
    of_zh, of_en, unit = {
        "count": ("次数", "acts", ""),
        "result": ("结果", "the result", version.unit),
    }.get(cap.of) or (cap.of, cap.of, measure.unit if measure else "")
    window_zh, window_en = _WINDOW[cap.window]
    expression = f"at most {cap.amount}"
    said_zh, said_en = f"最多 {cap.amount} {unit}".rstrip(), f"at most {cap.amount} {unit}".rstrip()
    if use is not None:
        expression = f"used before {use.before}, {expression}, used after {use.after}"
        said_zh = f"此前已用 {use.before}，{said_zh}，此后已用 {use.after}"
        said_en = f"{use.before} used before, {said_en}, {use.after} used after"
    return step(
        cap.label_zh or f"{window_zh}上限（{of_zh}）", cap.label_en or f"cap {window_en} ({of_en})",
        expression, str(left), version.unit, cap.source, "", cap.status,
        zh="{label}：" + said_zh + "，余 {result} {unit}",
        en="{label}: " + said_en + ", which leaves {result} {unit}",
    )  # fmt: skip


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
