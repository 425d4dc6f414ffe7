"""Methodologies as they are after loading: immutable, checked, compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from services.calculation.domain.formula import Formula

STATUSES = ("official", "reposted", "operator", "secondary", "decision")
CREDITABLE = frozenset(STATUSES[:3])
GRADES = {"recorded": 1, "shown": 2, "declared": 3}


@dataclass(frozen=True)
class Measure:
    """A whole number that activities carry: `min` <= value <= `max` in base units."""

    name: str
    unit: str
    min: int
    max: int


@dataclass(frozen=True)
class Factor:
    """A number with its unit and where it was read."""

    key: str
    value: str
    unit: str
    source: str
    page: str
    status: str
    label_zh: str
    label_en: str


@dataclass(frozen=True)
class Cap:
    """The most that an account may use in one window, in acts, a measure, or the result.

    `of` is "count", "result" or a measure's name; `window` is "day" or "month".
    """

    key: str
    window: str
    of: str
    amount: int
    source: str
    status: str


@dataclass(frozen=True)
class Condition:
    """What an activity must meet to earn anything."""

    formula: Formula
    label_zh: str
    label_en: str


@dataclass(frozen=True)
class Case:
    """A published input and the only right answer, in mg or points."""

    id: str
    measures: Mapping[str, int]
    expected: int
    source: str


@dataclass(frozen=True)
class Version:
    """The rule for some scenes as it stands from one civil day on, counted from 1970-01-01.

    Rules of one version for several scenes share its name and digest.
    """

    name: str
    digest: str
    scenes: frozenset[str]
    gas_scope: str
    asset: str
    effective_day: int
    end_day: int | None
    measures: tuple[Measure, ...]
    factors: tuple[Factor, ...]
    conditions: tuple[Condition, ...]
    caps: tuple[Cap, ...]
    grades: Mapping[int, Fraction]
    formula: Formula
    cases: tuple[Case, ...]
    status: str

    @property
    def creditable(self) -> bool:
        """Whether its values were published well enough for it to credit anything."""
        return self.status in CREDITABLE

    def in_force(self, day: int) -> bool:
        """Whether the version holds on that civil day."""
        return self.effective_day <= day and (self.end_day is None or day < self.end_day)


@dataclass(frozen=True)
class Methodology:
    """One accounting rule with all its versions, oldest first."""

    id: str
    title_zh: str
    title_en: str
    document: str
    scenes: frozenset[str]
    versions: tuple[Version, ...]

    def version_on(self, scene: str, day: int) -> Version | None:
        """The version that prices `scene` on that civil day."""
        fitting = (v for v in self.versions if scene in v.scenes and v.in_force(day))
        return next(fitting, None)


@dataclass(frozen=True)
class Credit:
    """What credits one scene in one place on one day."""

    programme: str
    version: Version
    scene_approval: str


@dataclass(frozen=True)
class Entry:
    """A line of a programme: this methodology credits that scene there and then."""

    scene: str
    region_prefix: str
    methodology: Methodology
    scene_approval: str
    from_day: int
    to_day: int | None


@dataclass(frozen=True)
class Programme:
    """Which methodology credits; for any scene, place and day exactly one version or none."""

    id: str
    title_zh: str
    title_en: str
    demo: bool
    entries: tuple[Entry, ...]

    def credit_for(self, scene: str, region: int, day: int) -> Credit | None:
        """The credit of that scene; the most specific region wins. None credits nothing."""
        place = f"{region:06d}" if region else ""
        fitting = [
            entry
            for entry in self.entries
            if entry.scene == scene
            and place.startswith(entry.region_prefix)
            and entry.from_day <= day
            and (entry.to_day is None or day < entry.to_day)
        ]
        if not fitting:
            return None
        entry = max(fitting, key=lambda entry: len(entry.region_prefix))
        version = entry.methodology.version_on(scene, day)
        if version is None or not version.creditable:
            return None
        return Credit(f"programmes/{self.id}", version, entry.scene_approval)
