"""What the tests of the calculators share: the shipped files, loaded once, and words for them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path

import pytest

from services.calculation.domain.calculators import Calculators, load_calculators
from services.calculation.domain.faults import LibraryFault, LibraryInvalid
from services.calculation.domain.footprint import Footprint, FootprintLine, estimate_footprint
from services.calculation.domain.library import load_library
from services.calculation.domain.methodology import Library, Methodology
from services.calculation.domain.rates import Where, last_day_of
from services.calculation.domain.registry import load_registry
from services.calculation.factor_files import read_factor_files
from services.calculation.storage.shelf import Shelf
from shared.ids import date_to_day
from tests.calculation.domain.world import SHIPPED, files_of

CALCULATORS = SHIPPED.parent / "calculators"
TODAY = date_to_day(date(2026, 1, 15))
SHENZHEN, TIBET = 440300, 540100


@cache
def library() -> Library:
    """The methodologies that ship, quoting the registry that ships."""
    return load_library(files_of(SHIPPED), load_registry(read_factor_files()))


READ: dict[tuple[str, str], Methodology] = {}
"""What was read of the shipped registry's methodologies, once for all tests."""


def calculator_files() -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted(Path(CALCULATORS).glob("*.toml"))}


@cache
def calculators() -> Calculators:
    return load_calculators(calculator_files(), library())


@cache
def shelf() -> Shelf:
    """The shipped files as they serve."""
    registry = load_registry(read_factor_files())
    return Shelf(files_of(SHIPPED), registry, "demo", calculator_files(), READ)


def faults_of(files: Mapping[str, str]) -> list[LibraryFault]:
    """What is wrong with calculator files; they must not load."""
    with pytest.raises(LibraryInvalid) as caught:
        load_calculators(files, library())
    return caught.value.faults


def in_year(year: int, region: int = 0) -> Where:
    return Where(TODAY, last_day_of(year), region)


def footprint_of(
    answers: Mapping[str, int], where: Where | None = None, household: int = 1
) -> Footprint:
    return estimate_footprint(
        calculators().questionnaire, answers,
        where=where or in_year(2023), household_size=household,
    )  # fmt: skip


def line_of(footprint: Footprint, key: str) -> FootprintLine:
    return next(line for line in footprint.lines if line.line.key == key)
