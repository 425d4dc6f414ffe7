"""Reading one assessment with its working, computed again from what was stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.calculation.domain.assess import Assessed, SceneCode, Verdict, absent_value
from services.calculation.domain.exact import Act
from services.calculation.domain.explain import Working, explain
from services.calculation.domain.methodology import Library, Version
from shared.refusal import ResourceNotFound


class Found(Protocol):
    """An assessment as storage found it; columns of length 1."""

    @property
    def assessed(self) -> Assessed: ...
    @property
    def assess_time(self) -> datetime: ...
    @property
    def superseding(self) -> bool: ...


class Book(Protocol):
    """What reading needs of storage; see `storage.book.Book`."""

    def read_activity(self, shard: int, activity_position: int) -> Found | None: ...
    def read_scenes(self) -> dict[int, SceneCode]: ...
    def read_class(self, code: int) -> tuple[str, str]: ...


@dataclass(frozen=True)
class Shown:
    """An assessment as it is shown; amounts are in the version's asset, mg or points."""

    version: Version | None
    programme: str
    scene: str
    measures: dict[str, int]
    day: int
    verdict: int
    amount: int
    uncapped: int
    used_before: tuple[int, ...]
    act: Act
    superseding: bool
    working: Working | None


def read_assessment(
    name: str,
    account_id: int,
    shard: int,
    activity_position: int,
    *,
    book: Book,
    library: Library,
) -> tuple[Shown, datetime]:
    """The newest assessment of that activity and when it was made; ResourceNotFound without one."""
    found = book.read_activity(shard, activity_position)
    if found is None or found.assessed.acts.account_id[0] != account_id:
        raise ResourceNotFound(name, "it may not be assessed yet; ask again in a moment")
    assessed, acts = found.assessed, found.assessed.acts
    scene = book.read_scenes()[int(acts.scene[0])]
    values = (int(acts.measure_1[0]), int(acts.measure_2[0]))
    measures = dict(zip(scene.measures, values, strict=False))
    verdict = int(assessed.verdict[0])
    version, programme, working = None, "", None
    if assessed.asset_class[0]:
        # By the version that credited it, whatever the programme names today.
        name_of_version, programme = book.read_class(int(assessed.asset_class[0]))
        version = library.version_named(name_of_version, scene.scene)
    act = Act(measures, int(acts.evidence_grade[0]), int(acts.region[0]), int(acts.civil_day[0]))
    used: tuple[int, ...] = ()
    if version is not None:
        act, used = _as_assessed(version, scene, assessed, act)
        working = explain(version, act, used)
    shown = Shown(
        version=version,
        programme=programme,
        scene=scene.scene,
        measures=measures,
        day=act.day,
        verdict=verdict,
        amount=int(assessed.amount[0]),
        uncapped=working.uncapped if working else 0,
        used_before=used,
        act=act,
        superseding=found.superseding,
        working=working if verdict != Verdict.WITHDRAWN else None,
    )
    return shown, found.assess_time


def _as_assessed(
    version: Version, scene: SceneCode, assessed: Assessed, act: Act
) -> tuple[Act, tuple[int, ...]]:
    """The act as the version reads it, and what its windowed caps had used."""
    code = int(assessed.acts.label_1[0])
    word = scene.label_values[code - 1] if code else ""
    labels = {
        label.name: label.values.index(word) + 1
        for label in version.labels
        if label.name == scene.label and word in label.values
    }
    history = {one.name: int(assessed.history_1[0]) for one in version.histories}
    measures = {m.name: act.measures.get(m.name, absent_value(m.name)) for m in version.measures}
    used = (int(assessed.cap_used_before[0]), int(assessed.cap_used_before_2[0]))
    return (
        act._replace(measures=measures, labels=labels, history=history),
        used[: len(version.windowed_caps)],
    )
