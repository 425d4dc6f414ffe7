"""What counts as a change when acts are assessed again."""

from __future__ import annotations

import numpy as np
import pytest

from services.calculation.domain.assess import Acts, Assessed, Verdict
from services.calculation.domain.windows import differences, withdrawn

ASSETS = {7: "reduction", 8: "reduction", 9: "point:steps"}


def assessed(amount: int, asset_class: int, verdict: int = Verdict.GRANTED) -> Assessed:
    one = np.ones(1, np.int64)
    acts = Acts(**dict.fromkeys(Acts.__dataclass_fields__, one))
    return Assessed(acts, one * amount, one * asset_class, one * verdict, one * 0, one * 0, one * 0)


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (assessed(10, 7), assessed(10, 7), False),
        (assessed(10, 7), assessed(10, 8), False),  # another version, the same result
        (assessed(10, 7), assessed(11, 8), True),
        (assessed(10, 7), assessed(10, 9), True),  # as many points as there were milligrams
        (assessed(10, 7), assessed(10, 7, Verdict.CAPPED), True),
        (assessed(0, 0, Verdict.NO_METHODOLOGY), assessed(0, 7, Verdict.OUT_OF_RANGE), True),
    ],
)
def test_a_result_changes_by_its_amount_its_asset_or_its_reason(
    before: Assessed, after: Assessed, changed: bool
) -> None:
    restated = differences(before, after, ASSETS)
    assert len(restated.delta) == int(changed)
    if changed:
        other = before.asset_class[0] != after.asset_class[0]
        assert restated.previous_class[0] == (before.asset_class[0] if other else 0)
        assert restated.delta[0] == after.amount[0] - before.amount[0]


def test_a_withdrawn_act_keeps_its_class_and_gives_back_what_it_had() -> None:
    gone = withdrawn(assessed(10, 7))
    assert (gone.delta[0], gone.previous_class[0]) == (-10, 0)
    assert gone.assessed.amount[0] == 0
    assert gone.assessed.asset_class[0] == 7
    assert gone.assessed.verdict[0] == Verdict.WITHDRAWN
