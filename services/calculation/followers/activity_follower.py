"""Activities in, assessments out: one transaction a run, with the cursors in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import sqlalchemy as sa
from carbonaccount.activity.v1 import activity_service_pb2 as pb
from numpy.typing import NDArray

from services.calculation.domain.assess import Acts, Rulebook, SceneCode
from services.calculation.domain.methodology import Credit, Programme
from services.calculation.domain.windows import CapMemory
from services.calculation.storage.book import Book
from services.calculation.usecases.assess_events import record_assessments, take_back, used_in
from shared.feed.cursors import move_cursors
from shared.storage.bulk import unpack
from shared.storage.engine import Database

FEED = "activity"
_RECORDED, _WITHDRAWN = 1, 2
_WIDTHS = {
    "account_id": 8,
    "scene": 2,
    "region": 4,
    "evidence_grade": 1,
    "civil_day": 4,
    "measure_1": 8,
    "measure_2": 8,
}


class ActivityApplier:
    """Assesses runs of the activity feed; see shared.feed.follow.Applier."""

    def __init__(
        self, database: Database, programme: Programme, committed: Callable[[], None]
    ) -> None:
        self._database = database
        self._programme = programme
        self._committed = committed
        self._scenes: dict[int, SceneCode] = {}
        self._cursors: dict[int, int] = {}
        self._classes: dict[tuple[str, str, str, int, int], int] = {}
        self._connection: sa.Connection | None = None
        self._caps = CapMemory(self._load_cap)

    def begin(self, cursors: Mapping[int, int]) -> None:
        """A stream starts: what was remembered of caps may be another worker's by now."""
        self._cursors = dict(cursors)
        self._caps.forget()

    def apply(self, responses: Sequence[pb.WatchActivitiesResponse]) -> None:
        """Assesses the runs of `responses` in one transaction."""
        scenes = {
            code.code: SceneCode(code.scene, tuple(code.measures))
            for response in responses
            for code in response.scenes
        }
        runs = sorted(
            (run for response in responses for run in response.runs),
            key=lambda run: (run.shard, run.position),
        )
        if not runs and not scenes:
            return
        try:
            with self._database.transaction() as connection:
                self._connection = connection
                if scenes:
                    Book(connection).note_scenes(scenes)
                    self._scenes = scenes
                if runs:
                    self._assess(runs, connection)
        except BaseException:
            self._caps.forget()  # it may remember what was rolled back
            self._classes.clear()
            raise
        finally:
            self._connection = None
        if runs:
            self._cursors.update({run.shard: run.position + run.count - 1 for run in runs})
            self._committed()

    def _assess(self, runs: list[pb.ActivityRun], connection: sa.Connection) -> None:
        book, rules = Book(connection), Rulebook(self._programme, self._scenes)
        acts, kind, target = _columns(runs)
        recorded = kind == _RECORDED
        fresh = acts if recorded.all() else acts.take(recorded)
        record_assessments(fresh, rules, book=book, caps=self._caps, classes=self)
        gone = np.flatnonzero(kind == _WITHDRAWN)
        if len(gone):
            targets = list(zip(acts.shard[gone].tolist(), target[gone].tolist(), strict=True))
            take_back(targets, rules, book=book, caps=self._caps, classes=self)
        steps: dict[int, tuple[int, int]] = {}
        for run in runs:
            before = steps.get(run.shard, (self._cursors[run.shard], 0))[0]
            steps[run.shard] = (before, run.position + run.count - 1)
        move_cursors(connection, FEED, steps)

    def code_of(self, credit: Credit, region: int, vintage_month: int) -> int:
        """The asset class code, from memory or the database; see domain.assess.ClassBook."""
        version = credit.version
        key = (version.name + version.digest, credit.programme, credit.scene_approval,
               region, vintage_month)  # fmt: skip
        code = self._classes.get(key)
        if code is None:
            assert self._connection is not None
            code = Book(self._connection).class_code(credit, region, vintage_month)
            self._classes[key] = code
        return code

    def _load_cap(
        self, cap_key: str, shards: NDArray[np.int64], windows: NDArray[np.int64]
    ) -> Mapping[tuple[int, int], int]:
        assert self._connection is not None
        rules = Rulebook(self._programme, self._scenes)
        return used_in(cap_key, shards, windows, rules, Book(self._connection), self)


def _columns(
    runs: Sequence[pb.ActivityRun],
) -> tuple[Acts, NDArray[np.int64], NDArray[np.int64]]:
    """Every event of `runs` in order, its kind, and the target of a withdrawal."""
    counts = [run.count for run in runs]
    values = {
        name: unpack([getattr(run, name) for run in runs], counts, width)
        for name, width in _WIDTHS.items()
    }
    shard = np.repeat(np.array([run.shard for run in runs], np.int64), counts)
    first = np.repeat(np.array([run.position for run in runs], np.int64), counts)
    starts = np.repeat(np.cumsum([0, *counts[:-1]]), counts)
    position = first + np.arange(len(shard)) - starts
    acts = Acts(shard=shard, activity_position=position, **values)
    kind = unpack([run.kind for run in runs], counts, 1)
    return acts, kind, unpack([run.target for run in runs], counts, 8)
