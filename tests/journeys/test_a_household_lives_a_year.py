"""A household's year over gRPC: founded, joined, agreed, left, split and merged again; what was
whose on a day stays so, and every day adds up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from services.identity.verify_receipt import verify
from shared.ids import day_to_date
from shared.rpc.jwks import json_web_key_set
from shared.rpc.keyring import RECEIPTS, published
from tests.identity.household_world import (
    CLOSED,
    OPEN,
    SUSPENDED,
    WHOLE,
    Person,
    World,
    iso,
    living,
    number_of,
    of,
    signed_payload,
)
from tests.identity.identity_house import refused

Book = dict[tuple[str, str], dict[str, int]]
"""Shares by household and day."""


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    with living(database_url, tmp_path) as running:
        yield running


class Almanac:
    """Goes through the year and writes down on each day whose the grams of that day are."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.book: Book = {}
        self.statements: dict[tuple[str, str], str] = {}
        self.households: list[str] = []

    @property
    def today(self) -> str:
        return (self.world.clock.now + timedelta(hours=8)).date().isoformat()

    def until(self, day: str) -> None:
        """Lives on to that day; what is written of a day is what is read at its end."""
        while self.today < day:
            for household in self.households:
                self._write(household)
            self.world.clock.pass_days()

    def _write(self, household: str) -> None:
        periods = self.world.snapshots_of(household).share_periods
        began = [p for p in periods if iso(p.start_date) <= self.today]
        if began and began[-1].shares:
            answer = self.world.shares(household, self.today)
            assert of(answer.shares) == of(began[-1].shares)
            self.book[household, self.today] = of(answer.shares)
            self.statements[household, self.today] = answer.jws


def grams(household: str, day: str) -> int:
    """What the shared meter of a household saved on a day, in milligrams."""
    return 100_003 * (1 + sum(household.encode()) % 7) + 977 * (number_of(day) % 31)


def owed(book: Book) -> tuple[Counter[str], int]:
    """Millionths of milligrams by person, and those of all readings together."""
    people: Counter[str] = Counter()
    for (household, day), shares in book.items():
        people.update({who: ppm * grams(household, day) for who, ppm in shares.items()})
    return people, sum(grams(household, day) for household, day in book) * WHOLE


def spring(world: World, almanac: Almanac) -> tuple[str, dict[str, Person]]:
    """A couple founds a home, a child comes with its mother's word, and they agree on shares."""
    mother, father = world.open(), world.open()
    child, for_child = world.child(mother, 2000)
    home = mother.found("梧桐里").account
    almanac.households.append(home)
    assert world.state(home) == SUSPENDED
    father.accept(mother.invite())
    assert world.state(home) == OPEN
    almanac.until("2026-02-17")
    for_child.accept(father.invite())
    almanac.until("2026-03-10")
    mother.propose({mother.account: 2, father.account: 2, child.account: 1})
    father.sign(1)
    almanac.until("2026-03-12")
    for_child.sign(1)
    return home, {"mother": mother, "father": father, "child": child, "for_child": for_child}


def summer(world: World, almanac: Almanac, people: dict[str, Person]) -> None:
    """Grandmother comes, and goes by taking her consent back; a lodger is removed."""
    mother = people["mother"]
    people["grandmother"], people["lodger"] = world.open(), world.open()
    almanac.until("2026-05-01")
    people["grandmother"].join(mother)
    almanac.until("2026-06-20")
    people["grandmother"].revoke()
    almanac.until("2026-07-01")
    people["lodger"].join(mother)
    almanac.until("2026-07-15")
    mother.remove(people["lodger"])
    almanac.until("2026-09-01")


def autumn(world: World, almanac: Almanac, people: dict[str, Person]) -> str:
    """The father moves out and the child goes along six days later; the new home is another one."""
    parted = people["father"].split(people["child"], name="南山")
    new = parted.household.account
    almanac.households.append(new)
    almanac.until("2026-09-07")
    people["for_child"].accept(parted.invitations[0].code)
    return new


def winter(world: World, almanac: Almanac, home: str, new: str, people: dict[str, Person]) -> None:
    """They live together again, and the second home closes."""
    almanac.until("2026-11-11")
    for person in ("for_child", "father"):
        people[person].leave()
        people[person].join(people["mother"])
    assert (world.state(home), world.state(new)) == (OPEN, CLOSED)
    almanac.until("2026-12-24")
    people["father"].close()
    almanac.until("2027-01-01")


def test_a_household_lives_a_year_and_nobodys_past_changes(world: World) -> None:
    almanac = Almanac(world)
    home, people = spring(world, almanac)
    summer(world, almanac, people)
    new = autumn(world, almanac, people)
    winter(world, almanac, home, new, people)
    book = almanac.book

    # Every day of the year has one list that adds up, and nobody is on two.
    days = [(date(2026, 1, 1) + timedelta(days=n)).isoformat() for n in range(365)]
    assert {day for household, day in book if household == home} == set(days)
    assert all(sum(shares.values()) == WHOLE for shares in book.values())
    for day in days:
        lists = [shares for (_, of_day), shares in book.items() if of_day == day]
        assert max(Counter(who for shares in lists for who in shares).values()) == 1

    # What was agreed counted from the day after the last signature until the members changed.
    father, child = people["father"].account, people["child"].account
    assert book[home, "2026-03-12"][child] in (333_333, 333_334)
    assert (book[home, "2026-03-13"][child], book[home, "2026-05-01"][father]) == (200_000, 400_000)
    assert book[home, "2026-05-02"][child] == 250_000
    assert father in book[home, "2026-09-01"]
    assert book[new, "2026-09-02"] == {father: WHOLE}
    assert book[new, "2026-09-08"] == {father: WHOLE // 2, child: WHOLE // 2}
    assert (new, "2026-11-12") not in book

    # Read again at the end of the year, every day says what it said then; so do the sums.
    again = {key: of(world.shares(*key).shares) for key in book}
    assert again == book
    people_owed, readings = owed(again)
    assert sum(people_owed.values()) == readings
    _statements_hold(world, almanac)
    _everybody_keeps_the_own_right(world, book, people)


def _statements_hold(world: World, almanac: Almanac) -> None:
    """What was signed on a day is verified offline and still true."""
    keys = published(world.house.settings.keys_dir)
    jwks = json_web_key_set([key.jwk for key in keys if key.purpose == RECEIPTS]).encode()
    for (household, day), jws in list(almanac.statements.items())[::60]:
        _, said = verify(jws, jwks)
        assert said == signed_payload(jws)
        assert (said["household"], said["share_date"]) == (household, day)
        shares = {share["account"]: share["share_ppm"] for share in said["shares"]}
        assert shares == almanac.book[household, day]


def _everybody_keeps_the_own_right(world: World, book: Book, people: dict[str, Person]) -> None:
    """Who has left, was removed or closed the account reads the own days, and no others."""
    for name in ("mother", "father", "child", "grandmother", "lodger"):
        person = people[name]
        own = {
            day: (household, shares)
            for (household, day), shares in book.items()
            if person.account in shares
        }
        for day in sorted(own)[:: max(1, len(own) // 5)]:
            answer = person.shares(day)
            assert (answer.household, of(answer.shares)) == own[day]
        listed = {
            day_to_date(day).isoformat(): [
                s.share_ppm for s in m.shares if iso(s.start_date) <= day_to_date(day).isoformat()
            ][-1]
            for m in person.memberships().memberships
            for day in range(
                number_of(iso(m.start_date)), number_of(iso(m.end_date) or "2027-01-01")
            )
        }
        kept = {day: shares[person.account] for day, (_, shares) in own.items()}
        assert {day: ppm for day, ppm in listed.items() if day < "2027-01-01"} == kept
    with refused("RESOURCE_NOT_FOUND"):
        people["lodger"].shares("2026-07-16")
    with refused("RESOURCE_NOT_FOUND"):
        people["grandmother"].shares("2026-05-01")
