"""Opening the library at start: nothing that was in force may have changed unseen."""

from __future__ import annotations

from uuid import uuid4

from services.calculation.domain.editions import in_force, past_changes, selection_of
from services.calculation.domain.library import changed_versions
from services.calculation.domain.methodology import Library, Programme
from services.calculation.usecases.assess_events import month_of
from services.calculation.usecases.publish_library import (
    Editions,
    Reason,
    RestatementOrder,
    Restatements,
)

SHIPPED = "the shipped files"


class LibraryRefused(Exception):
    """The library must not serve; the text says why and what to do."""


def open_library(
    library: Library,
    programme: Programme,
    reason: Reason,
    today: int,
    *,
    editions: Editions,
    restatements: Restatements,
) -> int | None:
    """Notes the library as it begins to serve; the restatement that its past asks for, if any.

    LibraryRefused when a version that was in force has another text, or when what credited in
    the past differs and no reason is given.
    """
    editions.lock()
    changed = changed_versions(library, editions.sealed())
    if changed:
        raise LibraryRefused("\n".join(changed))
    before, after = editions.newest_selection(), selection_of(programme)
    past, first = past_changes(after if before is None else before, after, today)
    restatement = None
    if past:
        if not reason:
            raise LibraryRefused(
                "\n".join(past) + "\nthis library changes what credited in the past; put it back, "
                "begin the change after today, or give the reason that customers will read in "
                "CARBONACCOUNT_CALCULATION_RESTATE_REASON_ZH and _EN: then it is restated"
            )
        # Of several workers that start at once the first does this, and the others see no change.
        order = RestatementOrder(month_of(first or 0), month_of(today), SHIPPED, reason, uuid4())
        restatement = restatements.begin(order)
    if before != after:
        editions.add(programme, SHIPPED, draft=None, restatement=restatement)
    editions.seal(in_force(library, today))
    return restatement
