"""A shared meter belongs to the household: its members bind it, and nobody who left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bindings_world import bindings_of, confirm, snapshots
from carbonaccount.identity.v1 import binding_service_pb2 as pb
from household_world import Person, World, living
from identity_house import refused, request_id

POWER, LINK = "sources/power-demo", "scopes/power-demo-link"


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    with living(database_url, tmp_path) as running:
        yield running


def home_of(world: World) -> tuple[str, Person, Person]:
    """An open household of two, with tokens that may act for it."""
    head, member = world.family(2)
    home = head.household().account
    world.clock.pass_days()
    return home, head.also_for(home), member.also_for(home)


def code_for(person: Person, home: str) -> str:
    request = pb.StartBindingRequest(
        parent=home, partner=POWER, consent=person.grant(LINK), request_id=request_id()
    )
    return person.world.house.bindings.StartBinding(request, **person.call).code


def test_a_member_binds_the_meter_of_the_household(world: World) -> None:
    home, _, member = home_of(world)
    confirm(world.house, code_for(member, home), "meter-1", POWER)
    (subject,) = snapshots(world.house)[home].subjects
    assert subject.partner == POWER
    assert ("CONSENT_GRANTED", "member", "") in world.events(home)
    assert world.events(home)[-1][:2] == ("BOUND", POWER)


def test_who_has_left_binds_nothing_more_and_ends_nothing(world: World) -> None:
    home, head, member = home_of(world)
    confirm(world.house, code_for(head, home), "meter-1", POWER)
    member.leave()
    world.clock.pass_days()
    with refused("CALLER_NOT_ALLOWED"):
        code_for(member, home)
    request = pb.EndBindingRequest(name=f"{home}/bindings/1", request_id=request_id())
    with refused("CALLER_NOT_ALLOWED"):
        world.house.bindings.EndBinding(request, **member.call)
    assert world.house.bindings.EndBinding(request, **head.call).binding.HasField("end_time")


def test_a_household_of_one_binds_nothing(world: World) -> None:
    (head,) = world.family(1)
    home = head.household().account
    with refused("ACCOUNT_NOT_OPEN"):
        code_for(head.also_for(home), home)


def test_the_binding_of_a_household_ends_with_it(world: World) -> None:
    home, head, member = home_of(world)
    confirm(world.house, code_for(head, home), "meter-1", POWER)
    for person in (head, member):
        person.leave()
    assert [b.HasField("end_time") for b in bindings_of(world.house, home)] == [True]
    other, again, _ = home_of(world)
    confirm(world.house, code_for(again, other), "meter-1", POWER)
