"""Assessing a run of activities: which version, which class, how much, in record order.

Everything is columns. The activities of one batch usually meet a handful of rules; each rule
is evaluated once over all of its activities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
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
    """What a scene code of the activity feed means; `measures` name the two columns, and the
    label's codes are places in `label_values`, from 1."""

    scene: str
    measures: tuple[str, ...]
    label: str = ""
    label_values: tuple[str, ...] = ()


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
    label_1: Ints

    def __len__(self) -> int:
        return len(self.account_id)

    def take(self, rows: Rows) -> Acts:
        """The activities at `rows`, in that order."""
        return Acts(**{name: column[rows] for name, column in vars(self).items()})


@dataclass(frozen=True)
class Assessed:
    """What each of `acts` earns, in its asset's unit, and why.

    `cap_used_before` and `cap_used_before_2` are what its windowed caps had used, in the order
    of the rule; `history_1` is the mean of the account's own past, in parts.
    """

    acts: Acts
    amount: Ints
    asset_class: Ints
    verdict: Ints
    cap_used_before: Ints
    cap_used_before_2: Ints
    history_1: Ints

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
        """The version's declared measures as columns.

        One that the scene does not carry is zero; but an act is one act, so `count` is 1.
        """
        columns = dict(
            zip(self.scenes[scene].measures, (acts.measure_1, acts.measure_2), strict=False)
        )
        return {
            m.name: columns[m.name]
            if m.name in columns
            else np.full(len(acts), absent_value(m.name))
            for m in version.measures
        }

    def labels_of(self, version: Version, scene: int, acts: Acts) -> dict[str, Ints]:
        """The version's label codes as columns; 0 for a word that it does not know."""
        carried = self.scenes[scene]
        columns = {}
        for label in version.labels:
            if label.name == carried.label:
                codes = {word: code for code, word in enumerate(label.values, 1)}
                known = [0, *(codes.get(word, 0) for word in carried.label_values)]
                columns[label.name] = np.array(known, np.int64)[acts.label_1]
        return columns

    def keys_of(self, acts: Acts) -> frozenset[str]:
        """What one activity leaves behind for later ones, by key; `acts` has length 1."""
        scene = self.scenes[int(acts.scene[0])].scene
        credit = self.programme.credit_for(scene, int(acts.region[0]), int(acts.civil_day[0]))
        return credit.version.memory_keys if credit else frozenset()

    @cached_property
    def _versions(self) -> list[Version]:
        return [v for entry in self.programme.entries for v in entry.methodology.versions]

    @cached_property
    def history_days(self) -> int:
        """How many days back the rules of the programme look at most."""
        return max((history.days for v in self._versions for history in v.histories), default=0)

    @cached_property
    def month_keys(self) -> frozenset[str]:
        """Keys of the caps over a month; every other memory is of a day."""
        caps = (cap for version in self._versions for cap in version.caps)
        return frozenset(cap.key for cap in caps if cap.window == "month")


def absent_value(measure: str) -> int:
    """What a measure is that an act does not carry."""
    return 1 if measure == "count" else 0


def assess(acts: Acts, rules: Rulebook, *, caps: CapMemory, classes: ClassBook) -> Assessed:
    """What each of `acts` earns; every amount is exact.

    An activity that nothing credits, or that its rule refuses, earns zero and says why.
    """
    size = len(acts)
    amount, history = np.zeros(size, np.int64), np.zeros(size, np.int64)
    used = (np.zeros(size, np.int64), np.zeros(size, np.int64))
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
            regions=part.region,
            labels=rules.labels_of(version, scene, part),
            caps_used=caps,
        )
        for key, usage in evaluated.left_behind:
            caps.remember(key, usage)
        amount[rows] = evaluated.credited
        for column, before in zip(used, evaluated.used_before, strict=False):
            column[rows] = before
        for past in evaluated.histories:
            history[rows] = past
        verdict[rows] = _verdicts(evaluated)
    return Assessed(acts, amount, asset_class, verdict, *used, history)


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
    """Rows of each rule; rules that share a memory in stretches, so that record order is kept."""
    groups: list[tuple[set[str], list[int]]] = []
    for number, (version, _) in enumerate(credits):
        keys, numbers = set(version.memory_keys), [number]
        for group in [group for group in groups if group[0] & keys]:
            groups.remove(group)
            keys |= group[0]
            numbers += group[1]
        groups.append((keys, numbers))
    stretches = []
    for _, numbers in groups:
        rows = np.flatnonzero(np.isin(rule_of, numbers))
        stretches += np.split(rows, np.flatnonzero(np.diff(rule_of[rows])) + 1)
    return stretches


def _verdicts(evaluated: Evaluated) -> Ints:
    verdict = np.where(
        evaluated.credited != evaluated.uncapped, Verdict.CAPPED.value, Verdict.GRANTED.value
    )
    if evaluated.refused.any():
        verdict[evaluated.refused == OUT_OF_RANGE] = Verdict.OUT_OF_RANGE
        verdict[evaluated.refused == NOT_ELIGIBLE] = Verdict.NOT_ELIGIBLE
    return verdict
