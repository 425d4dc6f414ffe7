"""Reports as columns: what was read of a request, before anything is decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from shared.refusal import Refusal


class Outcome(IntEnum):
    """What became of one report; the numbers are those of the acknowledgement."""

    RECORDED = 1
    REPEATED = 2
    REFUSED = 3


class Kind(IntEnum):
    """What an event of the feed says."""

    RECORDED = 1
    WITHDRAWN = 2


@dataclass(frozen=True)
class Columns:
    """Well-formed reports, one element each, all arrays of one length n.

    `keys`, `claims` and `subjects` are uint8 of shape (n, 16): keyed digests of (source,
    source_event_id), of the physical act (zero where the scene has none), and of the source's
    own name of its user (zero where it named the account); `contents` digests what was
    reported; times are microseconds since 1970, days civil days in UTC+8. `account_id` is 0
    until a subject is resolved.
    """

    keys: NDArray[np.uint8]
    contents: NDArray[np.int64]
    claims: NDArray[np.uint8]
    subjects: NDArray[np.uint8]
    account_id: NDArray[np.int64]
    scene: NDArray[np.int64]
    scope: NDArray[np.int64]
    source: NDArray[np.int64]
    region: NDArray[np.int64]
    evidence_grade: NDArray[np.int64]
    occur_time_us: NDArray[np.int64]
    civil_day: NDArray[np.int64]
    measure_1: NDArray[np.int64]
    measure_2: NDArray[np.int64]
    label_1: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.contents)

    @property
    def shard(self) -> NDArray[np.int64]:
        """Shard of each account."""
        return self.account_id & 63

    @property
    def key_shard(self) -> NDArray[np.int64]:
        """Shard of each key, which is a hash and so spreads evenly."""
        return self.keys[:, 0].astype(np.int64) & 63

    @property
    def claim_shard(self) -> NDArray[np.int64]:
        """Shard of each claim."""
        return self.claims[:, 0].astype(np.int64) & 63

    @property
    def subject_shard(self) -> NDArray[np.int64]:
        """Shard of each subject."""
        return self.subjects[:, 0].astype(np.int64) & 63

    @property
    def has_claim(self) -> NDArray[np.bool_]:
        """Which reports claim a physical act."""
        return _set(self.claims)

    @property
    def has_subject(self) -> NDArray[np.bool_]:
        """Which reports name a subject and no account."""
        return _set(self.subjects)

    def take(self, rows: NDArray[np.int64]) -> Columns:
        """The reports at `rows`, in that order."""
        return Columns(**{name: column[rows] for name, column in vars(self).items()})

    @staticmethod
    def join(parts: Sequence[Columns]) -> Columns:
        """All reports of `parts`, in order."""
        if len(parts) == 1:
            return parts[0]
        names = vars(parts[0])
        return Columns(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        )


def _set(digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of these are digests and not just zeros."""
    found: NDArray[np.bool_] = np.any(digests != 0, axis=1)
    return found


@dataclass(frozen=True)
class Batch:
    """The reports of one request: `columns` of the well-formed ones, `rows` says which item
    of the request each is, and `refusals` (item -> why) holds the others.

    `late_claims` makes the claims of those columns that name a subject and whose scene tells
    acts apart by account: from the account's number, once that is known.
    """

    items: int
    columns: Columns
    rows: NDArray[np.int64]
    refusals: dict[int, Refusal] = field(default_factory=dict)
    late_claims: dict[int, Callable[[int], bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """What became of each item of one request, in order; `keys` are those of the well-formed
    ones and `rows` says which item each is."""

    outcomes: NDArray[np.int8]
    refusals: dict[int, Refusal]
    keys: NDArray[np.uint8]
    rows: NDArray[np.int64]
