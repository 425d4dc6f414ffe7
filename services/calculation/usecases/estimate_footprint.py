"""The annual footprint and its what-if: nothing is kept, and no account is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.calculation.domain.footprint import (
    Difference,
    Footprint,
    compare_footprints,
    estimate_footprint,
)
from services.calculation.domain.questionnaire import YEAR_MAX, YEAR_MIN, Questionnaire
from services.calculation.domain.rates import Where, last_day_of
from shared.ids import day_to_date
from shared.refusal import FieldInvalid


@dataclass(frozen=True)
class FootprintQuestion:
    """Answers, and for whom: 0 persons is one, region 0 is unknown, year 0 is this one.

    `version` is that of the questionnaire that was on screen, "" for the one in force.
    """

    version: str
    answers: Mapping[str, int]
    household_size: int
    region: int
    grid_year: int


def estimate(asked: FootprintQuestion, questionnaire: Questionnaire, today: int) -> Footprint:
    """What the answers come to in a year; FieldInvalid names the field that broke its rule."""
    return estimate_footprint(
        questionnaire, asked.answers,
        where=_where(asked, questionnaire, today), household_size=asked.household_size or 1,
    )  # fmt: skip


def compare(
    asked: FootprintQuestion, changes: Mapping[str, int], questionnaire: Questionnaire, today: int
) -> Difference:
    """What the answers come to, and what with `changes` in their place."""
    return compare_footprints(
        questionnaire, asked.answers, changes,
        where=_where(asked, questionnaire, today), household_size=asked.household_size or 1,
    )  # fmt: skip


def _where(asked: FootprintQuestion, questionnaire: Questionnaire, today: int) -> Where:
    if asked.version not in ("", questionnaire.version):
        raise FieldInvalid(
            "questionnaire_version",
            f"questionnaire_version is {asked.version[:32]!r}; the one in force is "
            f"{questionnaire.version}: read GetQuestionnaire again and ask what is new",
        )
    if asked.grid_year and not YEAR_MIN <= asked.grid_year <= YEAR_MAX:
        raise FieldInvalid(
            "grid_year",
            f"grid_year is {asked.grid_year}; it must be {YEAR_MIN} to {YEAR_MAX}, or 0 for this "
            "year",
        )
    other = asked.grid_year and asked.grid_year != day_to_date(today).year
    return Where(today, last_day_of(asked.grid_year) if other else today, asked.region)
