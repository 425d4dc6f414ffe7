"""Erasing whoever others depend on: the last member of a household, the guardian of a child."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from carbonaccount.identity.v1 import account_pb2
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import privacy_service_pb2 as pb

from shared.ids import account_id_of
from tests.identity.household_world import CLOSED, Person, World, living
from tests.identity.identity_house import refused, request_id

ERASED = account_pb2.Account.STATE_ERASED


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    with living(database_url, tmp_path) as running:
        yield running


def erase(person: Person, account: str = "") -> None:
    person.world.house.privacy.EraseAccountData(
        pb.EraseAccountDataRequest(name=account or person.account, request_id=request_id()),
        **person.call,
    )


def sealed_of(world: World, account: str) -> int:
    """Rows of what is sealed about an account, its key included."""
    account_id = account_id_of(account)
    query = "select count(*) from {} where account_id = %s"
    rows = [world.house.sql(query.format(t), account_id)[0][0] for t in ("person", "data_key")]
    return sum(rows)


def test_a_household_is_erased_with_the_last_who_ever_belonged_to_it(world: World) -> None:
    stayed, left, last = world.family(3)
    household = stayed.household().account
    left.leave()
    for person in (stayed, left, last):
        person.close()
    assert world.state(household) == CLOSED
    erase(stayed)
    erase(left)
    assert world.state(household) == CLOSED
    assert sealed_of(world, household) == 2
    erase(last)
    assert world.state(household) == ERASED
    assert sealed_of(world, household) == 0
    assert world.events(household)[-1] == ("ERASED", "member", "every member is erased")
    tasks = "select count(*) from privacy_task where account_id = %s and finish_time is null"
    assert world.house.sql(tasks, account_id_of(household))[0][0] >= 3


def test_of_members_erased_at_the_same_moment_one_takes_the_household_along(world: World) -> None:
    for _ in range(5):
        people = world.family(4)
        household = people[0].household().account
        for person in people:
            person.close()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(erase, people))
        assert world.state(household) == ERASED
        ended = [event for event in world.events(household) if event[0] == "ERASED"]
        assert len(ended) == 1


def test_a_guardian_is_erased_after_the_child_or_once_it_is_of_age(world: World) -> None:
    guardian = world.open()
    child, for_child = world.child(guardian, days=30)
    grown, _ = world.child(guardian, days=10)
    guardian.close()
    with refused("STATE_CONFLICT") as error:
        erase(guardian)
    assert "close and erase that account first" in str(error.value)
    world.house.accounts.CloseAccount(
        account_pb.CloseAccountRequest(name=child.account, request_id=request_id()),
        **for_child.call,
    )
    erase(for_child, child.account)
    with refused("STATE_CONFLICT"):
        erase(guardian)
    world.clock.pass_days(10)
    erase(guardian)
    assert world.state(guardian.account) == ERASED
    assert world.state(grown.account) != ERASED
