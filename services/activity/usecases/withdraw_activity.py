"""Taking an activity back: once, by whoever may, as one more fact of the feed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.activity.domain.activity import Activity, Fact, Named
from services.activity.domain.catalogue import Catalogue, Source
from shared.ids import account_name
from shared.personal import looks_personal
from shared.refusal import CallerNotAllowed, FieldInvalid, ResourceNotFound


class Archive(Protocol):
    """What withdrawing reads; see `storage.archive.Archive`."""

    def find(self, key: bytes) -> tuple[int, Fact] | None: ...
    def read_one(self, key: bytes) -> Activity | None: ...


class Journal(Protocol):
    """What withdrawing writes; see `storage.journal.Journal`."""

    def next_batch(self) -> int: ...
    def note_withdrawal(self, withdrawal: Withdrawal, shard: int, ref: int) -> bool: ...
    def write_withdrawal(self, batch: int, taken_back: dict[str, int], target: int) -> None: ...


@dataclass(frozen=True)
class Withdrawal:
    """Who takes back which activity, and why; `source` is set when a source calls."""

    named: Named
    actor: str
    cause: str
    source: Source | None


def withdraw_activity(
    withdrawal: Withdrawal, *, archive: Archive, journal: Journal, catalogue: Catalogue
) -> Activity:
    """The activity, withdrawn; a second call changes nothing and returns the same.

    ResourceNotFound without such an activity below that name; CallerNotAllowed for a source
    that did not report it or that names riders by subject and asks below an account;
    FieldInvalid for a cause that holds a personal number.
    """
    if looks_personal(withdrawal.cause):
        raise FieldInvalid(
            "cause", "cause holds a phone, card or identity number; say why without naming anybody"
        )
    named, source = withdrawal.named, withdrawal.source
    if source is not None and source.by_subject and not named.source:
        # Whoever may ask below an account learns, from the answer, whose an activity is.
        raise CallerNotAllowed(
            f"name is below an account; {source.name} names its activities "
            f"{source.name}/activities/{{activity}}, as recording answered",
            metadata={"caller": source.name, "method": "WithdrawActivity"},
        )
    found = archive.find(named.key)
    if found is None or not _is_below(found[1], named, catalogue):
        where = named.source or account_name(named.account_id)
        raise ResourceNotFound(
            f"that activity of {where}", "copy its name from the answer to recording"
        )
    ref, fact = found
    if source is not None and fact.columns["source"] != source.code:
        raise CallerNotAllowed(
            f"{withdrawal.actor} did not report this activity; a source withdraws its own only",
            metadata={"caller": withdrawal.actor, "method": "WithdrawActivity"},
        )
    if journal.note_withdrawal(withdrawal, fact.shard, ref):
        journal.write_withdrawal(journal.next_batch(), dict(fact.columns), fact.position)
    activity = archive.read_one(named.key)
    if activity is None:
        raise ResourceNotFound("that activity", "its details were erased")
    return activity


def _is_below(fact: Fact, named: Named, catalogue: Catalogue) -> bool:
    if named.source:
        return catalogue.source_of_code(fact.columns["source"]).name == named.source
    return fact.columns["account_id"] == named.account_id
