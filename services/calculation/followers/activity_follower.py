"""Activities in, assessments out: one transaction a run, with the cursors in it.

Between runs the same thread restates what waits of its shards, a piece at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import sqlalchemy as sa
from carbonaccount.activity.v1 import activity_service_pb2 as pb
from numpy.typing import NDArray

from services.calculation.domain.assess import Acts, Rulebook, SceneCode
from services.calculation.domain.windows import CapMemory
from services.calculation.storage.book import Book
from services.calculation.storage.class_codes import ClassCodes
from services.calculation.storage.restatements import Restatements
from services.calculation.storage.shelf import Shelf
from services.calculation.usecases.assess_events import (
    record_assessments,
    take_back,
    used_in,
)
from services.calculation.usecases.restate import restate_piece
from shared.feed.cursors import move_cursors
from shared.storage.bulk import unpack
from shared.storage.engine import Database

FEED = "activity"
RESTATEMENTS_EVERY_S = 0.5
_RECORDED, _WITHDRAWN = 1, 2
_WIDTHS = {
    "account_id": 8,
    "scene": 2,
    "region": 4,
    "evidence_grade": 1,
    "civil_day": 4,
    "measure_1": 8,
    "measure_2": 8,
    "label_1": 2,
}


class ActivityApplier:
    """Assesses runs of the activity feed; see shared.feed.follow.Applier."""

    def __init__(self, database: Database, shelf: Shelf, committed: Callable[[], None]) -> None:
        self._database = database
        self._shelf = shelf
        self._library = shelf.library
        self._committed = committed
        self._scenes: dict[int, SceneCode] = {}
        self._cursors: dict[int, int] = {}
        self._classes = ClassCodes()
        self._connection: sa.Connection | None = None
        self._caps = CapMemory(self._load_cap)
        self._look_again_s = 0.0

    def begin(self, cursors: Mapping[int, int]) -> None:
        """A stream starts: what was remembered of caps may be another worker's by now."""
        self._cursors = dict(cursors)
        self._caps.forget()
        self._look_again_s = 0.0

    def apply(self, responses: Sequence[pb.WatchActivitiesResponse]) -> None:
        """Assesses the runs of `responses` in one transaction."""
        scenes = {
            code.code: SceneCode(
                code.scene, tuple(code.measures), code.label, tuple(code.label_values)
            )
            for response in responses
            for code in response.scenes
        }
        runs = sorted(
            (run for response in responses for run in response.runs),
            key=lambda run: (run.shard, run.position),
        )
        if not runs and not scenes:
            return

        def change(connection: sa.Connection) -> None:
            if scenes:
                Book(connection).note_scenes(scenes)
                self._scenes = scenes
            if runs:
                self._assess(runs, connection)

        self._in_transaction(change)
        if runs:
            self._cursors.update({run.shard: run.position + run.count - 1 for run in runs})
            self._committed()

    def work_between(self) -> bool:
        """Restates one piece of what waits of these shards; whether there may be more at once."""
        if not self._scenes or time.monotonic() < self._look_again_s:
            return False
        found = self._in_transaction(self._restate)
        if found:
            self._committed()
        else:
            self._look_again_s = time.monotonic() + RESTATEMENTS_EVERY_S
        return found

    def _in_transaction(self, change: Callable[[sa.Connection], object]) -> bool:
        """Whether `change` says so; when it fails, nothing of it is remembered."""
        try:
            with self._database.transaction() as connection, self._classes.within(connection):
                self._connection = connection
                self._take_library(connection)
                return bool(change(connection))
        except BaseException:
            self._caps.forget()  # it may remember what was rolled back
            raise
        finally:
            self._connection = None

    def _take_library(self, connection: sa.Connection) -> None:
        """One library for the whole transaction; others of this process refresh the shelf too."""
        self._shelf.refresh(connection)
        library = self._shelf.library
        if library is not self._library:
            self._caps.forget()  # what was used is what the library of today says
            self._library = library

    def _assess(self, runs: list[pb.ActivityRun], connection: sa.Connection) -> None:
        book, rules = Book(connection), self._rules()
        self._caps.trim()  # here alone all that it remembers is stored
        acts, kind, target = _columns(runs)
        recorded = kind == _RECORDED
        fresh = acts if recorded.all() else acts.take(recorded)
        record_assessments(fresh, rules, book=book, caps=self._caps, classes=self._classes)
        gone = np.flatnonzero(kind == _WITHDRAWN)
        if len(gone):
            targets = list(zip(acts.shard[gone].tolist(), target[gone].tolist(), strict=True))
            take_back(targets, rules, book=book, caps=self._caps, classes=self._classes)
        steps: dict[int, tuple[int, int]] = {}
        for run in runs:
            before = steps.get(run.shard, (self._cursors[run.shard], 0))[0]
            steps[run.shard] = (before, run.position + run.count - 1)
        move_cursors(connection, FEED, steps)

    def _restate(self, connection: sa.Connection) -> bool:
        shards = sorted(self._cursors)
        found = restate_piece(
            shards, self._rules(), book=Book(connection), classes=self._classes,
            restatements=Restatements(connection),
        )  # fmt: skip
        if found:
            # Cursors stay, and hold off a worker that thinks it has one of the shards by now.
            move_cursors(
                connection, FEED, {s: (self._cursors[s], self._cursors[s]) for s in shards}
            )
        return found

    def _rules(self) -> Rulebook:
        return Rulebook(self._shelf.programme_of(self._library), self._scenes)

    def _load_cap(
        self, cap_key: str, shards: NDArray[np.int64], windows: NDArray[np.int64]
    ) -> Mapping[tuple[int, int], int]:
        assert self._connection is not None
        book = Book(self._connection)
        return used_in(cap_key, shards, windows, self._rules(), book, self._classes)


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
