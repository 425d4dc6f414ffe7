"""Every golden reference case runs from the methodology files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from services.calculation.domain.evaluate import NothingUsed, evaluate, explain
from services.calculation.domain.library import load_library
from services.calculation.domain.methodology import Version
from tests.calculation.domain.world import ROOT, SHIPPED, files_of

CASES = Path(__file__).parent / "vectors.yaml"
HANDBOOK = ROOT.parent / "shared/domain/vectors.yaml"
LIBRARY = load_library(files_of(SHIPPED))
HELD = ("SZ-PT-2021", "HELLO-2022", "CITIC-2022")
SCENES = {
    "bus_electric": "scenes/bus-ride",
    "metro": "scenes/metro-ride",
    "bike": "scenes/shared-bike-ride",
    "ecard_apply": "scenes/ecard-application",
    "e_statement": "scenes/e-statement",
    "utility_payment": "scenes/utility-payment",
}
MEASURES = {"distance_km": ("distance_metre", 1_000), "count": ("count", 1)}


def cases_of(path: Path) -> list[dict[str, Any]]:
    """The cases of a file, every number as the text that was written."""
    return list(yaml.load(path.read_text("utf-8"), yaml.BaseLoader)["vectors"])


def version_of(case: dict[str, Any]) -> Version:
    scene = SCENES[case["inputs"].get("mode") or case["inputs"]["behaviour"]]
    version = LIBRARY.version_on(case["methodology"].lower(), 20_544, scene)
    assert version is not None
    return version


GOLDEN = [case for case in cases_of(CASES) if case["use"] == "golden"]


@pytest.mark.parametrize("case", GOLDEN, ids=[case["id"] for case in GOLDEN])
def test_a_golden_case_gives_its_published_grams_to_the_milligram(case: dict[str, Any]) -> None:
    version = version_of(case)
    inputs = {MEASURES[key]: text for key, text in case["inputs"].items() if key in MEASURES}
    measures = {name: int(Fraction(text) * times) for (name, times), text in inputs.items()}
    columns = {name: np.array([value], np.int64) for name, value in measures.items()}
    here = np.ones(1, np.int64)
    evaluated = evaluate(version, columns, accounts=here, days=here, caps_used=NothingUsed())
    assert case["expected"]["unit"] == "gCO2"
    assert int(evaluated.credited[0]) == Fraction(case["expected"]["value"]) * 1_000
    assert explain(version, measures, used_before=0, grade=1).credited == evaluated.credited[0]


def test_every_golden_case_stands_in_the_file_of_its_methodology_too() -> None:
    in_files = {
        case.id
        for methodology in LIBRARY.methodologies.values()
        for version in methodology.versions
        for case in version.cases
    }
    assert {case["id"] for case in GOLDEN} <= in_files
    assert len(GOLDEN) == 8


def test_the_copied_cases_are_those_of_the_handbook_where_it_is_at_hand() -> None:
    if not HANDBOOK.exists():
        pytest.skip("the handbook is not here: the copied cases stand alone")
    theirs = [case for case in cases_of(HANDBOOK) if case["methodology"] in HELD]
    assert cases_of(CASES) == theirs
    head = CASES.read_text("utf-8").split("vectors:")[0]
    assert HANDBOOK.read_text("utf-8").startswith(head)
