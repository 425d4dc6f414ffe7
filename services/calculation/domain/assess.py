"""Assessing a run of activities: which version, which class, how much, in record order.

Everything is columns. The activities of one batch usually meet a handful of rules; each rule
is evaluated once over all of its activities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.evaluate import (
    NOT_ELIGIBLE,
    OUT_OF_RANGE,
    CapStore,
    Evaluated,
    Usage,
    evaluate,
    months_of,
)
from services.calculation.domain.methodology import Credit, Programme, Version

Ints = NDArray[np.int64]
Rows = NDArray[np.intp] | NDArray[np.bool_]


class Verdict(IntEnum):
    """Why an activity earns what it earns; the numbers are those of the contract."""

    GRANTED = 1
    CAPPED = 2
    NO_METHODOLOGY = 3
    OUT_OF_RANGE = 4
    NOT_ELIGIBLE = 5
    WITHDRAWN = 6


@dataclass(frozen=True)
class SceneCode:
    """What a scene code of the activity feed means; `measures` name the two columns."""

    scene: str
    measures: tuple[str, ...]


@dataclass(frozen=True)
class Acts:
    """Recorded activities in record order within each shard; int64 columns of one length."""

    shard: Ints
    activity_position: Ints
    account_id: Ints
    scene: Ints
    region: Ints
    evidence_grade: Ints
    civil_day: Ints
    measure_1: Ints
    measure_2: Ints

    def __len__(self) -> int:
        return len(self.account_id)

    def take(self, rows: Rows) -> Acts:
        """The activities at `rows`, in that order."""
        return Acts(**{name: column[rows] for name, column in vars(self).items()})


@dataclass(frozen=True)
class Assessed:
    """What each of `acts` earns, in its asset's unit, and why."""

    acts: Acts
    amount: Ints
    asset_class: Ints
    verdict: Ints
    cap_used_before: Ints

    def take(self, rows: Rows) -> Assessed:
        """The assessments at `rows`, in that order."""
        columns = {name: value[rows] for name, value in vars(self).items() if name != "acts"}
        return Assessed(acts=self.acts.take(rows), **columns)


class CapMemory(CapStore, Protocol):
    """A cap store that can be told what a run used."""

    def remember(self, cap_key: str, usage: Usage) -> None: ...


class ClassBook(Protocol):
    """Codes of asset classes: made on first use, fixed for ever."""

    def code_of(self, credit: Credit, region: int, vintage_month: int) -> int: ...


@dataclass(frozen=True)
class Rulebook:
    """What is needed to know which rule applies: the crediting programme and the scenes."""

    programme: Programme
    scenes: Mapping[int, SceneCode]

    def measures_of(self, version: Version, scene: int, acts: Acts) -> dict[str, Ints]:
        """The version's declared measures as columns; one the scene does not carry is zero."""
        columns = dict(
            zip(self.scenes[scene].measures, (acts.measure_1, acts.measure_2), strict=False)
        )
        zeros = np.zeros(len(acts), np.int64)
        return {m.name: columns.get(m.name, zeros) for m in version.measures}


def assess(acts: Acts, rules: Rulebook, *, caps: CapMemory, classes: ClassBook) -> Assessed:
    """What each of `acts` earns; every amount is exact.

    An activity that nothing credits, or that its rule refuses, earns zero and says why.
    """
    size = len(acts)
    amount, used_before = np.zeros(size, np.int64), np.zeros(size, np.int64)
    verdict = np.full(size, Verdict.NO_METHODOLOGY, np.int64)
    asset_class, rule_of, credits = _choose(acts, rules, classes)
    for rows in _stretches(rule_of, credits):
        version, scene = credits[rule_of[rows[0]]]
        part = acts.take(rows)
        evaluated = evaluate(
            version,
            rules.measures_of(version, scene, part),
            accounts=part.account_id,
            days=part.civil_day,
            grades=part.evidence_grade,
            caps_used=caps,
        )
        if evaluated.used_after is not None:
            caps.remember(version.caps[0].key, evaluated.used_after)
        amount[rows] = evaluated.credited
        used_before[rows] = evaluated.used_before
        verdict[rows] = _verdicts(evaluated)
    return Assessed(acts, amount, asset_class, verdict, used_before)


def _choose(
    acts: Acts, rules: Rulebook, classes: ClassBook
) -> tuple[Ints, Ints, list[tuple[Version, int]]]:
    """Asset class and rule number (-1 without one) of each act, and the rules met."""
    # Scene, region and day in one number: 14 + 20 + 29 bits hold every value they may have.
    kind = (acts.scene << 49) | (acts.region << 29) | acts.civil_day
    kinds, kind_of = np.unique(kind, return_inverse=True)
    class_of = np.zeros(len(kinds), np.int64)
    number_of = np.full(len(kinds), -1, np.int64)
    credits: list[tuple[Version, int]] = []
    for place, value in enumerate(kinds.tolist()):
        scene, region, day = value >> 49, value >> 29 & 0xFFFFF, value & 0x1FFFFFFF
        credit = rules.programme.credit_for(rules.scenes[scene].scene, region, day)
        if credit is None:
            continue
        rule = (credit.version, scene)
        if rule not in credits:
            credits.append(rule)
        number_of[place] = credits.index(rule)
        month = int(months_of(np.array([day]))[0])
        class_of[place] = classes.code_of(credit, region, month)
    return class_of[kind_of], number_of[kind_of], credits


def _stretches(rule_of: Ints, credits: list[tuple[Version, int]]) -> list[NDArray[np.intp]]:
    """Rows of each rule; rules that share a cap in stretches, so that record order is kept."""
    by_cap: dict[str, list[int]] = {}
    for number, (version, _) in enumerate(credits):
        by_cap.setdefault(version.caps[0].key if version.caps else f"#{number}", []).append(number)
    stretches = []
    for numbers in by_cap.values():
        rows = np.flatnonzero(np.isin(rule_of, numbers))
        stretches += np.split(rows, np.flatnonzero(np.diff(rule_of[rows])) + 1)
    return stretches


def _verdicts(evaluated: Evaluated) -> Ints:
    verdict = np.where(
        evaluated.credited < evaluated.uncapped, Verdict.CAPPED.value, Verdict.GRANTED.value
    )
    if evaluated.refused.any():
        verdict[evaluated.refused == OUT_OF_RANGE] = Verdict.OUT_OF_RANGE
        verdict[evaluated.refused == NOT_ELIGIBLE] = Verdict.NOT_ELIGIBLE
    return verdict
