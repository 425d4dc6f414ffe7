"""Texts of library files on their way into force."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum


class DraftState(IntEnum):
    """The life of a text; the numbers are those of the contract."""

    DRAFT = 1
    REVIEWED = 2
    PUBLISHED = 3


@dataclass(frozen=True)
class Draft:
    """A text for one file of the library; times are None where it has not come so far."""

    draft: int
    state: int
    path: str
    content: str
    drafter: str
    reviewer: str
    publisher: str
    review_note: str
    draft_time: datetime
    review_time: datetime | None
    publish_time: datetime | None
