"""The parts of a rule that come as lists, each of them once."""

from __future__ import annotations

import re
from collections.abc import Sequence

from services.calculation.domain.methodology import full_scene
from services.calculation.domain.parts import read_cap, read_grade, read_label
from services.calculation.domain.reading import Section
from services.calculation.domain.rule import Cap, Grade, Label, Measure
from services.calculation.domain.tables import DATE, REGION

_SCENE = re.compile(r"(scenes/)?[a-z][a-z0-9-]{0,62}")


def read_scenes(row: Section) -> frozenset[str]:
    """The scenes that a rule prices."""
    scenes = row.texts("scenes")
    if not scenes or not all(map(_SCENE.fullmatch, scenes)) or len(set(scenes)) < len(scenes):
        raise row.fault("scenes must be names such as scenes/metro-ride, each once", "scenes")
    return frozenset(map(full_scene, scenes))


def read_labels(row: Section) -> list[Label]:
    """The labels of a rule."""
    labels: dict[str, Label] = {}
    for part in row.sections("label"):
        label = read_label(part)
        if label.name in {*labels, REGION, DATE}:
            raise part.fault(f"{label.name} is declared twice; rename one", "name")
        labels[label.name] = label
    return list(labels.values())


def read_grades(row: Section) -> dict[int, Grade]:
    """The shares of evidence grades, by their codes."""
    grades: dict[int, Grade] = {}
    for part in row.sections("grade"):
        code, grade = read_grade(part)
        if code in grades:
            raise part.fault("this grade stands here twice; remove one", "grade")
        grades[code] = grade
    return grades


def read_caps(row: Section, methodology: str, measures: Sequence[Measure]) -> list[Cap]:
    """At most one cap for each window, the shortest window first."""
    caps: dict[str, Cap] = {}
    for part in row.sections("cap"):
        cap = read_cap(part, methodology, measures)
        if cap.window in caps:
            raise part.fault(f"there is a cap a {cap.window} already; join the two", "window")
        if any(cap.key == other.key for other in caps.values()):
            raise part.fault("another cap of this rule has this id; rename one", "id")
        caps[cap.window] = cap
    return [caps[window] for window in ("act", "day", "month") if window in caps]
