"""Spending by kind of merchant: payments, months, and the working of each kind that occurs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.calculation.domain.methodology import Version
from services.calculation.domain.spending import (
    Month,
    Payment,
    Spending,
    Spent,
    YuanRate,
    estimate_spending,
    months_of_spending,
    yuan_rate,
)
from shared.refusal import FieldInvalid


@dataclass(frozen=True)
class SpendingAnswer:
    """Each payment in order, each month, and each kind of merchant that occurs."""

    items: tuple[Spent, ...]
    months: tuple[Month, ...]
    rates: tuple[YuanRate, ...]
    version: Version


def estimate(payments: Sequence[Payment], spending: Spending, today: int) -> SpendingAnswer:
    """What the payments are taken to emit; FieldInvalid names the one at fault."""
    if not payments:
        raise FieldInvalid("items", "items is empty; name at least one payment")
    spent = estimate_spending(spending, payments, today=today)
    occurring = {one.category.named.key for one in spent}
    return SpendingAnswer(
        items=tuple(spent),
        months=tuple(months_of_spending(spent)),
        rates=tuple(
            yuan_rate(spending, category, today=today)
            for key, category in spending.categories.items()
            if key in occurring
        ),
        version=spending.version_for(today),
    )


def list_categories(spending: Spending, today: int) -> list[YuanRate]:
    """Every kind of merchant with what a yuan there is taken to emit."""
    return [yuan_rate(spending, c, today=today) for c in spending.categories.values()]
