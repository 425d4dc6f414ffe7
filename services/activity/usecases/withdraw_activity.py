"""Taking an activity back: once, by whoever may, as one more fact of the feed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.activity.domain.activity import Activity, Fact
from shared.ids import account_name
from shared.refusal import CallerNotAllowed, ResourceNotFound


class Archive(Protocol):
    """What withdrawing reads; see `storage.archive.Archive`."""

    def find(self, account_id: int, key: bytes) -> tuple[int, Fact] | None: ...
    def read_one(self, account_id: int, key: bytes) -> Activity | None: ...


class Journal(Protocol):
    """What withdrawing writes; see `storage.journal.Journal`."""

    def next_batch(self) -> int: ...
    def note_withdrawal(self, withdrawal: Withdrawal, shard: int, ref: int) -> bool: ...
    def write_withdrawal(self, batch: int, taken_back: dict[str, int], target: int) -> None: ...


@dataclass(frozen=True)
class Withdrawal:
    """Who takes back which activity, and why; `source` is the code of a calling source."""

    account_id: int
    key: bytes
    actor: str
    cause: str
    source: int | None


def withdraw_activity(withdrawal: Withdrawal, *, archive: Archive, journal: Journal) -> Activity:
    """The activity, withdrawn; a second call changes nothing and returns the same.

    ResourceNotFound without such an activity of that account; CallerNotAllowed for a source
    that did not report it.
    """
    name = account_name(withdrawal.account_id)
    found = archive.find(withdrawal.account_id, withdrawal.key)
    if found is None:
        raise ResourceNotFound(
            f"that activity of {name}", "copy its name from the answer to recording"
        )
    ref, fact = found
    if withdrawal.source is not None and fact.columns["source"] != withdrawal.source:
        raise CallerNotAllowed(
            f"{withdrawal.actor} did not report this activity; a source withdraws its own only",
            metadata={"caller": withdrawal.actor, "method": "WithdrawActivity"},
        )
    if journal.note_withdrawal(withdrawal, fact.shard, ref):
        journal.write_withdrawal(journal.next_batch(), dict(fact.columns), fact.position)
    activity = archive.read_one(withdrawal.account_id, withdrawal.key)
    if activity is None:
        raise ResourceNotFound(f"that activity of {name}", "its details were erased")
    return activity
