"""Communities: opt-in groups that show totals and never a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from services.identity.domain.digest import keyed_digest
from shared.ids import encode32

COMMUNITIES_MAX = 20
"""Communities that one account belongs to at a time."""
SHOWN_FROM = 10
"""So many members a community has before it says how many."""
COMMUNITY = "community"
"""The purpose of the codes, in their digests and refusals."""


class CommunityKind(IntEnum):
    """What binds the members; the numbers are those of the contract."""

    ESTATE = 1
    COMPANY = 2
    SCHOOL = 3


@dataclass(frozen=True)
class Community:
    """A group; `members` counts those who belong to it now."""

    community_id: int
    kind: CommunityKind
    title_zh: str
    title_en: str
    members: int = 0

    @property
    def member_count(self) -> int | None:
        """How many belong to it; None while that would say too much about each of them."""
        return self.members if self.members >= SHOWN_FROM else None


@dataclass(frozen=True)
class Membership:
    """An account in a community, now or once, numbered from 1 within the account."""

    account_id: int
    number: int
    community_id: int
    join_time: datetime
    leave_time: datetime | None = None


def community_id_for(secret: bytes, key: bytes) -> int:
    """The number of the community that the request of this key makes, 1 to 2**63 - 1."""
    return int.from_bytes(keyed_digest(secret, COMMUNITY, key)[:8]) >> 1 or 1


def community_name(community_id: int) -> str:
    """`communities/{community}` of a community number."""
    return "communities/" + encode32(community_id, 13)
