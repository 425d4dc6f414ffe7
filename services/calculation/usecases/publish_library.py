"""From a text to a library in force: draft, review by another, publication by another.

The past of what credits changes only with a reason, by a restatement that is begun in the same
transaction; versions that were in force never change at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.calculation.domain.drafts import Draft, DraftState
from services.calculation.domain.editions import (
    Line,
    facts_changed,
    in_force,
    past_changes,
    selection_of,
)
from services.calculation.domain.faults import LibraryFault, LibraryInvalid
from services.calculation.domain.methodology import Library, Programme
from services.calculation.usecases.assess_events import month_of
from shared.refusal import (
    CallerNotAllowed,
    FieldInvalid,
    RequestIdReused,
    ResourceNotFound,
    StateConflict,
)


class Drafts(Protocol):
    """What publishing needs of drafts; see `storage.drafts.Drafts`."""

    def add(self, path: str, content: str, drafter: str, request_id: UUID) -> Draft: ...
    def find(self, draft: int) -> Draft | None: ...
    def made_by(self, request_id: UUID) -> Draft | None: ...
    def published_since(self, path: str, moment: datetime) -> int | None: ...
    def review(self, draft: int, reviewer: str, note: str) -> Draft: ...
    def publish(self, draft: int, publisher: str) -> Draft: ...


class Shelf(Protocol):
    """The library that serves; see `storage.shelf.Shelf`."""

    @property
    def files(self) -> Mapping[str, str]: ...
    @property
    def library(self) -> Library: ...
    def load(self, changed: Mapping[str, str]) -> Library: ...
    def programme_of(self, library: Library) -> Programme: ...


class Editions(Protocol):
    """The record of what has served; see `storage.shelf.Editions`."""

    def lock(self) -> None: ...
    def newest_selection(self) -> list[Line] | None: ...
    def restatement_of(self, draft: int) -> int | None: ...
    def add(
        self, programme: Programme, publisher: str, *, draft: int | None, restatement: int | None
    ) -> int: ...
    def seal(self, versions: Mapping[str, str]) -> None: ...
    def sealed(self) -> list[tuple[str, str]]: ...


class Restatements(Protocol):
    """Where restatements are begun; see `storage.restatements.Restatements`."""

    def under_way(self) -> int | None: ...
    def begin(self, order: RestatementOrder) -> int: ...
    def begun_by(self, request_id: UUID) -> int | None: ...


@dataclass(frozen=True)
class Reason:
    """Why the past changes, as customers will read it; "" where it does not."""

    zh: str
    en: str

    def __bool__(self) -> bool:
        return not self.missing

    @property
    def missing(self) -> str:
        """The field that says nothing; "" where both say why."""
        return ("" if self.en.strip() else "reason_en") if self.zh.strip() else "reason_zh"


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
    faults = tuple(facts_changed(library, _facts(shelf, editions, today), changed))
    before = editions.newest_selection()
    after = selection_of(programme)
    past, first = past_changes(after if before is None else before, after, today)
    return Judged(library, faults, tuple(past), first)


def _facts(shelf: Shelf, editions: Editions, today: int) -> Iterable[tuple[str, str]]:
    """Versions that were in force; some came into force since anything was last sealed."""
    return {*editions.sealed(), *in_force(shelf.library, today).items()}


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
    """Keeps a text that loads; FieldInvalid says file, line and how to mend one that does not.

    The same request is answered with its draft, wherever that is in its life by now.
    """
    draft = drafts.made_by(request_id)
    if draft is None:
        try:
            judged = judge_files({path: content}, today, shelf=shelf, editions=editions)
        except LibraryInvalid as error:
            raise FieldInvalid("file.content", str(error)) from error
        if judged.faults:
            raise FieldInvalid("file.content", str(judged.faults[0]))
        draft = drafts.add(path, content, drafter, request_id)
    if (draft.path, draft.content, draft.drafter) != (path, content, drafter):
        raise request_reused("DraftLibraryFile")
    return draft


def review_draft(number: int, note: str, *, reviewer: str, drafts: Drafts) -> Draft:
    """Notes a review by somebody who did not draft it; a second review changes nothing."""
    draft = _found(number, drafts)
    if reviewer == draft.drafter:
        raise _same_person(reviewer, "review", "ReviewLibraryDraft")
    return drafts.review(number, reviewer, note) if draft.state == DraftState.DRAFT else draft


def publish_draft(
    number: int,
    reason: Reason,
    *,
    publisher: str,
    request_id: UUID,
    today: int,
    refresh: Callable[[], object],
    drafts: Drafts,
    shelf: Shelf,
    editions: Editions,
    restatements: Restatements,
) -> tuple[Draft, int | None]:
    """Puts a reviewed text in force; the draft, and the restatement that it began, if any.

    A text that changes what credited on a day up to `today` needs a reason. StateConflict for
    a draft that nobody reviewed, or that does not fit what was published since; CallerNotAllowed
    for its drafter. A second call changes nothing. `refresh` brings the shelf up to date.
    """
    draft = _found(number, drafts)
    if publisher == draft.drafter:
        raise _same_person(publisher, "publish", "PublishLibraryDraft")
    if draft.state == DraftState.PUBLISHED:
        return draft, editions.restatement_of(number)
    if draft.state != DraftState.REVIEWED:
        who = f"let somebody other than {draft.drafter} review it"
        raise _conflict(draft, f"drafts/{number} is not reviewed; {who}")
    editions.lock()
    refresh()  # what others published is judged together with this, though nobody looked yet
    judged = _judge_again(draft, today, drafts=drafts, shelf=shelf, editions=editions)
    restatement = None
    if judged.past:
        order = RestatementOrder(
            month_of(judged.first_day or 0), month_of(today), publisher, reason, request_id
        )
        restatement = _begin(draft, order, judged.past, restatements)
    published = drafts.publish(number, publisher)
    editions.add(
        shelf.programme_of(judged.library), publisher, draft=number, restatement=restatement
    )
    editions.seal(in_force(judged.library, today))
    return published, restatement


def _judge_again(
    draft: Draft, today: int, *, drafts: Drafts, shelf: Shelf, editions: Editions
) -> Judged:
    newer = drafts.published_since(draft.path, draft.draft_time)
    if newer is not None:
        raise _conflict(
            draft,
            f"drafts/{newer} was published as {draft.path} after drafts/{draft.draft} was drafted, "
            "which would undo it; draft your change again on top of that text",
        )
    try:
        judged = judge_files({draft.path: draft.content}, today, shelf=shelf, editions=editions)
    except LibraryInvalid as error:
        raise _conflict(draft, f"the library has moved on: {error}") from error
    if judged.faults:
        raise _conflict(draft, str(judged.faults[0]))
    return judged


def _begin(
    draft: Draft, order: RestatementOrder, past: tuple[str, ...], restatements: Restatements
) -> int:
    if not order.reason:
        raise FieldInvalid(
            order.reason.missing,
            f"this changes the past: {past[0]}; give {order.reason.missing}, which customers "
            "will read, and what is recorded will be restated",
        )
    if restatements.begun_by(order.request_id) is not None:
        raise request_reused("PublishLibraryDraft")
    under_way = restatements.under_way()
    if under_way is not None:
        # Pieces run under the library of the day: one reason would be told for both changes.
        raise _conflict(
            draft,
            f"restatements/{under_way} is under way and this changes the past again; publish it "
            "when GetRestatement says done",
        )
    return restatements.begin(order)


def _found(number: int, drafts: Drafts) -> Draft:
    draft = drafts.find(number)
    if draft is None:
        raise ResourceNotFound(f"drafts/{number}", "ListLibraryDrafts lists what there is")
    return draft


def _same_person(who: str, verb: str, method: str) -> CallerNotAllowed:
    return CallerNotAllowed(
        f"{who} drafted this text and may not {verb} it; ask a second person",
        metadata={"caller": who, "method": method},
    )


def _conflict(draft: Draft, message: str) -> StateConflict:
    state, wanted = DraftState(draft.state).name, "REVIEWED, of the library as it is"
    told = {"resource": f"drafts/{draft.draft}", "state": state, "wanted": wanted}
    return StateConflict(message, metadata=told)


def request_reused(method: str) -> RequestIdReused:
    """The refusal of a request_id that was used with other content."""
    return RequestIdReused(
        "request_id was used with another method or content; make a new one",
        field="request_id",
        metadata={"method": method},
    )
