"""Assessments in, transfers out: one transaction for a shard's runs, with its cursor in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from carbonaccount.calculation.v1 import assessment_service_pb2 as pb

from services.settlement.domain.netting import Leaves, net, split
from services.settlement.storage.classes import ClassBook
from services.settlement.storage.columns import Changes, Transfers
from services.settlement.storage.ledger import Ledger
from services.settlement.usecases.post_run import changes_of, cover, lines_of
from shared.feed.cursors import move_cursors
from shared.storage.bulk import unpack
from shared.storage.engine import Database

FEED = "calculation"
_WIDTHS = {
    "account_id": 8,
    "activity_position": 8,
    "asset_class": 4,
    "civil_day": 4,
    "amount": 8,
    "delta": 8,
    "previous_class": 4,
}


SPLIT_ACTS = 12_000
"""A backlog of so many acts and more is posted in two halves at once, each of its own shards."""


class AssessmentApplier:
    """Posts runs of the assessment feed; see shared.feed.follow.Applier."""

    def __init__(self, database: Database, committed: Callable[[], None]) -> None:
        self._database = database
        self._committed = committed
        self._cursors: dict[int, int] = {}
        self._asset_of_class: dict[int, int] = {}
        self._halves = ThreadPoolExecutor(2, thread_name_prefix="post")

    def begin(self, cursors: Mapping[int, int]) -> None:
        """Remembers where the stream starts."""
        self._cursors = dict(cursors)

    def apply(self, responses: Sequence[pb.WatchAssessmentsResponse]) -> None:
        """Posts the runs of `responses`: each shard's in one transaction, with its cursor."""
        classes = [_class(row) for response in responses for row in response.asset_classes]
        runs = sorted(
            (run for response in responses for run in response.runs),
            key=lambda run: (run.shard, run.position),
        )
        if not runs and not classes:
            return
        halves = _halved(runs)
        if len(halves) == 1:
            self._apply(runs, classes)
        else:
            self._apply([], classes)
            # Shards have nothing in common. When one half fails the stream starts again from the
            # cursors in the database, where the other half's have moved.
            posting = [self._halves.submit(self._apply, half, []) for half in halves]
            wait(posting)
            for half in posting:
                half.result()
        steps = self._steps(runs)
        self._cursors.update({shard: after for shard, (_, after) in steps.items()})
        self._committed()

    def close(self) -> None:
        """Ends the threads."""
        self._halves.shutdown(wait=True)

    def _apply(self, runs: list[pb.AssessmentRun], classes: list[dict[str, object]]) -> None:
        with self._database.transaction() as connection:
            ledger = Ledger(connection)
            ledger.check_not_halted()
            if classes or not self._asset_of_class:
                book = ClassBook(connection)
                book.note(classes)
                self._asset_of_class = book.assets()
            steps = self._steps(runs)
            self._post(runs, steps, ledger)
            if steps:
                move_cursors(connection, FEED, steps)

    def _post(
        self, runs: list[pb.AssessmentRun], steps: Mapping[int, tuple[int, int]], ledger: Ledger
    ) -> None:
        netted = net(_leaves(runs)) if runs else None
        if netted is None or not len(netted):
            return
        codes, place = np.unique(netted.asset_class, return_inverse=True)
        of_code = np.array([self._asset_of_class[code] for code in codes.tolist()], np.int64)
        assets = of_code[place]
        forgiven = cover(netted, assets, ledger=ledger)
        lines: Any = lines_of(netted, assets, forgiven)
        ledger.change(Changes(**changes_of(lines)))
        ledger.add(
            Transfers(**lines),
            {shard: (before + 1, after) for shard, (before, after) in steps.items()},
        )

    def _steps(self, runs: Sequence[pb.AssessmentRun]) -> dict[int, tuple[int, int]]:
        """For each shard, where its cursor stands and where it goes."""
        steps: dict[int, tuple[int, int]] = {}
        for run in runs:
            before = steps.get(run.shard, (self._cursors[run.shard], 0))[0]
            steps[run.shard] = (before, run.position + run.count - 1)
        return steps


def _halved(runs: list[pb.AssessmentRun]) -> list[list[pb.AssessmentRun]]:
    """The runs in two halves of about as many acts, no shard in both; or whole, if few or one."""
    acts: Counter[int] = Counter()
    for run in runs:
        acts[run.shard] += run.count
    if sum(acts.values()) < SPLIT_ACTS or len(acts) < 2:
        return [runs]
    first: set[int] = set()
    weight = 0
    for shard, count in acts.most_common():
        if 2 * (weight + count) <= sum(acts.values()) or not first:
            first.add(shard)
            weight += count
    return [[r for r in runs if (r.shard in first) == mine] for mine in (True, False)]


def _leaves(runs: Sequence[pb.AssessmentRun]) -> Leaves:
    counts = [run.count for run in runs]
    values = {
        name: unpack([getattr(run, name) for run in runs], counts, width)
        for name, width in _WIDTHS.items()
    }
    shard = np.repeat(np.array([run.shard for run in runs], np.int64), counts)
    first = np.repeat(np.array([run.position for run in runs], np.int64), counts)
    starts = np.repeat(np.cumsum([0, *counts[:-1]]), counts)
    amount, previous = values.pop("amount"), values.pop("previous_class")
    leaves = Leaves(shard=shard, position=first + np.arange(len(shard)) - starts, **values)
    return split(leaves, amount, previous) if previous.any() else leaves


def _class(row: pb.AssetClass) -> dict[str, object]:
    return {
        name: getattr(row, name)
        for name in (
            "code",
            "asset",
            "methodology_version",
            "methodology_digest",
            "programme",
            "scene_approval",
            "region_code",
            "gas_scope",
            "vintage_month",
        )
    }
