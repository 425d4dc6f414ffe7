"""From a text to a library in force: draft, review by another, publication by another.

The past of what credits changes only with a reason, by a restatement that is begun in the same
transaction; versions that were in force never change at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from services.calculation.domain.drafts import Draft, DraftState
from services.calculation.domain.editions import Line, in_force, past_changes, selection_of
from services.calculation.domain.faults import LibraryFault, LibraryInvalid
from services.calculation.domain.library import changed_versions
from services.calculation.domain.methodology import Library, Programme
from services.calculation.usecases.assess_events import month_of
from shared.refusal import CallerNotAllowed, FieldInvalid, ResourceNotFound, StateConflict


class Drafts(Protocol):
    """What publishing needs of drafts; see `storage.drafts.Drafts`."""

    def add(self, path: str, content: str, drafter: str, request_id: UUID) -> Draft: ...
    def find(self, draft: int) -> Draft | None: ...
    def review(self, draft: int, reviewer: str, note: str) -> Draft: ...
    def publish(self, draft: int, publisher: str) -> Draft: ...


class Shelf(Protocol):
    """The library that serves; see `storage.shelf.Shelf`."""

    @property
    def files(self) -> Mapping[str, str]: ...
    def load(self, changed: Mapping[str, str]) -> Library: ...
    def programme_of(self, library: Library) -> Programme: ...


class Editions(Protocol):
    """The record of what has served; see `storage.shelf.Editions`."""

    def lock(self) -> None: ...
    def newest_selection(self) -> list[Line] | None: ...
    def add(
        self, programme: Programme, publisher: str, *, draft: int | None, restatement: int | None
    ) -> int: ...
    def seal(self, versions: Mapping[str, str]) -> None: ...
    def sealed(self) -> list[tuple[str, str]]: ...


class Restatements(Protocol):
    """Where restatements are begun; see `storage.restatements.Restatements`."""

    def begin(self, order: RestatementOrder) -> int: ...


@dataclass(frozen=True)
class Reason:
    """Why the past changes, as customers will read it; "" where it does not."""

    zh: str
    en: str

    def __bool__(self) -> bool:
        return bool(self.zh.strip() and self.en.strip())


@dataclass(frozen=True)
class RestatementOrder:
    """A going over of the months from `first_month` (None: from the first on record) on."""

    first_month: int | None
    last_month: int
    requester: str
    reason: Reason
    request_id: UUID


@dataclass(frozen=True)
class Judged:
    """What a library would change: sentences about its past, and the first day that differs."""

    library: Library
    faults: tuple[LibraryFault, ...]
    past: tuple[str, ...]
    first_day: int | None


def judge_files(
    changed: Mapping[str, str], today: int, *, shelf: Shelf, editions: Editions
) -> Judged:
    """The library with other texts in it: its faults, and what of the past it would change.

    LibraryInvalid when a file does not load.
    """
    library = shelf.load(changed)
    programme = shelf.programme_of(library)
    file = min(changed, default="")
    changes = changed_versions(library, editions.sealed())
    faults = tuple(LibraryFault(file, 1, 1, said) for said in changes)
    before = editions.newest_selection()
    after = selection_of(programme)
    past, first = past_changes(after if before is None else before, after, today)
    return Judged(library, faults, tuple(past), first)


def draft_text(
    path: str,
    content: str,
    *,
    drafter: str,
    request_id: UUID,
    today: int,
    drafts: Drafts,
    shelf: Shelf,
    editions: Editions,
) -> Draft:
    """Keeps a text that loads; FieldInvalid says file, line and how to mend one that does not."""
    try:
        judged = judge_files({path: content}, today, shelf=shelf, editions=editions)
    except LibraryInvalid as error:
        raise FieldInvalid("content", str(error)) from error
    if judged.faults:
        raise FieldInvalid("content", str(judged.faults[0]))
    return drafts.add(path, content, drafter, request_id)


def review_draft(number: int, note: str, *, reviewer: str, drafts: Drafts) -> Draft:
    """Notes a review by somebody who did not draft it; a second review changes nothing."""
    draft = _found(number, drafts)
    if reviewer == draft.drafter:
        raise _same_person(reviewer, "review", "ReviewDraft")
    return drafts.review(number, reviewer, note) if draft.state == DraftState.DRAFT else draft


def publish_draft(
    number: int,
    reason: Reason,
    *,
    publisher: str,
    request_id: UUID,
    today: int,
    drafts: Drafts,
    shelf: Shelf,
    editions: Editions,
    restatements: Restatements,
) -> tuple[Draft, int | None]:
    """Puts a reviewed text in force; the draft, and the restatement that it began, if any.

    A text that changes what credited on a day before `today` needs a reason. StateConflict for
    a draft that nobody reviewed; CallerNotAllowed for its drafter. A second call changes nothing.
    """
    draft = _found(number, drafts)
    if publisher == draft.drafter:
        raise _same_person(publisher, "publish", "PublishDraft")
    if draft.state == DraftState.PUBLISHED:
        return draft, None
    if draft.state != DraftState.REVIEWED:
        raise StateConflict(
            f"drafts/{number} is not reviewed; let somebody other than {draft.drafter} review it",
            metadata={"state": "DRAFT"},
        )
    editions.lock()
    changed = {draft.path: draft.content}
    try:
        judged = judge_files(changed, today, shelf=shelf, editions=editions)
    except LibraryInvalid as error:
        raise StateConflict(f"the library has moved on: {error}") from error
    if judged.faults:
        raise StateConflict(str(judged.faults[0]))
    restatement = None
    if judged.past:
        order = RestatementOrder(
            month_of(judged.first_day or 0), month_of(today), publisher, reason, request_id
        )
        restatement = _begin(order, judged.past, restatements)
    published = drafts.publish(number, publisher)
    editions.add(
        shelf.programme_of(judged.library), publisher, draft=number, restatement=restatement
    )
    editions.seal(in_force(judged.library, today))
    return published, restatement


def _begin(order: RestatementOrder, past: tuple[str, ...], restatements: Restatements) -> int:
    if not order.reason:
        raise FieldInvalid(
            "reason_zh",
            f"this changes the past: {past[0]}; give reason_zh and reason_en, which customers "
            "will read, and what is recorded will be restated",
        )
    return restatements.begin(order)


def _found(number: int, drafts: Drafts) -> Draft:
    draft = drafts.find(number)
    if draft is None:
        raise ResourceNotFound(f"drafts/{number}", "ListDrafts lists what there is")
    return draft


def _same_person(who: str, verb: str, method: str) -> CallerNotAllowed:
    return CallerNotAllowed(
        f"{who} drafted this text and may not {verb} it; ask a second person",
        metadata={"caller": who, "method": method},
    )
