"""Many at once: nobody deadlocks, nothing is used twice, and every household adds up after it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

from services.identity.domain.household import share_periods
from shared.refusal import CodeInvalid, Refusal
from tests.identity.household_desk import Table, check_whole
from tests.identity.household_world import DAY, World, living
from tests.identity.identity_house import request_id

CROWD = 20


@pytest.fixture
def table(database_url: str, tmp_path: Path) -> Iterator[Table]:
    table = Table(database_url, tmp_path, connections=CROWD + 1)
    yield table
    table.close_database()


def at_once(*attempts: Callable[[], object]) -> list[object]:
    """What each attempt gave, or the refusal that it met; any other error is raised."""
    start = Barrier(len(attempts))

    def run(attempt: Callable[[], object]) -> object:
        start.wait()
        try:
            return attempt()
        except Refusal as refusal:
            return refusal

    with ThreadPoolExecutor(len(attempts)) as crowd:
        return list(crowd.map(run, attempts))


def test_a_code_tried_by_twenty_at_once_lets_one_in(table: Table) -> None:
    founder = table.open()
    household = table.found(founder)
    code = table.invite(founder)
    people = [table.open() for _ in range(CROWD)]
    outcomes = at_once(*(lambda who=who: table.accept(who, code) for who in people))
    assert Counter(map(type, outcomes)) == {int: 1, CodeInvalid: CROWD - 1}
    assert len(table.history(household).present) == 2
    check_whole(table)


def test_twenty_codes_at_once_fill_a_household_to_its_last_place(table: Table) -> None:
    founder = table.open()
    household = table.found(founder)
    codes = [table.invite(founder) for _ in range(CROWD)]
    people = [table.open() for _ in codes]
    outcomes = at_once(
        *(lambda who=who, code=code: table.accept(who, code)
          for who, code in zip(people, codes, strict=True))
    )  # fmt: skip
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert [refusal.reason for refusal in refused] == ["LIMIT_REACHED"]
    assert len(table.history(household).present) == 20
    check_whole(table)


def test_twenty_invitations_accepted_at_once_by_one_person_give_one_household(
    table: Table,
) -> None:
    hosts = [table.open() for _ in range(CROWD)]
    codes = []
    for host in hosts:
        table.found(host)
        codes.append(table.invite(host))
    guest = table.open()
    outcomes = at_once(*(lambda code=code: table.accept(guest, code) for code in codes))
    assert sum(isinstance(outcome, int) for outcome in outcomes) == 1
    check_whole(table)


def test_a_whole_household_leaving_at_once_closes_it_once(table: Table) -> None:
    founder = table.open()
    household = table.found(founder)
    people = [founder]
    for _ in range(CROWD - 1):
        people.append(table.open())
        table.accept(people[-1], table.invite(founder))
    ways = (table.leave, table.revoke, table.close)
    outcomes = at_once(
        *(lambda who=who, way=ways[place % 3]: way(who) for place, who in enumerate(people))
    )
    assert not [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert table.history(household).present == {}
    assert share_periods(table.history(household))[-1] == (table.today + 1, {})
    check_whole(table)


def test_members_who_remove_revoke_and_leave_the_same_one_at_once_end_it_once(
    table: Table,
) -> None:
    founder, other = table.open(), table.open()
    household = table.found(founder)
    for _ in range(10):
        table.accept(other, table.invite(founder))
        at_once(
            lambda: table.remove(founder, other),
            lambda: table.leave(other),
            lambda: table.revoke(other),
            lambda: table.propose(founder, {founder: 1, other: 1}),
        )
        assert len(table.history(household).present) == 1
        check_whole(table)


@pytest.mark.parametrize(("of_people", "of_households"), [(1, 60), (60, 1), (7, 7)])
def test_whoever_revokes_and_whoever_leaves_lock_the_heads_of_the_feed_in_one_order(
    table: Table, of_people: int, of_households: int
) -> None:
    """All members in one shard and all households in another: who revokes notes the household
    first, as its consent's end goes on to it, and who leaves the lower shard."""
    pairs = []
    for _ in range(CROWD):
        founder, member = table.open(of_people), table.open(of_people)
        table.found(founder, of_households)
        pairs.append((founder, member))
    for _ in range(4):
        for founder, member in pairs:
            table.accept(member, table.invite(founder))
        ways = [table.revoke, table.leave] * (CROWD // 2)
        outcomes = at_once(
            *(partial(way, member) for way, (_, member) in zip(ways, pairs, strict=True))
        )
        assert not [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    check_whole(table)


def wild(table: Table, people: list[int], codes: list[str], seed: int, steps: int) -> Counter[str]:
    """Does what comes to mind, as one of many."""
    chance, done = random.Random(seed), Counter[str]()
    for _ in range(steps):
        who = chance.choice(people)
        mates = table.mates(who) or [who]
        head, other = min(mates), chance.choice(mates)
        acts: dict[str, Callable[[], object]] = {
            "found": partial(table.found, who),
            "invite": partial(_invite, table, who, codes),
            "accept": partial(table.accept, who, chance.choice(codes[-40:] or ["none"])),
            "leave": partial(table.leave, who),
            "remove": partial(table.remove, mates[0], other),
            "revoke": partial(table.revoke, who),
            "split": partial(_split, table, who, [other], codes),
            "propose": partial(table.propose, who, dict.fromkeys(mates, 2)),
            "sign": partial(table.sign, head, chance.randint(1, 3)),
        }
        name = chance.choices(list(acts), [2, 8, 20, 2, 3, 2, 2, 2, 2])[0]
        try:
            acts[name]()
            done[name] += 1
        except Refusal:
            done["refused"] += 1
    return done


def _invite(table: Table, who: int, codes: list[str]) -> None:
    codes.append(table.invite(who))


def _split(table: Table, who: int, along: list[int], codes: list[str]) -> None:
    codes += [code for _, code in table.split(who, along)[1]]


def test_twenty_threads_doing_anything_to_the_same_people_never_deadlock(table: Table) -> None:
    people = [table.open() for _ in range(30)]
    codes: list[str] = []
    for person in people[:4]:
        table.found(person)
        codes.append(table.invite(person))
    done: Counter[str] = Counter()
    for day in range(3):
        # An error of the database, as a deadlock would be one, ends the test.
        with ThreadPoolExecutor(CROWD) as crowd:
            for counts in crowd.map(
                lambda seed, day=day: wild(table, people, codes, 100 * day + seed, 25),
                range(CROWD),
            ):
                done += counts
        check_whole(table)
        table.clock.pass_days()
    assert min(done[name] for name in ("accept", "leave", "remove", "revoke", "split", "sign")) > 0


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    with living(database_url, tmp_path) as running:
        yield running


def test_a_hundred_retries_of_one_founding_found_one_household(world: World) -> None:
    founder, key = world.open(), request_id()
    grant = founder.grant()
    outcomes = at_once(
        *(lambda: founder.found(request=key, consent=grant).account for _ in range(100))
    )
    assert len(set(outcomes)) == 1
    assert world.house.sql("select count(*) from account where kind = 2") == [(1,)]
    assert world.house.sql("select count(*) from household_member") == [(1,)]


def test_a_call_that_waits_over_midnight_counts_for_the_new_day(world: World) -> None:
    founder, second = world.family(2)
    world.clock.set(world.clock.now + DAY / 2)
    assert second.leave() == "2026-01-03"
    assert founder.leave() == "2026-01-03"
