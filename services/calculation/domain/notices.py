"""What a customer reads when the past was restated."""

from __future__ import annotations

from fractions import Fraction

from services.calculation.domain.wording import decimal_text

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip


def notice_of(
    month: int, asset: str, delta: int, acts: int, reason_zh: str, reason_en: str
) -> tuple[str, str]:
    """A sentence in Chinese and one in English: what the month's total changed by, and why.

    `month` is year * 12 + month - 1; `delta` is in milligrams or points.
    """
    year, place = divmod(month, 12)
    noun = "act" if acts == 1 else "acts"
    why_zh, why_en = reason_zh.strip().rstrip("。"), reason_en.strip().rstrip(".")
    if asset == "reduction":
        amount = decimal_text(Fraction(delta, 10**6))
        said_zh, said_en = f"{_signed(amount)} 千克", f"{_signed(amount)} kg"
    else:
        unit = "point" if abs(delta) == 1 else "points"
        said_zh, said_en = f"{_signed(str(delta))} 点", f"{_signed(str(delta))} {unit}"
    what_zh = "减排量" if asset == "reduction" else "积分"
    if not delta:  # acts that gained are outweighed by acts that lost
        return (
            f"您 {year} 年 {place + 1} 月的{what_zh}合计不变，其中 {acts} 次行为有变动，"
            f"原因：{why_zh}。",
            f"Your {_MONTHS[place]} {year} total stays what it was, and {acts} {noun} of it "
            f"changed, because: {why_en}.",
        )
    return (
        f"您 {year} 年 {place + 1} 月的{what_zh}合计变动 {said_zh}"
        f"（涉及 {acts} 次行为），原因：{why_zh}。",
        f"Your {_MONTHS[place]} {year} total changed by {said_en} ({acts} {noun}) "
        f"because: {why_en}.",
    )


def _signed(text: str) -> str:
    return text if text.startswith("-") else f"+{text}"
