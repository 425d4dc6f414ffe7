"""Recording: which reports become facts, and what each caller is told.

The journal is asked for what cannot simply be recorded; everything else is. Reports of one
transaction may meet each other (the same event twice, the same bill twice): the first of
each goes first, and the rest is judged again after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.activity.domain.activity import AccountState
from services.activity.domain.batch import Batch, Columns, Judged, Outcome
from services.activity.domain.catalogue import Catalogue
from services.activity.domain.keys import activity_id
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
    SubjectNotBound,
)


class Journal(Protocol):
    """What recording needs of storage; see `storage.journal.Journal`."""

    def projection_age_ms(self) -> float: ...
    def next_batch(self) -> int: ...
    def resolve(self, reports: Columns) -> NDArray[np.int64]: ...
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
    reports = _resolved(batches, journal)
    recorder = _Recorder(reports, journal, catalogue, staleness_max_ms)
    recorder.run()
    answers, start = [], 0
    for batch in batches:
        end = start + len(batch.columns)
        answers.append(recorder.answer(batch, start, end))
        start = end
    return answers


def _resolved(batches: Sequence[Batch], journal: Journal) -> Columns:
    """All reports of `batches`, in order, with the accounts that subjects are bound to now; 0
    stays where there is none."""
    reports = Columns.join([batch.columns for batch in batches])
    rows = np.flatnonzero(reports.has_subject)
    if not len(rows):
        return reports
    # New arrays: batches are read again when this transaction has to be done once more.
    account_id = reports.account_id.copy()
    account_id[rows] = journal.resolve(reports.take(rows))
    claims, start = reports.claims, 0
    for batch in batches:
        if batch.late_claims:
            claims = claims.copy()
        for row, claim_key in batch.late_claims.items():
            if account := int(account_id[start + row]):
                claims[start + row] = np.frombuffer(claim_key(account), np.uint8)
        start += len(batch.columns)
    return replace(reports, account_id=account_id, claims=claims)


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
            self._refuse(row, self._unknown(row))
        elif state is not None and state != AccountState.OPEN:
            self._refuse(row, self._not_open(row, AccountState(state)))
        else:
            self._refuse(row, self._no_consent(row))

    def _refuse(self, row: int, refusal: Refusal) -> None:
        self._outcomes[row] = Outcome.REFUSED
        self._refusals[row] = refusal

    def _conflict(self, row: int) -> Refusal:
        # Below its source, because the account that it was recorded for may be another one.
        name = f"{self._source(row)}/activities/{activity_id(self._reports.keys[row].tobytes())}"
        return ResourceExists(
            f"this source_event_id was recorded with other content, as {name}; an event never "
            "changes: withdraw it and report the right one under a new id",
            field="source_event_id",
            metadata={"resource": name},
        )

    def _unknown(self, row: int) -> Refusal:
        if not self._reports.subjects[row].any():
            account = account_name(int(self._reports.account_id[row]))
            return ResourceNotFound(account, "ask the customer to open it first")
        return SubjectNotBound(
            "the subject is bound to no account now; let the customer give you a one-time code, "
            "confirm the binding with it, and send this again",
            field="subject",
            metadata={"partner": self._source(row)},
        )

    def _claimed(self, row: int) -> Refusal:
        scene = self._catalogue.scene_of_code(int(self._reports.scene[row])).name
        return ActAlreadyClaimed(
            f"another event of {scene} carries this claim; one physical act is credited once, "
            "so send it only if the first is withdrawn",
            field="claim",
            metadata={"scene": scene, "claim": "the one reported"},
        )

    def _not_open(self, row: int, state: AccountState) -> Refusal:
        account, said = self._account(row)
        word = state.name.lower()
        return AccountNotOpen(
            f"{said} is {word}; activities are taken for open accounts only",
            field="account" if account else "subject",
            metadata={"account": account, "state": word},
        )

    def _no_consent(self, row: int) -> Refusal:
        scene = self._catalogue.scene_of_code(int(self._reports.scene[row]))
        account, said = self._account(row)
        occur_time = from_us(int(self._reports.occur_time_us[row])).isoformat()
        return ConsentMissing(
            f"no consent of {said} to {scene.consent_scope} is in force and covers "
            f"{occur_time}; report only what the customer has agreed to",
            metadata={
                "account": account,
                "scene": scene.name,
                "scope": scene.consent_scope,
                "occur_time": occur_time,
            },
        )

    def _account(self, row: int) -> tuple[str, str]:
        """The account's name, and what to call it; whoever named a subject never learns it."""
        if self._reports.subjects[row].any():
            return "", "the account of this subject"
        name = account_name(int(self._reports.account_id[row]))
        return name, name

    def _source(self, row: int) -> str:
        return self._catalogue.source_of_code(int(self._reports.source[row])).name


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
