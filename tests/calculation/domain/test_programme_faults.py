"""A broken programme never loads, and only what was published well enough credits."""

from __future__ import annotations

import pytest

from services.calculation.domain.library import load_library
from tests.calculation.domain.world import SHIPPED, TESTSET, faults_of

HELLO = (SHIPPED / "hello-2022.toml").read_text("utf-8")
GRADED = (TESTSET / "day-distance.toml").read_text("utf-8")
DEMO = """
id = "demo"
title_zh = "演示"
title_en = "Demo"
demo = true

[[entry]]
scene = "scenes/shared-bike-ride"
region = "440300"
methodology = "hello-2022"
scene_approval = "demo: none"
from_date = 2023-01-01
"""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('methodology = "hello-2022"', 'methodology = "hello"', "there is hello-2022"),
        ("shared-bike-ride", "metro-ride", "does not price"),
        ('region = "440300"', 'region = "4403"', "six digits"),
        ("2023-01-01", "2023-01-01\nto_date = 2023-01-01", "after from_date"),
        ("2023-01-01", "2020-01-01\nto_date = 2021-01-01", "no version"),
        ('"demo: none"', '"none"', "say that this is a demo"),
        ("demo = true\n", "", "demo is missing"),
        ("[[entry]]", DEMO[DEMO.index("[[entry]]") :] + "[[entry]]", "on the same day"),
    ],
)  # fmt: skip
def test_a_broken_programme_is_refused(before: str, after: str, said: str) -> None:
    files = {"hello-2022.toml": HELLO, "programmes/demo.toml": DEMO.replace(before, after, 1)}
    (fault,) = faults_of(files)
    assert fault.file == "programmes/demo.toml"
    assert said in fault.message


@pytest.mark.parametrize("status", ["secondary", "decision"])
def test_a_factor_that_is_secondary_or_our_own_credits_nothing(status: str) -> None:
    weak = HELLO.replace('status = "operator"', f'status = "{status}"')
    (fault,) = faults_of({"hello-2022.toml": weak, "programmes/demo.toml": DEMO})
    assert f"has status {status} and may not credit" in fault.message
    assert load_library({"hello-2022.toml": weak})


def test_a_draft_credits_nothing() -> None:
    draft = HELLO.replace('rounding = "floor"', 'rounding = "floor"\ndraft = "the grade"')
    (fault,) = faults_of({"hello-2022.toml": draft, "programmes/demo.toml": DEMO})
    assert "is a draft (the grade) and may not credit" in fault.message


def test_a_cap_of_our_own_weakens_no_version_and_a_secondary_one_does() -> None:
    version = load_library({"day-distance.toml": GRADED}).version_on("day-distance", 20_000)
    assert version is not None
    assert (version.status, version.creditable) == ("operator", True)
    text = GRADED.replace('status = "decision"', 'status = "secondary"', 1)
    version = load_library({"day-distance.toml": text}).version_on("day-distance", 20_000)
    assert version is not None
    assert (version.status, version.creditable) == ("secondary", False)
