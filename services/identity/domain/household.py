"""Households: who belongs on which civil day (UTC+8), and whose the household's grams are.

Every change of members takes effect with the next civil day, so what is written today never
changes a day until today. Shares are computed from memberships and signatures alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.identity.domain.digest import keyed_digest
from shared.ids import civil_day, to_us
from shared.refusal import FieldInvalid

BELONG_SCOPE = "scopes/household-collect"
"""The scope of a member's consent; a membership lasts as long as that consent is in force."""
HOME_SCOPE = "scopes/home-collect"
"""The scope of the household's own consent, under which a shared meter is collected."""
INVITATION = "invitation"
"""The purpose of the codes, in their digests and refusals."""
INVITATION_LIFE = timedelta(days=7)
MEMBERS_MAX = 20
"""Members of a household who have no end."""
INVITATIONS_MAX = 20
"""Invitations of one household that wait."""
MEMBERSHIPS_MAX = 500
"""Memberships that a household ever has, the ended ones too."""
PROPOSALS_MAX = 500
"""Proposals of shares that a household ever has."""
WEIGHT_MAX = 1_000_000
WHOLE_PPM = 1_000_000

Shares = dict[int, int]
"""Parts per million by the account of each member; they add up to WHOLE_PPM."""


@dataclass(frozen=True)
class Membership:
    """One account in one household from `start_day` until before `end_day` (None: no end).

    `number` counts within the household, `member_number` within the member's account, both from
    1. It rests on the member's consent `consent_number`. `tie` decides who gets a millionth that
    two could get. Who left on the day of joining has start_day == end_day: a member of no day.
    """

    household_id: int
    number: int
    member_id: int
    member_number: int
    start_day: int
    end_day: int | None
    consent_number: int
    join_time: datetime
    tie: bytes

    def covers(self, day: int) -> bool:
        """Whether the account is a member on that civil day."""
        return self.start_day <= day and (self.end_day is None or day < self.end_day)

    @property
    def lasting(self) -> bool:
        """Whether it has at least one day."""
        return self.end_day is None or self.start_day < self.end_day


@dataclass(frozen=True)
class Proposal:
    """Weights by the number of each membership, and who has signed them when.

    Once all have signed it is an agreement, in force from the next civil day on.
    """

    number: int
    weights: Mapping[int, int]
    signed: Mapping[int, datetime]

    @property
    def agreed(self) -> bool:
        """Whether every member of it has signed."""
        return self.signed.keys() == self.weights.keys()

    @property
    def start_day(self) -> int:
        """The civil day after the last signature."""
        return civil_day(to_us(max(self.signed.values()))) + 1


@dataclass(frozen=True)
class History:
    """All memberships and proposals of one household, in any order."""

    memberships: Sequence[Membership]
    proposals: Sequence[Proposal]

    @property
    def present(self) -> dict[int, Membership]:
        """Memberships without an end, by number in order: the members of tomorrow."""
        found = {m.number: m for m in self.memberships if m.end_day is None}
        return dict(sorted(found.items()))

    @property
    def head(self) -> Membership | None:
        """The longest-standing of those who have no end; of two the lower number."""
        present = self.present.values()
        return min(present, key=lambda m: (m.start_day, m.number), default=None)

    @property
    def newest_proposal(self) -> Proposal | None:
        """The one that counts; it replaced those before."""
        return max(self.proposals, key=lambda proposal: proposal.number, default=None)

    @property
    def waiting(self) -> Proposal | None:
        """The proposal that waits for signatures: not replaced, and not void by a change of
        members."""
        newest = self.newest_proposal
        if newest is None or newest.agreed or newest.weights.keys() != self.present.keys():
            return None
        return newest


@dataclass(frozen=True)
class Invitation:
    """A one-time code that waits, by its keyed digest; `inviter` is the number of the membership.

    Of a split it is for `member_id` alone, who may leave `from_household_id` with it.
    """

    digest: bytes
    household_id: int
    inviter: int
    expire_time: datetime
    member_id: int | None = None
    from_household_id: int | None = None

    def admits(self, account_id: int, now: datetime) -> bool:
        """Whether this account may use it now."""
        return now < self.expire_time and self.member_id in (None, account_id)


def refuse_alone(scope: str, field: str) -> None:
    """FIELD_INVALID for a consent to belong that is asked for without a household to belong to."""
    if scope == BELONG_SCOPE:
        raise FieldInvalid(
            field,
            f"{field} is {BELONG_SCOPE}, which comes with the household: it is given in "
            "CreateHousehold, AcceptInvitation or SplitHousehold",
        )


def tie_of(secret: bytes, household_id: int, member_id: int) -> bytes:
    """16 bytes that order the members of a household as no row order and no one's choice does."""
    ids = (household_id.to_bytes(8, "big"), member_id.to_bytes(8, "big"))
    return keyed_digest(secret, "share tie", *ids)


def shares_ppm(weights: Mapping[int, int], ties: Mapping[int, bytes]) -> Shares:
    """WHOLE_PPM divided by weight: each gets the whole part, and the largest remainders, ties by
    `ties`, one more each. Weight 0 gets 0; at least one weight is above 0."""
    total = sum(weights.values())
    shares = {member: weight * WHOLE_PPM // total for member, weight in weights.items()}
    missing = WHOLE_PPM - sum(shares.values())
    order = sorted(
        weights, key=lambda member: (-(weights[member] * WHOLE_PPM % total), ties[member])
    )
    for member in order[:missing]:
        shares[member] += 1
    return shares


def shares_on(history: History, day: int) -> Shares:
    """Whose the household's grams of that civil day are; empty when it has no member."""
    members = [m for m in history.memberships if m.covers(day)]
    if not members:
        return {}
    agreement = _agreement_on(history, day)
    return shares_ppm(
        {m.member_id: agreement.weights[m.number] if agreement else 1 for m in members},
        {m.member_id: m.tie for m in members},
    )


def share_periods(history: History) -> list[tuple[int, Shares]]:
    """First civil day and shares of each period in order; neighbours differ. The last is empty
    when nobody is left."""
    lasting = [m for m in history.memberships if m.lasting]
    if not lasting:
        return [(min(m.start_day for m in history.memberships), {})]
    first = min(m.start_day for m in lasting)
    days = {m.start_day for m in lasting} | {m.end_day for m in lasting if m.end_day is not None}
    days |= {p.start_day for p in history.proposals if p.agreed and p.start_day > first}
    periods: list[tuple[int, Shares]] = []
    for day in sorted(days):
        shares = shares_on(history, day)
        if not periods or shares != periods[-1][1]:
            periods.append((day, shares))
    return periods


def own_shares(
    membership: Membership, periods: Iterable[tuple[int, Shares]]
) -> list[tuple[int, int]]:
    """First civil day and parts per million of the membership's own periods; neighbours differ."""
    own: list[tuple[int, int]] = []
    for day, shares in periods:
        ppm = shares.get(membership.member_id)
        if ppm is None or (membership.end_day is not None and membership.end_day <= day):
            continue
        start = max(day, membership.start_day)
        if own and own[-1][0] == start:
            own.pop()
        if not own or own[-1][1] != ppm:
            own.append((start, ppm))
    return own


def _agreement_on(history: History, day: int) -> Proposal | None:
    """The newest agreement that has begun, unless the members have changed since it was signed.

    What ended the newest ended those before it too.
    """
    begun = [p for p in history.proposals if p.agreed and p.start_day <= day]
    agreement = max(begun, key=lambda proposal: proposal.number, default=None)
    if agreement is None:
        return None
    since = agreement.start_day
    for m in history.memberships:
        if m.number in agreement.weights:
            unchanged = m.covers(since) and m.covers(day)
        else:
            unchanged = day < m.start_day or (m.end_day is not None and m.end_day <= since)
            unchanged = unchanged or not m.lasting
        if not unchanged:
            return None
    return agreement
