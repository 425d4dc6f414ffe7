"""Every reference case whose answer is a reduction, emission, factor or point, from the files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.activity.domain.keys import Keyring
from services.calculation.domain.grouping import months_of
from tests.methodologies.reference import (
    ACCOUNT,
    GIVEN_FACTORS,
    ROOT,
    Deed,
    cases_of,
    credited,
    deeds_of,
    expected_of,
    library,
    version_of,
)

CASES = Path(__file__).parent / "vectors.yaml"
HANDBOOK = ROOT.parent / "shared/domain/vectors.yaml"
SCENES = ROOT / "services/activity/catalogue/scenes.toml"
KEYS = Keyring(b"a secret that only these tests know")

# What no methodology file can answer, and who answers it.
WAITING = {
    "SZ-SPOT-RULES": "prices, ticks and lots of an exchange: settlement",
    "PHCER-RULES-2020": "the closing price of an exchange: settlement",
    "GD-PHCER-2022": "publicity before units are issued: settlement",
    "UNDP-SERIAL": "serials of certified units: settlement",
    "SZ-POINTS-2022": "how long points may live: the ledger",
    "WENDENG-RCB": "a tier of a balance is a benefit and no amount: engagement",
    "ant-expiry-71h": "energy that is not collected in time is lost: the ledger",
}
# Uses that assert nothing, or nothing that may be believed.
NOT_RUN = ("plausibility", "do_not_use")

ALL = cases_of(CASES)
# A study's claim is a plausibility check of the handbook; the draft that holds it must give it.
RUN = [
    case
    for case in ALL
    if case["id"] not in WAITING
    and (case["use"] not in NOT_RUN or case["evidence"] == "published_claim")
]


@pytest.mark.parametrize("case", RUN, ids=[case["id"] for case in RUN])
def test_a_reference_case_gives_its_published_answer(case: dict[str, Any]) -> None:
    expected, tolerance = expected_of(case)
    assert abs(credited(distinct_acts(case)) - expected) <= tolerance


@pytest.mark.parametrize("case", RUN, ids=[case["id"] for case in RUN])
def test_the_factors_that_a_case_names_are_those_of_the_rule_that_answers_it(
    case: dict[str, Any],
) -> None:
    named = {Fraction(text) for key, text in case["inputs"].items() if key in GIVEN_FACTORS}
    held: set[Fraction] = set()
    for factor in version_of(deeds_of(case)[0]).factors:
        texts = [row.value for row in factor.table.rows] if factor.table else [factor.value]
        held |= set(map(Fraction, texts))
    assert named <= held


def test_every_reference_case_stands_in_the_file_of_its_methodology_too() -> None:
    in_files = {
        case.id
        for methodology in library().methodologies.values()
        for version in methodology.versions
        for case in version.cases
    }
    # Two acts of two scenes: the file has each, and the sum is run above.
    in_parts = {"wh-913"}
    assert {case["id"] for case in RUN} - in_parts <= in_files


def test_one_bill_account_in_two_months_and_two_accounts_in_one_month_both_count() -> None:
    (case,) = [case for case in RUN if case["id"] == "ant-utility-dup"]
    first, second = deeds_of(case)
    assert len(distinct_acts(case)) == 1
    next_month = [first, replace(second, day=second.day + 31)]
    assert credited(distinct(next_month, bills=1)) == 2 * 262
    assert credited(distinct([first, second], bills=2)) == 2 * 262


def test_a_rule_that_is_wrong_by_one_milligram_fails_its_case() -> None:
    (case,) = [case for case in RUN if case["id"] == "sz-metro-5km"]
    expected, tolerance = expected_of(case)
    longer = [replace(deed, measures={"distance_metre": 5001}) for deed in deeds_of(case)]
    assert abs(credited(longer) - expected) > tolerance


def test_the_copied_cases_are_those_of_the_handbook_where_it_is_at_hand() -> None:
    if not HANDBOOK.exists():
        pytest.skip("the handbook is not here: the copied cases stand alone")
    ours = {case["methodology"] for case in ALL}
    handbook = cases_of(HANDBOOK)
    assert [case for case in handbook if case["methodology"] in ours] == ALL
    left = [case for case in handbook if case["methodology"] not in ours]
    asserting = {case["methodology"] for case in left if case["use"] not in NOT_RUN}
    assert asserting | {"ant-expiry-71h"} == set(WAITING)
    head = CASES.read_text("utf-8").split("vectors:")[0]
    assert HANDBOOK.read_text("utf-8").startswith(head)


def distinct_acts(case: Mapping[str, Any]) -> list[Deed]:
    """The acts of a case that would be recorded: one for each physical act that it describes."""
    deeds = deeds_of(case)
    same = case["inputs"].get("same_bill_account")
    return deeds if same is None else distinct(deeds, bills=1 if same == "true" else len(deeds))


def distinct(deeds: list[Deed], bills: int) -> list[Deed]:
    """What the activity service keeps: of acts whose claim keys are equal, the first."""
    scenes = {scene["name"]: scene for scene in tomllib.loads(SCENES.read_text("utf-8"))["scene"]}
    kept: dict[bytes, Deed] = {}
    for place, deed in enumerate(deeds):
        scene = scenes[f"scenes/{deed.scene}"]
        account = {"reference": 0, "account_reference": ACCOUNT}[scene["claim"]]
        # What a source reports as the bill: the account number with the biller, and the month.
        month = int(months_of(np.array([deed.day]))[0])
        bill = f"account-{place % bills}/month-{month}"
        kept.setdefault(KEYS.claim_key(scene["code"], account, bill), deed)
    return list(kept.values())
