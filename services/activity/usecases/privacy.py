"""What a person may ask of activity: all that is kept about them, or that it is destroyed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from services.activity.domain.activity import AccountState, Activity
from services.activity.domain.keys import activity_id
from shared.ids import account_name, from_us
from shared.privacy import Erased, Item, Kept, Table
from shared.refusal import StateConflict

PAGE = 500
ERASED_TOGETHER = 1_000  # nobody records meanwhile
_ACTIVITY = (
    "name", "scene", "source", "measures", "labels", "occur_time", "record_time", "region_code",
    "evidence_grade", "state", "position", "withdraw_time", "withdrawn_by", "withdraw_cause",
)  # fmt: skip
_KEPT = (
    Kept(
        "the skeleton of each activity under the account's number: civil day, scene, source, "
        "region, evidence grade, measures, label, when it was recorded",
        "the ledger rests on it",
    ),
    Kept(
        "keyed digests of what sources called their events and of physical acts",
        "so that the same act is never credited again, to whomever",
    ),
    Kept(
        "that an activity was withdrawn, when, and by what kind of caller",
        "the ledger's correction rests on it",
    ),
)
_GRADES = {1: "EVIDENCE_GRADE_RECORDED", 2: "EVIDENCE_GRADE_SHOWN", 3: "EVIDENCE_GRADE_DECLARED"}


class Archive(Protocol):
    """What exporting reads; see `storage.archive.Archive`."""

    def read_page(
        self, account_id: int, limit: int, after: tuple[int, ...] | None
    ) -> list[Activity]: ...


class Details(Protocol):
    """What erasing needs of storage; see `storage.details.Details`."""

    def read_state(self, account_id: int) -> int | None: ...
    def erase(self, account_id: int, limit: int) -> tuple[int, int]: ...


def export_account(account_id: int, *, archive: Archive) -> Iterator[Item]:
    """Every activity of the account, latest civil day first, withdrawn ones too; `withdraw_time`,
    `withdrawn_by` and `withdraw_cause` are empty for one that stands. Read a page at a time."""
    yield Table("activities", _ACTIVITY, _activities(account_id, archive))


def erase_account(
    account_id: int, *, work: Callable[[], AbstractContextManager[Details]]
) -> Erased:
    """Deletes the details of every activity of an erased account, some in a transaction; to ask
    again deletes what is left, which is nothing.

    StateConflict while identity has not said here that the account is erased; RetryLater when
    a recording that began before does not end. What is recorded later sees the erasure.
    """
    with work() as details:
        state = details.read_state(account_id)
    if state != AccountState.ERASED:
        name = account_name(account_id)
        said = "unknown" if state is None else AccountState(state).name.lower()
        raise StateConflict(
            f"{name} is {said} as far as activity has followed identity; erase it there first "
            "and ask again",
            metadata={"resource": name, "state": said, "wanted": "erased"},
        )
    counts = {"activity-details": 0, "withdrawal-causes": 0}
    while True:
        with work() as details:
            activities, causes = details.erase(account_id, ERASED_TOGETHER)
        counts["activity-details"] += activities
        counts["withdrawal-causes"] += causes
        if activities < ERASED_TOGETHER:
            return Erased(counts, _KEPT)


def _activities(account_id: int, archive: Archive) -> Iterator[tuple[object, ...]]:
    after: tuple[int, ...] | None = None
    while page := archive.read_page(account_id, PAGE, after):
        yield from map(_row, page)
        after = page[-1].place


def _row(activity: Activity) -> tuple[object, ...]:
    back = activity.taken_back
    return (
        f"{account_name(activity.account_id)}/activities/{activity_id(activity.key)}",
        activity.scene,
        activity.source,
        activity.measures,
        activity.labels,
        from_us(activity.occur_time_us),
        from_us(activity.record_time_us),
        f"{activity.region:06d}" if activity.region else "",
        _GRADES[activity.evidence_grade],
        "STATE_RECORDED" if back is None else "STATE_WITHDRAWN",
        activity.position,
        back and from_us(back.withdraw_time_us),
        back.actor if back else "",
        back.cause if back else "",
    )
