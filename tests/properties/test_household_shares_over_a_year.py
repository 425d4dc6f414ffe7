"""Any year of founding, joining, leaving, removing, splitting, agreeing and withdrawing: every day
has the shares that a day-by-day model says, and no past day ever changes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.identity.domain.household import (
    WHOLE_PPM,
    History,
    Shares,
    share_periods,
    shares_on,
    shares_ppm,
    tie_of,
)
from services.identity.usecases.read_households import list_memberships
from shared.refusal import Refusal
from tests.identity.household_desk import SECRET, Table, check_whole
from tests.identity.household_world import NEW_YEAR

PEOPLE, YEAR = 6, 365


@dataclass
class Home:
    """One household in the model: members and agreement of today and of tomorrow.

    Members are told apart by a token that each joining draws anew, in the order of joining.
    """

    now: dict[int, int] = field(default_factory=dict)
    next: dict[int, int] = field(default_factory=dict)
    agreement: dict[int, int] | None = None
    agreed_today: dict[int, int] | None = None
    proposals: int = 0
    proposal: dict[int, int] = field(default_factory=dict)
    signed: set[int] = field(default_factory=set)

    def midnight(self) -> None:
        tomorrow = set(self.next.values())
        if self.agreed_today is not None and self.agreed_today.keys() == tomorrow:
            self.agreement = self.agreed_today
        elif tomorrow != set(self.now.values()):
            self.agreement = None
        self.now, self.agreed_today = dict(self.next), None

    def shares(self, household: int) -> Shares:
        if not self.now:
            return {}
        weights = self.agreement or dict.fromkeys(self.now.values(), 1)
        return shares_ppm(
            {who: weights[token] for who, token in self.now.items()},
            {who: tie_of(SECRET, household, who) for who in self.now},
        )

    @property
    def head(self) -> int:
        return min(self.next, key=lambda who: self.next[who])


class Model:
    """What a year should be like, kept day by day and without any history."""

    def __init__(self, day: int) -> None:
        self.day = day
        self.homes: dict[int, Home] = {}
        self.book: dict[tuple[int, int], Shares] = {}
        self._tokens = 0

    def of(self, who: int) -> tuple[int, Home] | None:
        return next(((h, home) for h, home in self.homes.items() if who in home.next), None)

    def found(self, household: int, who: int, *, today: bool) -> None:
        home = self.homes[household] = Home()
        self.join(household, who)
        if today and not any(who in other.now for other in self.homes.values()):
            home.now = dict(home.next)

    def join(self, household: int, who: int) -> None:
        self._tokens += 1
        self.homes[household].next[who] = self._tokens

    def pass_to(self, day: int) -> None:
        while self.day < day:
            for household, home in self.homes.items():
                self.book[household, self.day] = home.shares(household)
                home.midnight()
            self.day += 1


class Year:
    """The same steps taken in the model and on the real database, and compared."""

    def __init__(self, table: Table) -> None:
        table.clock.set(NEW_YEAR)
        self.table = table
        self.model = Model(table.today)
        self.people = [table.open() for _ in range(PEOPLE)]
        self.seen: dict[tuple[int, int], Shares] = {}

    def pass_days(self, days: int) -> None:
        self.table.clock.pass_days(days)
        self.model.pass_to(self.table.today)
        # What is in force on a day that is over is noted as it was on the morning after.
        for household in self.model.homes:
            history = self.table.history(household)
            for day in range(self.model.day - days, self.model.day):
                self.seen[household, day] = shares_on(history, day)

    def cast(self, name: str, chance: random.Random) -> tuple[int, int]:
        """Who acts and with whom: mostly such that it can be done, sometimes anybody."""
        alone = [who for who in self.people if self.model.of(who) is None] or self.people
        homes = [home for home in self.model.homes.values() if home.next]
        if not homes or chance.random() < 0.15:
            return chance.choice(self.people), chance.choice(self.people)
        home = max(chance.choices(homes, k=2), key=lambda home: len(home.next))
        mate, other = chance.choice(list(home.next)), chance.choice(list(home.next))
        if name in ("found", "join"):
            return chance.choice(alone), mate
        return (home.head if name == "remove" else mate), other

    def attempt(self, allowed: bool, act: Callable[[], object]) -> object:
        """What the act gives; it is refused exactly when the model forbids it."""
        result, refusal = None, None
        try:
            result = act()
        except Refusal as met:
            refusal = met
        assert (refusal is None) == allowed, refusal
        return result

    def found(self, who: int, _other: int, _chance: random.Random) -> None:
        household = self.attempt(self.model.of(who) is None, lambda: self.table.found(who))
        if isinstance(household, int):
            self.model.found(household, who, today=True)

    def join(self, who: int, host: int, _chance: random.Random) -> None:
        home = self.model.of(host)
        code = self.attempt(home is not None, lambda: self.table.invite(host))
        if home is not None and isinstance(code, str):
            alone = self.model.of(who) is None
            if self.attempt(alone, lambda: self.table.accept(who, code)):
                self.model.join(home[0], who)

    def leave(self, who: int, _other: int, chance: random.Random) -> None:
        act = chance.choice([self.table.leave, self.table.revoke])
        home = self.model.of(who)
        self.attempt(home is not None, lambda: act(who))
        if home is not None:
            del home[1].next[who]

    def remove(self, who: int, other: int, _chance: random.Random) -> None:
        home = self.model.of(who)
        allowed = (
            home is not None and who != other and other in home[1].next and home[1].head == who
        )
        self.attempt(allowed, lambda: self.table.remove(who, other))
        if home is not None and allowed:
            del home[1].next[other]

    def split(self, who: int, _other: int, chance: random.Random) -> None:
        home = self.model.of(who)
        mates = [mate for mate in home[1].next if mate != who] if home else []
        along = chance.sample(mates, chance.randint(0, len(mates)))
        parted = self.attempt(home is not None, lambda: self.table.split(who, along))
        if home is None or not isinstance(parted, tuple):
            return
        del home[1].next[who]
        self.model.found(parted[0], who, today=False)
        for mate, code in parted[1]:
            if chance.random() < 0.7:
                self.table.accept(mate, code)
                del home[1].next[mate]
                self.model.join(parted[0], mate)

    def propose(self, who: int, _other: int, chance: random.Random) -> None:
        home = self.model.of(who)
        mates = home[1].next if home else {who: 0}
        weights = {mate: chance.choice([0, 1, 2, 7, 999_983]) for mate in mates}
        allowed = home is not None and any(weights.values())
        self.attempt(allowed, lambda: self.table.propose(who, weights))
        if home is not None and allowed:
            home[1].proposals += 1
            home[1].proposal = {mates[mate]: weight for mate, weight in weights.items()}
            home[1].signed = set()
            self._signed(home[1], who)

    def sign(self, who: int, _other: int, _chance: random.Random) -> None:
        home = self.model.of(who)
        number = max(1, home[1].proposals) if home else 1
        allowed = home is not None and home[1].proposals > 0 and (
            home[1].next[who] in home[1].signed
            or home[1].proposal.keys() == set(home[1].next.values())
        )  # fmt: skip
        self.attempt(allowed, lambda: self.table.sign(who, number))
        if home is not None and allowed:
            self._signed(home[1], who)

    def agree(self, who: int, other: int, chance: random.Random) -> None:
        """All of a household agree; sometimes one is slow and signs only later, or never."""
        self.propose(who, other, chance)
        home = self.model.of(who)
        for mate in list(home[1].next) if home else []:
            if chance.random() < 0.9:
                self.sign(mate, other, chance)

    def _signed(self, home: Home, who: int) -> None:
        before = set(home.signed)
        home.signed.add(home.next[who])
        if home.signed == home.proposal.keys() and home.signed != before:
            home.agreed_today = dict(home.proposal)


STEPS = (
    *("found", "join", "join", "join", "leave", "remove"),
    *("split", "propose", "sign", "agree", "agree"),
)
Step = tuple[str, int, int]
"""What is done, how many days pass after it, and the seed of the choices in it."""
steps = st.lists(
    st.tuples(
        st.sampled_from(STEPS), st.sampled_from([0, 0, 0, 1, 1, 2, 7, 30]), st.integers(0, 2**16)
    ),
    min_size=5,
    max_size=60,
)


@pytest.fixture
def table(database_url: str, tmp_path: Path) -> Iterator[Table]:
    table = Table(database_url, tmp_path)
    yield table
    check_whole(table)
    table.close_database()


def live(table: Table, taken: list[Step]) -> Year:
    year = Year(table)
    end = year.model.day + YEAR
    for name, days, seed in [("found", 0, 0), ("join", 0, 0), *taken]:
        chance = random.Random(seed)
        getattr(year, name)(*year.cast(name, chance), chance)
        year.pass_days(min(days, end - year.model.day))
    year.pass_days(end - year.model.day)
    return year


@given(taken=steps)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_year_of_households_is_what_its_days_were(table: Table, taken: list[Step]) -> None:
    year = live(table, taken)
    for household in year.model.homes:
        history = table.history(household)
        periods = share_periods(history)
        first = periods[0][0]
        for day in range(year.model.day - YEAR, year.model.day):
            shares = year.model.book.get((household, day), {})
            # As the model has it, as it was on the morning after, and as it is at the end.
            assert shares_on(history, day) == shares
            assert year.seen.get((household, day), {}) == shares
            assert ([said for start, said in periods if start <= day] or [{}])[-1] == shares
            assert sum(shares.values()) == (WHOLE_PPM if shares else 0)
            assert not (shares and day < first)
        # Between the first day and the last there is none without members.
        assert all(shares for _, shares in periods[:-1])
        rows = (list(history.memberships)[::-1], list(history.proposals)[::-1])
        assert share_periods(History(*rows)) == periods
    _everyone_reads_the_own_past(year)


def _everyone_reads_the_own_past(year: Year) -> None:
    """What each person reads of the own memberships is what the book has, and no day twice."""
    for who in year.people:
        own = year.table.run(lambda room: list_memberships(who, None, 500, room))  # noqa: B023
        read: dict[int, int] = {}
        for one in own:
            for day in range(one.membership.start_day, one.membership.end_day or year.model.day):
                assert day not in read, "a day in two households"
                read[day] = [ppm for start, ppm in one.shares if start <= day][-1]
        kept = {day: shares[who] for (_, day), shares in year.model.book.items() if who in shares}
        assert {day: ppm for day, ppm in read.items() if day < year.model.day} == kept
