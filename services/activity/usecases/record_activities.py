"""Recording: which reports become facts, and what each caller is told.

The journal is asked for what cannot simply be recorded; everything else is. Reports of one
transaction may meet each other (the same event twice, the same bill twice): the first of
each goes first, and the rest is judged again after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.activity.domain.batch import Batch, Columns, Judged, Outcome
from services.activity.domain.catalogue import Catalogue
from services.activity.domain.layout import places_of, reference
from shared.ids import SHARDS, account_name, from_us
from shared.refusal import (
    AccountNotOpen,
    ActAlreadyClaimed,
    ConsentMissing,
    Refusal,
    ResourceExists,
    ResourceNotFound,
    RetryLater,
)

_OPEN, _SUSPENDED = 1, 2


class Journal(Protocol):
    """What recording needs of storage; see `storage.journal.Journal`."""

    def projection_age_ms(self) -> float: ...
    def next_batch(self) -> int: ...
    def judge(self, reports: Columns) -> dict[int, tuple[int | None, int | None, bool]]: ...
    def take_claims(self, reports: Columns) -> NDArray[np.bool_]: ...
    def write_keys(self, reports: Columns, refs: NDArray[np.int64]) -> None: ...
    def write_details(self, reports: Columns, refs: NDArray[np.int64]) -> None: ...
    def write_runs(self, batch: int, reports: Columns) -> None: ...


def record_activities(
    batches: Sequence[Batch], *, journal: Journal, catalogue: Catalogue, staleness_max_ms: int
) -> list[Judged]:
    """Records what may be recorded of `batches`, in one transaction; one answer for each batch.

    Raises RetryLater, with nothing written, when the consents known here may be older than
    the bound: what cannot be judged is not refused.
    """
    reports = Columns.join([batch.columns for batch in batches])
    recorder = _Recorder(reports, journal, catalogue, staleness_max_ms)
    recorder.run()
    answers, start = [], 0
    for batch in batches:
        end = start + len(batch.columns)
        answers.append(recorder.answer(batch, start, end))
        start = end
    return answers


class _Recorder:
    """One transaction's reports on their way to being facts."""

    def __init__(
        self, reports: Columns, journal: Journal, catalogue: Catalogue, staleness_max_ms: int
    ) -> None:
        self._reports = reports
        self._journal = journal
        self._catalogue = catalogue
        self._staleness_max_ms = staleness_max_ms
        self._outcomes = np.zeros(len(reports), np.int8)
        self._refusals: dict[int, Refusal] = {}
        self._refs = np.zeros(len(reports), np.int64)
        self._taken = np.zeros(SHARDS, np.int64)
        self._batch = 0
        self._is_fresh = False
        self._recorded: list[NDArray[np.int64]] = []

    def run(self) -> None:
        """Decides every report and writes the facts."""
        pending = np.arange(len(self._reports))
        while len(pending):
            first, pending = _first_of_each(self._reports, pending)
            self._record(first)
        if self._batch:
            facts = np.concatenate(self._recorded)
            recorded = self._reports.take(facts)
            self._journal.write_details(recorded, self._refs[facts])
            self._journal.write_runs(self._batch, recorded)

    def answer(self, batch: Batch, start: int, end: int) -> Judged:
        """What became of the items of `batch`, whose columns are `start` to `end`."""
        outcomes = np.full(batch.items, Outcome.REFUSED, np.int8)
        outcomes[batch.rows] = self._outcomes[start:end]
        refusals = dict(batch.refusals)
        for row, refusal in self._refusals.items():
            if start <= row < end:
                refusals[int(batch.rows[row - start])] = refusal
        return Judged(outcomes, refusals, batch.columns.keys, batch.rows)

    def _record(self, rows: NDArray[np.int64]) -> None:
        """Decides `rows`, whose keys and claims are distinct."""
        reports = self._reports.take(rows)
        held_back = self._journal.judge(reports)
        if not self._is_fresh:
            self._check_freshness()
        for place, (content, state, known) in held_back.items():
            self._hold_back(int(rows[place]), content, state, known)
        rows = self._claim(np.delete(rows, list(held_back)))
        if not len(rows):
            return
        if not self._batch:
            self._batch = self._journal.next_batch()
        reports = self._reports.take(rows)
        self._refs[rows] = reference(self._batch, places_of(reports.shard, self._taken))
        self._journal.write_keys(reports, self._refs[rows])
        self._outcomes[rows] = Outcome.RECORDED
        self._recorded.append(rows)

    def _check_freshness(self) -> None:
        age_ms = self._journal.projection_age_ms()
        if age_ms > self._staleness_max_ms:
            raise RetryLater(
                f"consents are known here no fresher than {self._staleness_max_ms} ms ago and "
                "must be; nothing was recorded, send the same again",
                cause="consent projection is stale",
            )
        self._is_fresh = True

    def _claim(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of `rows` that claim nothing or hold what they claim; the others are refused."""
        claims = self._reports.has_claim[rows]
        if not claims.any():
            return rows
        claiming = rows[claims]
        lost = claiming[~self._journal.take_claims(self._reports.take(claiming))]
        for row in lost:
            self._refuse(int(row), self._claimed(int(row)))
        return np.setdiff1d(rows, lost)

    def _hold_back(self, row: int, content: int | None, state: int | None, known: bool) -> None:
        """Decides a report that cannot simply be recorded: repeated, or refused and why."""
        if content == self._reports.contents[row]:
            self._outcomes[row] = Outcome.REPEATED
        elif content is not None:
            self._refuse(row, self._conflict(row))
        elif not known:
            account = account_name(int(self._reports.account_id[row]))
            self._refuse(row, ResourceNotFound(account, "ask the customer to open it first"))
        elif state != _OPEN:
            self._refuse(row, self._not_open(row, state))
        else:
            self._refuse(row, self._no_consent(row))

    def _refuse(self, row: int, refusal: Refusal) -> None:
        self._outcomes[row] = Outcome.REFUSED
        self._refusals[row] = refusal

    def _conflict(self, row: int) -> Refusal:
        event_id = self._reports.event_ids[row]
        return ResourceExists(
            f"source_event_id {event_id!r} was recorded with other content; an event never "
            "changes: withdraw it and report the right one under a new id",
            field="source_event_id",
            metadata={"resource": event_id},
        )

    def _claimed(self, row: int) -> Refusal:
        scene = self._catalogue.scene_of_code(int(self._reports.scene[row])).name
        return ActAlreadyClaimed(
            f"another event of {scene} carries this claim; one physical act is credited once, "
            "so send it only if the first is withdrawn",
            field="claim",
            metadata={"scene": scene, "claim": "the one reported"},
        )

    def _not_open(self, row: int, state: int | None) -> Refusal:
        account = account_name(int(self._reports.account_id[row]))
        word = "suspended" if state == _SUSPENDED else "closed"
        return AccountNotOpen(
            f"{account} is {word}; activities are taken for open accounts only",
            field="account",
            metadata={"account": account, "state": word},
        )

    def _no_consent(self, row: int) -> Refusal:
        scene = self._catalogue.scene_of_code(int(self._reports.scene[row]))
        account = account_name(int(self._reports.account_id[row]))
        occur_time = from_us(int(self._reports.occur_time_us[row])).isoformat()
        return ConsentMissing(
            f"no consent of {account} to {scene.consent_scope} is in force and covers "
            f"{occur_time}; report only what the customer has agreed to",
            metadata={
                "account": account,
                "scene": scene.name,
                "scope": scene.consent_scope,
                "occur_time": occur_time,
            },
        )


def _first_of_each(
    reports: Columns, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Those of `rows` that are the first with their key and with their claim, and the rest."""
    first = _is_first(reports.keys[rows])
    claims = reports.has_claim[rows]
    if claims.any():
        first_claim = np.ones(len(rows), np.bool_)
        first_claim[claims] = _is_first(reports.claims[rows][claims])
        first &= first_claim
    return rows[first], rows[~first]


def _is_first(digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of these 16-byte digests do not occur before."""
    _, index = np.unique(np.ascontiguousarray(digests).view("V16")[:, 0], return_index=True)
    first = np.zeros(len(digests), np.bool_)
    first[index] = True
    return first
