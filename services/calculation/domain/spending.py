"""Spending by kind of merchant: payments in fen in, milligrams out, one by one and by month."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from services.calculation.domain.explain import Step
from services.calculation.domain.methodology import Library, Version
from services.calculation.domain.questionnaire import Named
from services.calculation.domain.rate_parts import read_rate
from services.calculation.domain.rates import (
    Interval,
    Note,
    Priced,
    Rate,
    Where,
    price,
    rounding_step,
    summed,
)
from services.calculation.domain.reading import Section
from shared.ids import day_to_date
from shared.refusal import FieldInvalid

YUAN_FEN = 100
UNLISTED = "unlisted"
_CODES = re.compile(r"([0-9]{4})(?:-([0-9]{4}))?", re.ASCII)
_CODE = re.compile(r"[0-9]{4}", re.ASCII)


@dataclass(frozen=True)
class Category:
    """A kind of merchant; `rate` is None where money there is not turned into emissions."""

    named: Named
    merchant_codes: tuple[str, ...]
    rate: Rate | None
    left_out: Note | None


@dataclass(frozen=True)
class Payment:
    """Money spent on a civil day, below zero where it came back.

    `merchant` is the key of a category, or with `is_code` a merchant category code.
    """

    merchant: str
    is_code: bool
    amount_fen: int
    day: int


@dataclass(frozen=True)
class Spent:
    """What one payment is taken to emit; nothing where its category is left out."""

    category: Category
    payment: Payment
    emission_mg: int
    interval: Interval | None


@dataclass(frozen=True)
class Month:
    """What the payments of one month come to; `by_category` has the greatest first."""

    year: int
    month: int
    emission_mg: int
    interval: Interval | None
    by_category: tuple[tuple[Named, int], ...]
    counted_fen: int
    left_out_fen: int


@dataclass(frozen=True)
class YuanRate:
    """What one yuan at a kind of merchant is taken to emit, with the working."""

    category: Category
    emission_mg: int
    interval: Interval | None
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Spending:
    """The kinds of merchants by key, those that are left out last."""

    categories: Mapping[str, Category]
    measure: str
    least_fen: int
    most_fen: int
    uncertainty: Note
    note: Note

    def version_for(self, today: int) -> Version:
        """The version that prices every kind today."""
        rates = (category.rate for category in self.categories.values())
        return next(rate for rate in rates if rate is not None).version_for(today)

    @cached_property
    def _by_code(self) -> Mapping[str, Category]:
        found: dict[str, Category] = {}
        for category in self.categories.values():
            for codes in category.merchant_codes:
                found |= dict.fromkeys(codes_of(codes), category)
        return found

    def category_of(self, payment: Payment, place: int) -> Category:
        """The kind that a payment falls under; FieldInvalid for a key or code that is none."""
        field = f"items[{place}]"
        if payment.is_code:
            if not _CODE.fullmatch(payment.merchant):
                raise FieldInvalid(
                    f"{field}.merchant_code",
                    f"{field}.merchant_code is {payment.merchant[:16]!r}; it must be four digits",
                )
            return self._by_code.get(payment.merchant, self.categories[UNLISTED])
        category = self.categories.get(payment.merchant)
        if category is None:
            raise FieldInvalid(
                f"{field}.category",
                f"{field}.category is {payment.merchant[:40]!r}; ListSpendingCategories lists "
                f"what there is, such as {next(iter(self.categories))}",
            )
        return category


def read_spending(root: Section, library: Library) -> Spending:
    """The kinds of merchants of a file; raises FileInvalid."""
    root.text("id")
    label, measure = root.text("label"), root.text("measure")
    head = {"methodology": root.text("methodology"), "scene": root.text("scene")}
    categories: dict[str, Category] = {}
    codes: dict[str, str] = {}
    rows = [(row, True) for row in root.sections("category", 1)]
    rows += [(row, False) for row in root.sections("left_out", 1)]
    for row, counted in rows:
        category = _category(row, head, label, library) if counted else _left_out(row)
        if category.named.key in categories:
            raise row.fault(f"key {category.named.key[:60]!r} is there twice; rename one", "key")
        categories[category.named.key] = category
        for text in category.merchant_codes:
            for code in codes_of(text):
                if code in codes:
                    raise row.fault(f"merchant code {code} is in {codes[code]} too; take it out of "
                                    "one", "merchant_codes")  # fmt: skip
                codes[code] = category.named.key
    if UNLISTED not in categories or categories[UNLISTED].rate is not None:
        raise root.fault(f"there must be a [[left_out]] with key {UNLISTED}", "left_out")
    spending = _spending(root, categories, measure)
    root.close()
    return spending


def _spending(root: Section, categories: Mapping[str, Category], measure: str) -> Spending:
    rate = next(c.rate for c in categories.values() if c.rate is not None)
    versions = [v for v in rate.methodology.versions if rate.scene in v.scenes]
    for version in versions:
        if [(m.name, m.unit) for m in version.measures] != [(measure, "fen")]:
            raise root.fault(f"{version.name} must take {measure} in fen and nothing else",
                             "measure")  # fmt: skip
    return Spending(
        categories=categories,
        measure=measure,
        least_fen=max(v.measures[0].min for v in versions),
        most_fen=min(v.measures[0].max for v in versions),
        uncertainty=Note(root.text("uncertainty_zh"), root.text("uncertainty_en")),
        note=Note(root.text("note_zh"), root.text("note_en")),
    )


def _category(row: Section, head: Mapping[str, str], label: str, library: Library) -> Category:
    key = row.text("key")
    # The rule is the same for all; the row alone chooses the word of its label.
    whole = Section({**row.table, **head}, row.path, row.places)
    rate = read_rate(whole, library, {label: key})
    for part in ("interval_zh", "interval_en"):
        row.text(part, "")
    return Category(_named(row, key), _codes(row), rate, None)


def _left_out(row: Section) -> Category:
    note = Note(row.text("reason_zh"), row.text("reason_en"))
    return Category(_named(row, row.text("key")), _codes(row), None, note)


def _named(row: Section, key: str) -> Named:
    return Named(key, row.text("label_zh"), row.text("label_en"))


def _codes(row: Section) -> tuple[str, ...]:
    codes = tuple(row.texts("merchant_codes"))
    row.close()
    for text in codes:
        if not _CODES.fullmatch(text) or not codes_of(text):
            raise row.fault(f'merchant code {text[:20]!r} must be like "5411" or "5411-5499"',
                            "merchant_codes")  # fmt: skip
    return codes


def codes_of(text: str) -> list[str]:
    """Every code of "5411" or of the range "5411-5499"."""
    first, _, last = text.partition("-")
    return [f"{code:04d}" for code in range(int(first), int(last or first) + 1)]


def estimate_spending(
    spending: Spending, payments: Sequence[Payment], *, today: int
) -> list[Spent]:
    """What each payment is taken to emit, in order; FieldInvalid names the one at fault."""
    spent = []
    for place, payment in enumerate(payments):
        category = spending.category_of(payment, place)
        if not spending.least_fen <= payment.amount_fen <= spending.most_fen:
            raise FieldInvalid(
                f"items[{place}].amount_fen",
                f"items[{place}].amount_fen is {payment.amount_fen} fen; it must be "
                f"{spending.least_fen} to {spending.most_fen} fen, below zero for a refund",
            )
        if category.rate is None:
            spent.append(Spent(category, payment, 0, None))
            continue
        priced = _priced(spending, category.rate, payment.amount_fen, payment.day, today)
        interval = priced.interval(category.rate.meaning)
        spent.append(Spent(category, payment, math.ceil(priced.exact), interval))
    return spent


def _priced(spending: Spending, rate: Rate, amount_fen: int, day: int, today: int) -> Priced:
    return price(rate, {spending.measure: amount_fen}, Where(today, day))


def months_of_spending(spent: Sequence[Spent]) -> list[Month]:
    """The months in which something was paid, the oldest first."""
    by_month: dict[tuple[int, int], list[Spent]] = {}
    for one in spent:
        day = day_to_date(one.payment.day)
        by_month.setdefault((day.year, day.month), []).append(one)
    return [_month(*month, own) for month, own in sorted(by_month.items())]


def _month(year: int, month: int, spent: Sequence[Spent]) -> Month:
    sums: dict[str, int] = {}
    for one in spent:
        sums[one.category.named.key] = sums.get(one.category.named.key, 0) + one.emission_mg
    named = {one.category.named.key: one.category.named for one in spent
             if one.category.rate is not None}  # fmt: skip
    return Month(
        year=year,
        month=month,
        emission_mg=sum(one.emission_mg for one in spent),
        interval=summed(
            [(one.emission_mg, one.interval) for one in spent],
            Note("各笔区间之和；没有区间的按其数值计入。",
                 "The sum of the payments' intervals; one without is taken as it is."),
        ),
        by_category=tuple(
            (named[key], sums[key]) for key in sorted(named, key=lambda key: (-sums[key], key))
        ),
        counted_fen=sum(x.payment.amount_fen for x in spent if x.category.rate is not None),
        left_out_fen=sum(x.payment.amount_fen for x in spent if x.category.rate is None),
    )  # fmt: skip


def yuan_rate(spending: Spending, category: Category, *, today: int) -> YuanRate:
    """What one yuan there is taken to emit; nothing where the category is left out."""
    if category.rate is None:
        return YuanRate(category, 0, None, ())
    priced = _priced(spending, category.rate, YUAN_FEN, today, today)
    end = rounding_step(priced.exact, Fraction(1), priced.exact)
    return YuanRate(
        category, math.ceil(priced.exact), priced.interval(category.rate.meaning),
        (*priced.steps, end),
    )  # fmt: skip
