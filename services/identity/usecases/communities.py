"""Making communities, joining and leaving them, and reading what they show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.identity.domain.account import Account, Consent, Event, Happened, Kind
from services.identity.domain.codes import code_digest, make_code
from services.identity.domain.community import (
    COMMUNITIES_MAX,
    COMMUNITY,
    Community,
    CommunityKind,
    Membership,
    community_id_for,
    community_name,
)
from services.identity.usecases.acting import (
    Register,
    Request,
    actor_of,
    claim,
    decider,
    hold,
    read_for,
    require_open,
)
from shared.clock import ClockUs
from shared.ids import account_name, from_us
from shared.refusal import CodeInvalid, LimitReached, ResourceNotFound, StateConflict


class Communities(Protocol):
    """What these use cases need of storage; see `storage.communities.CommunityStore`."""

    def add(self, community: Community, code: bytes, now: datetime) -> None: ...
    def read(self, community_ids: Sequence[int]) -> dict[int, Community]: ...
    def find(self, code: bytes) -> int | None: ...
    def memberships(self, account_id: int) -> list[Membership]: ...
    def join(self, membership: Membership) -> None: ...
    def leave(self, account_id: int, now: datetime, *, number: int | None = None) -> list[int]: ...


def create_community(
    request: Request,
    kind: CommunityKind,
    title_zh: str,
    title_en: str,
    *,
    register: Register,
    communities: Communities,
    secret: bytes,
    clock: ClockUs,
) -> tuple[Community, str]:
    """The community and the code that joins it; a retry makes no other.

    Both come from the request, so the code is shown to whoever can repeat it and kept nowhere.
    """
    community_id = community_id_for(secret, request.key)
    code = make_code(secret, COMMUNITY, request.key)
    # The request is nobody's: no account's erasure takes it.
    if claim(request, 0, register, clock) is None:
        made = Community(community_id, kind, title_zh, title_en)
        communities.add(made, code_digest(secret, COMMUNITY, code), from_us(clock()))
    return get_community(community_id, communities=communities), code


def get_community(community_id: int, *, communities: Communities) -> Community:
    """The community as it stands; RESOURCE_NOT_FOUND without one."""
    found = communities.read([community_id])
    if community_id not in found:
        raise ResourceNotFound(community_name(community_id))
    return found[community_id]


def join_community(
    request: Request,
    account_id: int,
    code: str,
    *,
    register: Register,
    communities: Communities,
    secret: bytes,
    clock: ClockUs,
) -> Community:
    """The community of the code, to which the account belongs from now on.

    Joining twice changes nothing, and neither does a retry after leaving.
    """
    known = claim(request, account_id, register, clock)
    account, now = hold(account_id, register, clock)
    actor = decider(request, account, now, register=register)
    memberships = communities.memberships(account_id)
    if known is not None:
        made = next(one for one in memberships if one.number == known)
        return get_community(made.community_id, communities=communities)
    require_open(account)
    if account.kind is not Kind.PERSONAL:
        name = account_name(account_id)
        raise StateConflict(
            f"{name} is a household's, and persons join communities; join with a member's account",
            metadata={"resource": name, "state": "household", "wanted": "personal"},
        )
    community_id = communities.find(code_digest(secret, COMMUNITY, code))
    if community_id is None:
        raise CodeInvalid(
            "this code belongs to no community; ask those who gave it for the right one",
            field="code",
            metadata={"kind": f"{COMMUNITY} code"},
        )
    current = [one for one in memberships if one.leave_time is None]
    joined = next((one for one in current if one.community_id == community_id), None)
    if joined is None:
        _require_room(len(current))
        number = memberships[0].number + 1 if memberships else 1
        joined = Membership(account_id, number, community_id, now)
        communities.join(joined)
        register.note(account_id, [Happened(Event.COMMUNITY_JOINED, number)], actor, now)
    register.answer_request(request.key, joined.number)
    return get_community(community_id, communities=communities)


def leave_community(
    request: Request,
    account_id: int,
    community_id: int,
    *,
    register: Register,
    communities: Communities,
    clock: ClockUs,
) -> datetime:
    """When the account left; leaving twice keeps the first moment. RESOURCE_NOT_FOUND when it
    never belonged. A child may always leave."""
    known = claim(request, account_id, register, clock)
    account, now = hold(account_id, register, clock)
    actor = actor_of(request, account, now, register=register)
    left = next(
        (
            one
            for one in communities.memberships(account_id)
            if one.community_id == community_id and known in (None, one.number)
        ),
        None,
    )
    if left is None:
        name = account_name(account_id)
        raise ResourceNotFound(f"{name} in {community_name(community_id)}", "it never joined")
    if left.leave_time is not None:
        register.answer_request(request.key, left.number)
        return left.leave_time
    communities.leave(account_id, now, number=left.number)
    register.answer_request(request.key, left.number)
    register.note(account_id, [Happened(Event.COMMUNITY_LEFT, left.number)], actor, now)
    return now


def list_communities(
    request: Request,
    account_id: int,
    *,
    register: Register,
    communities: Communities,
    clock: ClockUs,
) -> list[Community]:
    """The communities that the account belongs to, in the order of joining."""
    read_for(request, account_id, register=register, clock=clock)
    current = [one for one in communities.memberships(account_id) if one.leave_time is None]
    found = communities.read([one.community_id for one in current])
    return [found[one.community_id] for one in reversed(current)]


def leave_communities(
    account: Account, consent: Consent | None, now: datetime, *, communities: Communities
) -> list[Happened]:
    """Leaves every community with the account (`consent` is None), and none with a consent, for
    none rests on one; what is to be noted. The account is held by the caller."""
    if consent is not None:
        return []
    left = communities.leave(account.account_id, now)
    return [Happened(Event.COMMUNITY_LEFT, number) for number in left]


def _require_room(count: int) -> None:
    if count >= COMMUNITIES_MAX:
        raise LimitReached(
            f"the account belongs to {count} communities and may belong to {COMMUNITIES_MAX}; "
            "leave one first",
            metadata={"limit": "communities of an account", "value": COMMUNITIES_MAX},
        )
