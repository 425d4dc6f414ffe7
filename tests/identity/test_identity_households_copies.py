"""What a copy holds of households, and that no table of identity is forgotten in copies."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from services.identity.domain.household import INVITATION_LIFE
from services.identity.storage.household_export import export_memberships
from shared.ids import account_id_of
from shared.storage.embedded import EmbeddedPostgres
from shared.storage.engine import Database
from tests.identity.household_world import NEW_YEAR, WHOLE, Person, World, living_together
from tests.identity.privacy_world import all_done, ask, download, opened, records

NOON = "2026-01-01T04:00:00.000000Z"
OTHER_IDS = {"session_id", "community_id"}
"""Columns that name something else than an account."""
IN_THE_COPY = {
    "access_log.account_id": "access-log",
    "account.account_id": "account",
    "binding.account_id": "bindings",
    "community_member.account_id": "communities",
    "consent.account_id": "consents",
    "event.account_id": "events",
    "guardianship.guardian_id": "account",
    "guardianship.ward_id": "account",
    "household_invitation.household_id": "households",
    "household_member.household_id": "households",
    "household_member.member_id": "households",
    "operation.account_id": "operations",
    "person.account_id": "person",
    "session.account_id": "sessions",
    "share_proposal.household_id": "household-proposals",
    "share_signature.household_id": "household-proposals",
}
"""Where a copy has what a table keeps of an account: the file of identity, by column."""
NOT_IN_THE_COPY = {
    "account_person.account_id": "emptied into person before the service answers",
    "archive_piece.account_id": "a finished copy, which is downloaded whole",
    "binding_code.account_id": "a keyed digest that waits for minutes; the code was shown",
    "customer_key.account_id": "keyed digests of references that the bank has and identity has not",
    "data_key.account_id": "the key to what is sealed; the copy has that opened",
    "household_invitation.from_household_id": "what a split leaves, for the seven days of its code",
    "household_invitation.member_id": "whom a split has room for, for the seven days of its code",
    "privacy_piece.account_id": "files of a copy under way, which become the copy",
    "privacy_task.account_id": "who has done which part of an operation, as GetOperation tells",
    "request.account_id": "keyed digests of request ids, which say nothing to anybody",
    "subject.account_id": "the same keyed digest as in binding, to find that by",
}
"""Why a copy has nothing of what a table keeps of an account, by column."""


@pytest.fixture(scope="module")
def town(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with living_together(postgres, tmp_path_factory) as running:
        yield running


@pytest.fixture
def world(town: World) -> World:
    town.clock.set(NEW_YEAR)
    return town


def memberships_of(person: Person) -> list[dict[str, Any]]:
    """The records of the person's memberships, as its copy holds them."""
    database = Database(person.world.house.settings.database_url)
    with database.transaction() as connection:
        found = export_memberships(connection, account_id_of(person.account))
    database.close()
    return found


def copy_of(person: Person, account: str = "") -> dict[str, bytes]:
    """The files of a copy that the person asks for: of the own account, or of another's."""
    call = person.also_for(account).call if account else person.call
    house = person.world.house
    asker = SimpleNamespace(house=house, account=account or person.account, call=call)
    return opened(download(asker, all_done(house, ask(asker).name).name))


def weights(*people: Person) -> dict[str, int]:
    """1 for the first, 2 for the second and so on."""
    return {person.account: place for place, person in enumerate(people, 1)}


def test_a_membership_of_no_day_and_what_was_signed_in_it_are_in_the_copy(world: World) -> None:
    founder, second = world.family(2)
    founder.propose(weights(founder, second))
    second.sign(1)
    second.leave()
    (row,) = memberships_of(second)
    assert (row["start_date"], row["end_date"], row["shares"]) == ("2026-01-02", "2026-01-02", [])
    assert row["signatures"] == [
        {"proposal": 1, "sign_time": NEW_YEAR.isoformat(), "by_guardian": False}
    ]
    assert not second.memberships().memberships


def test_a_membership_of_no_day_has_no_shares_of_the_one_before_it(world: World) -> None:
    founder, second = world.family(2)
    world.clock.pass_days(3)
    second.leave()
    second.join(founder)
    second.leave()
    first, none = memberships_of(second)
    assert first["shares"] == [{"start_date": "2026-01-02", "share_ppm": WHOLE // 2}]
    assert (none["start_date"], none["end_date"], none["shares"]) == (
        "2026-01-05", "2026-01-05", [],
    )  # fmt: skip
    assert [row["name"][-2:] for row in (first, none)] == ["/1", "/2"]


def test_own_proposals_are_in_the_copy_with_the_own_weight_alone(world: World) -> None:
    founder, second = world.family(2)
    founder.propose(weights(founder, second))
    second.propose(weights(founder, second))
    second.leave()
    second.join(founder)
    before, since = memberships_of(second)
    assert before["proposals"] == [
        {"proposal": 2, "propose_time": NEW_YEAR.isoformat(), "weight": 2}
    ]
    assert since["proposals"] == []
    assert founder.account not in str(before)
    (own,) = memberships_of(founder)
    assert [(one["proposal"], one["weight"]) for one in own["proposals"]] == [(1, 1)]


def test_invitations_that_wait_are_in_the_copy_without_their_codes(world: World) -> None:
    founder, second = world.family(2)
    codes = [second.invite(), second.invite()]
    ends = {"expire_time": (NEW_YEAR + INVITATION_LIFE).isoformat()}
    (row,) = memberships_of(second)
    assert row["invitations"] == [ends, ends]
    assert not [code for code in codes if code in str(row)]
    world.open().accept(codes[0])
    assert [one["invitations"] for one in memberships_of(second)] == [[ends]]
    assert [one["invitations"] for one in memberships_of(founder)] == [[]]


def test_a_households_copy_tells_its_members_by_number(world: World) -> None:
    founder, second, third = world.family(3)
    household = founder.household().account
    world.clock.pass_days(3)
    third.leave()
    files = copy_of(second, household)
    members = records(files, "identity/households")
    assert [(m["member"], m["account"], m["start_date"], m["end_date"]) for m in members] == [
        (1, founder.account, "2026-01-01", None),
        (2, second.account, "2026-01-02", None),
        (3, "", "2026-01-02", "2026-01-05"),
    ]
    assert {m["join_time"] for m in members} == {NOON}
    # Whoever has left is named in no file, and neither are the consents of any member.
    assert not [name for name, content in files.items() if third.account.encode() in content]
    assert not [name for name, content in files.items() if b"household-collect" in content]


def test_a_households_copy_has_its_share_periods_by_membership(world: World) -> None:
    founder, second = world.family(2)
    household = founder.household().account
    world.clock.pass_days(3)
    second.leave()
    second.join(founder)
    half = WHOLE // 2
    periods = records(copy_of(founder, household), "identity/household-shares")
    assert [
        (one["start_date"], {s["member"]: s["share_ppm"] for s in one["shares"]}) for one in periods
    ] == [
        ("2026-01-01", {1: WHOLE}),
        ("2026-01-02", {1: half, 2: half}),
        ("2026-01-05", {1: half, 3: half}),  # the same account, of another membership
    ]


def test_a_households_copy_has_proposals_weights_and_signatures_by_membership(
    world: World,
) -> None:
    founder, second, third = world.family(3)
    household = founder.propose(weights(founder, second, third)).account
    for person in (third, second):
        world.clock.pass_days()
        person.sign(1)
    second.propose(weights(third, second, founder))
    second.invite()
    files = copy_of(founder, household)
    agreed, waiting = records(files, "identity/household-proposals")
    assert (agreed["proposal"], agreed["proposer"], agreed["propose_time"]) == (1, 1, NOON)
    assert {w["member"]: w["weight"] for w in agreed["weights"]} == {1: 1, 2: 2, 3: 3}
    assert [(s["member"], s["sign_time"][:10]) for s in agreed["signatures"]] == [
        (1, "2026-01-01"), (3, "2026-01-02"), (2, "2026-01-03"),
    ]  # fmt: skip
    assert {w["member"]: w["weight"] for w in waiting["weights"]} == {1: 3, 2: 2, 3: 1}
    assert [s["member"] for s in waiting["signatures"]] == [2]
    invitations = [m["invitations"] for m in records(files, "identity/households")]
    assert invitations == [[], [{"expire_time": "2026-01-10T04:00:00.000000Z"}], []]


def test_a_households_copy_says_of_no_signature_that_a_guardian_gave_it(
    world: World,
) -> None:
    parent = world.open()
    child, for_child = world.child(parent, 30)
    parent.found()
    for_child.join(parent)
    household = parent.propose(weights(parent, child)).account
    for_child.sign(1)
    (proposal,) = records(copy_of(parent, household), "identity/household-proposals")
    assert [set(one) for one in proposal["signatures"]] == [{"member", "sign_time"}] * 2
    (own,) = memberships_of(child)
    assert own["signatures"][0]["by_guardian"]


def test_a_copy_says_since_when_there_is_a_guardian(world: World) -> None:
    parent = world.open()
    child, _ = world.child(parent, 30)
    world.clock.pass_days()
    (account,) = records(copy_of(child), "identity/account")
    assert (account["guardian"], account["guardian_since"]) == (parent.account, NOON)
    (account,) = records(copy_of(parent), "identity/account")
    assert (account["guardian"], account["guardian_since"]) == ("", None)
    assert account["wards"] == [child.account]


def test_a_copy_has_every_table_that_names_an_account_or_says_why_not(world: World) -> None:
    query = (
        "select c.table_name, c.column_name from information_schema.columns c "
        "join information_schema.tables t using (table_schema, table_name) "
        "where table_schema = 'public' and table_type = 'BASE TABLE' "
        "and right(column_name, 3) = '_id'"
    )
    columns = {
        f"{table}.{column}" for table, column in world.house.sql(query) if column not in OTHER_IDS
    }
    assert not IN_THE_COPY.keys() & NOT_IN_THE_COPY.keys()
    assert columns == IN_THE_COPY.keys() | NOT_IN_THE_COPY.keys()
    founder, _ = world.family(2)
    files = {**copy_of(founder), **copy_of(founder, founder.household().account)}
    assert not {f"identity/{name}.json" for name in IN_THE_COPY.values()} - files.keys()
