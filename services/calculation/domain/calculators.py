"""Loading the calculators: every file is checked whole against the library before it serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from services.calculation.domain.faults import LibraryFault, LibraryInvalid
from services.calculation.domain.footprint import estimate_footprint
from services.calculation.domain.methodology import Library
from services.calculation.domain.questionnaire import (
    QuestionCase,
    Questionnaire,
    read_questionnaire,
)
from services.calculation.domain.rates import Where, last_day_of
from services.calculation.domain.reading import FileInvalid, Section, read_toml
from services.calculation.domain.spending import Spending, read_spending
from services.calculation.domain.trips import Trips, read_trips
from shared.refusal import FieldInvalid

FOOTPRINT, SPENDING, TRIPS = "annual-footprint", "spending", "trips"

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Calculators:
    """What the calculators ask and by which rules they answer."""

    questionnaire: Questionnaire
    spending: Spending
    trips: Trips


def load_calculators(files: Mapping[str, str], library: Library) -> Calculators:
    """The calculators of `files` (name below calculators/ -> text); raises LibraryInvalid.

    The faults of all three files are said at once; a case that misses its answer is a fault.
    """
    faults: list[LibraryFault] = []

    def load(name: str, read: Callable[[Section, Library], _Read]) -> _Read | None:
        path = f"{name}.toml"
        try:
            if path not in files:
                raise FileInvalid("the file is missing; put it back", 1)
            root = read_toml(files[path])
            if root.text("id") != name:
                raise root.fault(f"id must be {name!r}, as the file is named", "id")
            return read(root, library)
        except FileInvalid as error:
            fault = LibraryFault(f"calculators/{path}", error.line, error.column, error.message)
            faults.append(fault)
            return None

    questionnaire = load(FOOTPRINT, _checked_questionnaire)
    spending, trips = load(SPENDING, read_spending), load(TRIPS, read_trips)
    if questionnaire is None or spending is None or trips is None:
        raise LibraryInvalid(faults)
    return Calculators(questionnaire, spending, trips)


def _checked_questionnaire(root: Section, library: Library) -> Questionnaire:
    questionnaire, cases = read_questionnaire(root, library)
    for row, case in cases:
        _run_case(row, questionnaire, case)
    return questionnaire


def _run_case(row: Section, questionnaire: Questionnaire, case: QuestionCase) -> None:
    day = last_day_of(case.grid_year) if case.grid_year else case.day
    try:
        got = estimate_footprint(
            questionnaire, case.answers, where=Where(case.day, day, case.region),
            household_size=case.household_size,
        ).emission_mg  # fmt: skip
    except FieldInvalid as refusal:
        raise row.fault(f"its answers are refused: {refusal.message}", "answers") from refusal
    if got != case.expected_mg:
        raise row.fault(
            f"must give {case.expected_mg} and gives {got}; mend a line, a factor or the case",
            "expected_mg",
        )
