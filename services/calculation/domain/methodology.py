"""Methodologies as they are after loading: immutable, checked, compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from services.calculation.domain.formula import Formula
from services.calculation.domain.parse import Node
from services.calculation.domain.rule import (
    CREDITABLE,
    Cap,
    Case,
    Condition,
    Factor,
    Grade,
    History,
    Label,
    Measure,
)


@dataclass(frozen=True, eq=False)
class Version:
    """The rule for some scenes as it stands from one civil day on (days since 1970-01-01).

    A version of a methodology that prices several scenes by several rules is several of
    these, with one name and one digest. `grades` is empty when every grade earns the whole.
    `result` is compiled: what is credited before rounding and caps, times the share of the
    grade where `grades` says so. `low_tree` and `high_tree` are the formula's least and greatest
    value where factors are uncertain, and the formula itself where none is.
    """

    name: str
    digest: str
    scenes: frozenset[str]
    gas_scope: str
    asset: str
    draft: str
    rounding: str
    below_zero_counts: bool
    credits_low: bool
    effective_day: int
    end_day: int | None
    measures: tuple[Measure, ...]
    labels: tuple[Label, ...]
    factors: tuple[Factor, ...]
    histories: tuple[History, ...]
    conditions: tuple[Condition, ...]
    caps: tuple[Cap, ...]
    grades: Mapping[int, Grade]
    formula_text: str
    formula_tree: Node
    low_tree: Node
    high_tree: Node
    result: Formula
    cases: tuple[Case, ...]
    status: str
    values: Mapping[str, Fraction] = field(default_factory=dict)
    """In base units, by name: factors that are constants, and one of each measure and history."""

    @property
    def creditable(self) -> bool:
        """Whether it is in force in full and published well enough to credit anything."""
        return self.status in CREDITABLE and not self.draft and self.asset != "emission"

    @property
    def credited_tree(self) -> Node:
        """The tree of what is credited: the formula, or its least value."""
        return self.low_tree if self.credits_low else self.formula_tree

    @property
    def windowed_caps(self) -> tuple[Cap, ...]:
        """The caps that remember: those over a day or a month, in that order."""
        return tuple(cap for cap in self.caps if cap.window != "act")

    @property
    def memory_keys(self) -> frozenset[str]:
        """What earlier acts leave behind for later ones under this rule."""
        caps = frozenset(cap.key for cap in self.windowed_caps)
        return caps | {history.key for history in self.histories}

    @property
    def unit(self) -> str:
        """What a result counts: mg or point."""
        return "point" if self.asset.startswith("point:") else "mg"

    def unit_of_history(self, name: str) -> str:
        """The unit of a history's mean: that of its measure."""
        of = next(history.of for history in self.histories if history.name == name)
        return next(measure.unit for measure in self.measures if measure.name == of)

    def in_force(self, day: int) -> bool:
        """Whether the version holds on that civil day."""
        return self.effective_day <= day and (self.end_day is None or day < self.end_day)


@dataclass(frozen=True)
class Document:
    """The paper that a methodology was read from."""

    title: str
    number: str
    publisher: str
    date: str
    source: str
    note: str

    def __str__(self) -> str:
        return " ".join(filter(None, (self.title, self.number)))


@dataclass(frozen=True)
class Methodology:
    """One accounting rule with all its versions, oldest first."""

    id: str
    title_zh: str
    title_en: str
    document: Document
    scenes: frozenset[str]
    versions: tuple[Version, ...]

    def version_on(self, scene: str, day: int) -> Version | None:
        """The version that prices that scene on that civil day."""
        scene = full_scene(scene)
        fitting = (v for v in self.versions if scene in v.scenes and v.in_force(day))
        return next(fitting, None)


@dataclass(frozen=True)
class Credit:
    """What credits one scene in one place on one day; `programme` is a full name."""

    programme: str
    version: Version
    scene_approval: str


@dataclass(frozen=True)
class Entry:
    """A line of a programme: this methodology credits that scene there and then.

    `region_prefix` is the code without its trailing pairs of zeros: 440300 is "4403".
    """

    scene: str
    region_prefix: str
    methodology: Methodology
    scene_approval: str
    from_day: int
    to_day: int | None

    def in_force(self, day: int) -> bool:
        """Whether the line holds on that civil day."""
        return self.from_day <= day and (self.to_day is None or day < self.to_day)

    def meets(self, version: Version) -> bool:
        """Whether there is a day on which both hold."""
        return (version.end_day is None or self.from_day < version.end_day) and (
            self.to_day is None or version.effective_day < self.to_day
        )


@dataclass(frozen=True)
class Programme:
    """Which methodology credits; for any scene, place and day exactly one version or none."""

    id: str
    title_zh: str
    title_en: str
    demo: bool
    assumptions: tuple[str, ...]
    entries: tuple[Entry, ...]

    @cached_property
    def _by_scene(self) -> Mapping[str, list[Entry]]:
        entries: dict[str, list[Entry]] = {}
        for entry in sorted(self.entries, key=lambda entry: -len(entry.region_prefix)):
            entries.setdefault(entry.scene, []).append(entry)
        return entries

    def credit_for(self, scene: str, region: int, day: int) -> Credit | None:
        """What credits that scene; the most specific region wins, 0 is an unknown region."""
        place = f"{region:06d}" if region else ""
        for entry in self._by_scene.get(full_scene(scene), ()):
            if place.startswith(entry.region_prefix) and entry.in_force(day):
                version = entry.methodology.version_on(entry.scene, day)
                if version is None or not version.creditable:
                    return None
                return Credit(f"programmes/{self.id}", version, entry.scene_approval)
        return None


@dataclass(frozen=True)
class Library:
    """Every methodology and programme, by id."""

    methodologies: Mapping[str, Methodology]
    programmes: Mapping[str, Programme]

    def version_named(self, name: str, scene: str) -> Version | None:
        """The rule of the version `methodologies/{id}/versions/{id}` for that scene."""
        rules = self.rules_of(name)
        return next((rule for rule in rules if full_scene(scene) in rule.scenes), None)

    def rules_of(self, name: str) -> list[Version]:
        """The rules of the version `methodologies/{id}/versions/{id}`; none when there is none."""
        return [
            version
            for methodology in self.methodologies.values()
            for version in methodology.versions
            if version.name == name
        ]

    def version_on(self, methodology_id: str, day: int, scene: str = "") -> Version | None:
        """The version of a methodology on a civil day; for its first scene when none is named."""
        methodology = self.methodologies.get(methodology_id)
        if methodology is None:
            return None
        return methodology.version_on(scene or min(methodology.scenes), day)


def full_scene(scene: str) -> str:
    """`scenes/{scene}`, also of a bare id."""
    return scene if scene.startswith("scenes/") else f"scenes/{scene}"
