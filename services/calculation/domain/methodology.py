"""Methodologies as they are after loading: immutable, checked, compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from services.calculation.domain.formula import Formula
from services.calculation.domain.parse import Comparison, Node

STATUSES = ("official", "reposted", "operator", "secondary", "decision")
"""Of values, strongest first; `decision` is ours: right for caps and rules, never for factors."""
CREDITABLE = frozenset(STATUSES[:3])
GRADES = {"recorded": 1, "shown": 2, "declared": 3}


@dataclass(frozen=True)
class Measure:
    """A whole number that activities carry: `min` <= value <= `max` in base units."""

    name: str
    unit: str
    min: int
    max: int
    label_zh: str
    label_en: str


@dataclass(frozen=True)
class Factor:
    """A number with its unit and where it was read; `date` is that of the value, "" unknown."""

    key: str
    value: str
    unit: str
    date: str
    source: str
    page: str
    status: str
    label_zh: str
    label_en: str


@dataclass(frozen=True)
class Cap:
    """The most that an account may use in one window, in acts, a measure, or the result.

    `of` is "count", "result" or a measure's name; `window` is "act", "day" or "month";
    `amount` is in acts, the measure's base unit, or mg (points).
    """

    key: str
    window: str
    of: str
    amount: int
    source: str
    status: str
    label_zh: str
    label_en: str


@dataclass(frozen=True)
class Condition:
    """What an activity must meet to earn anything."""

    text: str
    tree: Comparison
    formula: Formula
    source: str
    status: str
    label_zh: str
    label_en: str


@dataclass(frozen=True)
class Grade:
    """The share of the result that an evidence grade earns, from 0 to 1."""

    share: Fraction
    text: str
    source: str
    status: str


@dataclass(frozen=True)
class Case:
    """A published input and the right answer in mg or points, within `tolerance`."""

    id: str
    measures: Mapping[str, int]
    grade: int
    expected: int
    tolerance: int
    source: str


@dataclass(frozen=True, eq=False)
class Version:
    """The rule for some scenes as it stands from one civil day on (days since 1970-01-01).

    A version of a methodology that prices several scenes by several rules is several of
    these, with one name and one digest. `grades` is empty when every grade earns the whole.
    `result` is compiled: the formula, times the share of the grade where `grades` says so.
    """

    name: str
    digest: str
    scenes: frozenset[str]
    gas_scope: str
    asset: str
    draft: bool
    effective_day: int
    end_day: int | None
    measures: tuple[Measure, ...]
    factors: tuple[Factor, ...]
    conditions: tuple[Condition, ...]
    caps: tuple[Cap, ...]
    grades: Mapping[int, Grade]
    formula_text: str
    formula_tree: Node
    result: Formula
    cases: tuple[Case, ...]
    status: str
    values: Mapping[str, Fraction] = field(default_factory=dict)
    """Factors in base units, by key."""

    @property
    def creditable(self) -> bool:
        """Whether it is in force in full and published well enough to credit anything."""
        return self.status in CREDITABLE and not self.draft

    @property
    def unit(self) -> str:
        """What a result counts: mg or point."""
        return "point" if self.asset.startswith("point:") else "mg"

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
        return next(
            (
                version
                for methodology in self.methodologies.values()
                for version in methodology.versions
                if version.name == name and full_scene(scene) in version.scenes
            ),
            None,
        )

    def version_on(self, methodology_id: str, day: int, scene: str = "") -> Version | None:
        """The version of a methodology on a civil day; for its first scene when none is named."""
        methodology = self.methodologies.get(methodology_id)
        if methodology is None:
            return None
        return methodology.version_on(scene or min(methodology.scenes), day)


def full_scene(scene: str) -> str:
    """`scenes/{scene}`, also of a bare id."""
    return scene if scene.startswith("scenes/") else f"scenes/{scene}"
