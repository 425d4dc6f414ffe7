"""An independent reader of methodology files: TOML, Python's own parser, and fractions.

It shares no code with the evaluator and is written from methodologies/README.md alone. A formula
is a subset of Python's expressions, so `ast` reads it; one act at a time, what was used in a dict.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from functools import cache, cached_property
from math import lcm
from typing import Any, NamedTuple

from tests.calculation.domain.oracle_factors import Chooser, chooser_of
from tests.calculation.domain.oracle_formula import compiled, evaluated, size_of

OK, OUT_OF_RANGE, NOT_ELIGIBLE = 0, 1, 2
GRADES = {1: "recorded", 2: "shown", 3: "declared"}
WINDOWS = ("act", "day", "month")
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Act:
    """One act; day counts from 1970-01-01, region is six digits or 0, labels are words."""

    account: int
    day: int
    measures: dict[str, int]
    grade: int = 1
    region: int = 0
    labels: dict[str, str] = field(default_factory=dict)


class Outcome(NamedTuple):
    """What an act earns, and what its day's and month's caps had used before."""

    credited: int
    uncapped: int
    refused: int
    used_before: tuple[int, ...]
    histories: tuple[Fraction, ...]


@dataclass
class Memory:
    """What the acts before left behind: used of each cap, by its id, and each day's sums."""

    used: dict[tuple[str, int, object], int] = field(default_factory=dict)
    sums: dict[tuple[object, int, int], int] = field(default_factory=dict)


@dataclass
class Oracle:
    """One rule of a file; `memory` is one for all rules of a methodology, which share caps."""

    rule: dict[str, Any]
    version: dict[str, Any]
    series: Mapping[str, Any]
    memory: Memory

    def __post_init__(self) -> None:
        names = [measure["name"] for measure in self.rule["measure"]]
        self.measures = names
        self.labels = [label["name"] for label in self.rule.get("label", [])]
        self.caps = sorted(self.rule.get("cap", []), key=lambda cap: WINDOWS.index(cap["window"]))
        self.history = (self.rule.get("history") or [None])[0]
        self.scenes = tuple(sorted(self.rule["scenes"]))
        self.grades = {row["grade"]: Fraction(row["share"]) for row in self.rule.get("grade", [])}
        self._ranges = [(measure["min"], measure["max"]) for measure in self.rule["measure"]]
        self._places = {name: place for place, name in enumerate(names)}
        self._counts_below_zero = self.version.get("below_zero") == "counts"
        self._rounds_up = self.version["rounding"] == "ceiling"

    def afresh(self) -> Oracle:
        """The same rule for accounts of which nothing is known."""
        return self.remembering(Memory())

    def remembering(self, memory: Memory) -> Oracle:
        """The same rule, read once, with another memory."""
        _ = self._value, self._conditions, self._chosen
        other = copy(self)
        other.memory = memory
        return other

    def credit(self, act: Act) -> Outcome:
        """What the act earns after those that were told before."""
        measures = [act.measures[name] for name in self.measures]
        labels = tuple(act.labels.get(name, "") for name in self.labels)
        return self.credit_row(act.account, act.day, measures, act.grade, act.region, labels)

    def credit_row(
        self,
        account: int,
        day: int,
        measures: Sequence[int],
        grade: int,
        region: int,
        labels: tuple[str, ...],
    ) -> Outcome:
        """`credit` of an act in pieces: measures and labels in the order of the file."""
        before = tuple(self._used(cap, account, day) for cap in self.caps[self._windowed :])
        past = self._mean(account, day) if self.history else ()
        self._remember(account, day, measures)
        if any(not low <= m <= high for m, (low, high) in zip(measures, self._ranges, strict=True)):
            return Outcome(0, 0, OUT_OF_RANGE, before, past)
        numbers = self._chosen(labels, region, day)
        share = self._share(grade)
        if numbers is None or share is None:
            return Outcome(0, 0, NOT_ELIGIBLE, before, past)
        whole_past = [int(mean * self._finest) for mean in past]
        if not all(holds(*measures, *numbers, *whole_past) for holds in self._conditions):
            return Outcome(0, 0, NOT_ELIGIBLE, before, past)

        def worth(trimmed: Sequence[int]) -> int:
            return self._rounded(trimmed, numbers, whole_past, share)

        uncapped = worth(measures)
        return Outcome(self._capped(account, day, list(measures), uncapped, worth), uncapped, OK,
                       before, past)  # fmt: skip

    def interval(self, act: Act) -> tuple[Fraction, Fraction]:
        """The least and the greatest value over the ends of uncertain factors; act must be OK."""
        chosen = self._choosers.rows(
            tuple(act.labels.get(name, "") for name in self.labels), act.region, act.day
        )
        assert chosen is not None
        own = {
            m["name"]: act.measures[m["name"]] * size_of(m["unit"]) for m in self.rule["measure"]
        }
        if self.history:
            (mean,) = self._mean(act.account, act.day)
            own[self.history["name"]] = mean * self._history_size
        values = [
            evaluated(self.rule["formula"], own | corner)
            for corner in self._choosers.corners(chosen)
        ]
        return min(values), max(values)

    # --- eligibility and worth

    @cached_property
    def _choosers(self) -> Chooser:
        return chooser_of(self.rule, self.series)

    @cached_property
    def _chosen(self) -> Callable[[tuple[str, ...], int, int], list[int] | None]:
        return cache(self._choosers.numerators)

    @cached_property
    def _history_size(self) -> Fraction:
        of = self.history["of"]
        return size_of(next(m["unit"] for m in self.rule["measure"] if m["name"] == of))

    @cached_property
    def _finest(self) -> int:
        # A mean over n of `days` days is a whole number of these parts, whatever n is.
        return lcm(*range(1, self.history["days"] + 1)) if self.history else 1

    @cached_property
    def _known(self) -> dict[str, Fraction]:
        """One of each name that is a whole number, in base units, in the order of arguments."""
        sizes = {m["name"]: size_of(m["unit"]) for m in self.rule["measure"]}
        sizes |= self._choosers.sizes
        if self.history:
            sizes[self.history["name"]] = self._history_size / self._finest
        return sizes

    @cached_property
    def _value(self) -> tuple[Callable[..., int], int]:
        low = self.rule.get("credit") == "low"
        ends = self._choosers.ends() if low else [self._choosers.as_written()]
        return compiled(self.rule["formula"], self._known, ends)

    @cached_property
    def _conditions(self) -> list[Callable[..., int]]:
        written = [self._choosers.as_written()]
        return [
            compiled(condition["formula"], self._known, written)[0]
            for condition in self.rule.get("condition", [])
        ]

    @cached_property
    def _share(self) -> Callable[[int], Fraction | None]:
        if not self.grades:
            return lambda grade: Fraction(1)
        return lambda grade: self.grades.get(GRADES.get(grade, ""))

    def _rounded(
        self, measures: Sequence[int], numbers: list[int], past: list[int], share: Fraction
    ) -> int:
        run, parts = self._value
        over, under = run(*measures, *numbers, *past) * share.numerator, parts * share.denominator
        whole = -(-over // under) if self._rounds_up else over // under
        return whole if whole > 0 or self._counts_below_zero else 0

    # --- caps

    @cached_property
    def _windowed(self) -> int:
        return sum(cap["window"] == "act" for cap in self.caps)

    def _used(self, cap: dict[str, Any], account: int, day: int) -> int:
        if cap["window"] == "act":
            return 0
        return self.memory.used.get((cap["id"], account, window_of(cap["window"], day)), 0)

    def _capped(
        self,
        account: int,
        day: int,
        measures: list[int],
        result: int,
        worth: Callable[[Sequence[int]], int],
    ) -> int:
        for cap in self.caps:
            if result <= 0:
                return result
            used, of = self._used(cap, account, day), cap["of"]
            # A measure of that very name does not hide the two words.
            asked = 1 if of == "count" else result if of == "result" else measures[self._places[of]]
            granted = max(0, min(asked, cap["amount"] - used))
            if cap["window"] != "act":
                place = cap["id"], account, window_of(cap["window"], day)
                self.memory.used[place] = used + granted
            if granted == asked:
                continue
            if of == "count":
                result = 0
            elif of == "result":
                result = granted
            else:
                measures[self._places[of]] = granted
                result = min(result, worth(measures)) if granted else 0
        return result

    # --- own history

    def _mean(self, account: int, day: int) -> tuple[Fraction, ...]:
        days = range(day - self.history["days"], day)
        places = ((self.scenes, account, earlier) for earlier in days)
        sums = [self.memory.sums[place] for place in places if place in self.memory.sums]
        enough = len(sums) >= self.history["days_least"]
        return (Fraction(sum(sums), len(sums)) if enough else Fraction(0),)

    def _remember(self, account: int, day: int, measures: Sequence[int]) -> None:
        if not self.history:
            return
        place = self._places[self.history["of"]]
        low, high = self._ranges[place]
        if low <= measures[place] <= high:
            key = self.scenes, account, day
            # A day counts at most what one act may bring: the bounds are proved from that.
            self.memory.sums[key] = min(high, self.memory.sums.get(key, 0) + measures[place])


def oracles(text: str, series: Mapping[str, Any] | None = None) -> list[Oracle]:
    """The rules of a file, in order; they share what was used."""
    memory = Memory()
    return [
        Oracle(rule, version, series or {}, memory)
        for version in tomllib.loads(text)["version"]
        for rule in version["rule"]
    ]


@cache
def window_of(window: str, day: int) -> object:
    """What a day is in: itself, or its month."""
    when = _EPOCH + timedelta(days=day)
    return when if window == "day" else (when.year, when.month)
