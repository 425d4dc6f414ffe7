"""Group commit of what callers sent: lanes are checked and moved with the facts they bring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from services.activity.domain.batch import Batch, Judged
from services.activity.domain.catalogue import Catalogue
from services.activity.usecases.record_activities import Journal, record_activities
from shared.refusal import LaneTakenOver, OffsetOutOfRange, Refusal, RetryLater

ATTEMPTS_MAX = 5

LaneKey = tuple[int, str]
"""Source code and the lane's name."""


class KeyRaced(Exception):
    """Another transaction wrote one of our keys since we looked; roll back and look again."""


class LaneJournal(Journal, Protocol):
    """A journal that also keeps lanes."""

    def lock_lanes(self, lanes: Sequence[LaneKey]) -> dict[LaneKey, tuple[int, int]]: ...
    def move_lanes(self, offsets: Mapping[LaneKey, int]) -> None: ...


@dataclass(frozen=True)
class Append:
    """Where in its lane a batch belongs; `epoch` is the stream that sends it."""

    lane: LaneKey
    epoch: int
    offset: int


@dataclass(frozen=True)
class Submission:
    """One caller's batch; `append` is set when it came through a lane."""

    batch: Batch
    append: Append | None = None


@dataclass(frozen=True)
class Receipt:
    """What became of a submission; `next_offset` is where its lane goes on."""

    judged: Judged
    next_offset: int = 0


def commit_submissions(
    submissions: Sequence[Submission],
    *,
    work: Callable[[], AbstractContextManager[LaneJournal]],
    catalogue: Catalogue,
    staleness_max_ms: int,
) -> list[Receipt | Exception]:
    """One durable transaction for all of `submissions`, in order; an answer for each.

    A submission whose lane was taken over or whose offset lies ahead is refused by itself.
    """
    for _ in range(ATTEMPTS_MAX):
        try:
            with work() as journal:
                return _commit(submissions, journal, catalogue, staleness_max_ms)
        except KeyRaced:
            continue
    raise RetryLater(
        f"the same events kept arriving from elsewhere, {ATTEMPTS_MAX} times; send them again",
        cause="race for event keys",
    )


def _commit(
    submissions: Sequence[Submission],
    journal: LaneJournal,
    catalogue: Catalogue,
    staleness_max_ms: int,
) -> list[Receipt | Exception]:
    lanes = sorted({entry.append.lane for entry in submissions if entry.append})
    held = journal.lock_lanes(lanes) if lanes else {}
    offsets = {lane: next_offset for lane, (next_offset, _) in held.items()}
    answers: list[Receipt | Exception | None] = []
    admitted: list[tuple[int, Submission, int]] = []
    for place, entry in enumerate(submissions):
        refusal = _check(entry.append, held, offsets) if entry.append else None
        answers.append(refusal)
        if refusal is None:
            next_offset = 0
            if entry.append:
                end = entry.append.offset + entry.batch.items
                next_offset = max(offsets[entry.append.lane], end)
                offsets[entry.append.lane] = next_offset
            admitted.append((place, entry, next_offset))
    if admitted:
        judged = record_activities(
            [entry.batch for _, entry, _ in admitted],
            journal=journal,
            catalogue=catalogue,
            staleness_max_ms=staleness_max_ms,
        )
        for (place, _, next_offset), outcome in zip(admitted, judged, strict=True):
            answers[place] = Receipt(outcome, next_offset)
        journal.move_lanes(
            {lane: offset for lane, offset in offsets.items() if offset != held[lane][0]}
        )
    return [answer for answer in answers if answer is not None]


def _check(
    append: Append, held: Mapping[LaneKey, tuple[int, int]], offsets: Mapping[LaneKey, int]
) -> Refusal | None:
    lane = append.lane[1]
    if held[append.lane][1] != append.epoch:
        return LaneTakenOver(
            f"lane {lane!r} was opened by another stream; this one is over",
            metadata={"lane": lane},
        )
    if append.offset > offsets[append.lane]:
        return OffsetOutOfRange(
            f"the append starts at {append.offset} and lane {lane!r} goes on at "
            f"{offsets[append.lane]}; send what lies between first",
            metadata={"next_offset": offsets[append.lane], "offset": append.offset},
        )
    return None
