"""Agreeing on shares, reading them, and the signed statement, over gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from carbonaccount.identity.v1 import household_service_pb2 as pb

from services.identity.storage.household_export import export_memberships
from services.identity.storage.households import acting_households
from services.identity.verify_receipt import verify
from shared.ids import account_id_of, civil_day
from shared.rpc.jwks import json_web_key_set
from shared.rpc.keyring import RECEIPTS, published
from shared.storage.embedded import EmbeddedPostgres
from shared.storage.engine import Database
from tests.identity.household_world import (
    NEW_YEAR,
    WHOLE,
    Person,
    World,
    day,
    iso,
    living_together,
    of,
    periods_of,
    signed_payload,
)
from tests.identity.identity_house import refused, request_id


@pytest.fixture(scope="module")
def town(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with living_together(postgres, tmp_path_factory) as running:
        yield running


@pytest.fixture
def world(town: World) -> World:
    town.clock.set(NEW_YEAR)
    return town


def three_to_one(one: Person, other: Person) -> dict[str, int]:
    return {one.account: 3, other.account: 1}


def test_a_proposal_is_signed_by_its_proposer_and_waits_for_the_others(world: World) -> None:
    founder, second = world.family(2)
    proposal = founder.propose(three_to_one(founder, second)).proposal
    assert proposal.number == 1
    assert {w.account: w.weight for w in proposal.weights} == three_to_one(founder, second)
    assert list(proposal.signed_by) == [founder.account]
    assert list(proposal.waiting_for) == [second.account]
    assert second.household().proposal == proposal


def test_an_agreement_is_in_force_from_the_day_after_the_last_signature(world: World) -> None:
    founder, second = world.family(2)
    founder.propose(three_to_one(founder, second))
    world.clock.pass_days(5)
    household = second.sign(1)
    assert not household.HasField("proposal")
    assert periods_of(household)[-1] == (
        "2026-01-07", {founder.account: 750_000, second.account: 250_000},
    )  # fmt: skip
    assert set(of(world.shares(household.account, "2026-01-06").shares).values()) == {WHOLE // 2}
    assert of(world.shares(household.account, "2026-01-07").shares)[second.account] == 250_000


def test_every_step_of_an_agreement_is_on_record_and_moves_the_feed(world: World) -> None:
    founder, second = world.family(2)
    household = founder.propose(three_to_one(founder, second)).account
    before = world.snapshots()[household]
    second.sign(1)
    after = world.snapshots()[household]
    assert after.position > before.position
    assert len(after.share_periods) == len(before.share_periods)
    assert of(after.share_periods[-1].shares) == {founder.account: 750_000, second.account: 250_000}
    assert world.events(household)[-3:] == [
        ("SHARES_CHANGED", "member", "proposed"),
        ("SHARES_CHANGED", "member", "signed"),
        ("SHARES_CHANGED", "member", "agreed"),
    ]


def test_a_newer_proposal_replaces_the_one_that_waits(world: World) -> None:
    founder, second = world.family(2)
    founder.propose(three_to_one(founder, second))
    second.propose(three_to_one(second, founder))
    with refused("STATE_CONFLICT"):
        second.sign(1)
    assert periods_of(founder.sign(2))[-1][1] == {founder.account: 250_000, second.account: 750_000}


def test_an_agreement_holds_while_a_newer_proposal_waits(world: World) -> None:
    founder, second = world.family(2)
    founder.propose(three_to_one(founder, second))
    second.sign(1)
    world.clock.pass_days(2)
    household = founder.propose({founder.account: 1, second.account: 1})
    assert periods_of(household)[-1][1][founder.account] == 750_000
    assert household.proposal.number == 2


def test_a_proposal_is_void_once_the_members_change(world: World) -> None:
    founder, second, third = world.family(3)
    founder.propose({p.account: 1 for p in (founder, second, third)})
    third.leave()
    assert not founder.household().HasField("proposal")
    with refused("STATE_CONFLICT"):
        second.sign(1)
    third.join(founder)
    # Whoever comes back has signed nothing and is no member of the old proposal.
    with refused("STATE_CONFLICT"):
        second.sign(1)


def test_a_change_of_members_ends_the_agreement_with_its_own_day(world: World) -> None:
    founder, second = world.family(2)
    founder.propose(three_to_one(founder, second))
    second.sign(1)
    world.clock.pass_days(5)
    third = world.open()
    household = third.join(founder)
    starts = [start for start, _ in periods_of(household)]
    assert starts == ["2026-01-01", "2026-01-02", "2026-01-07"]
    assert sorted(periods_of(household)[-1][1].values()) == [333_333, 333_333, 333_334]
    world.clock.pass_days()
    third.leave()
    world.clock.pass_days()
    # It does not come back with the old members.
    assert of(founder.shares().shares) == {founder.account: WHOLE // 2, second.account: WHOLE // 2}


def test_who_joins_and_leaves_on_one_day_ends_no_agreement(world: World) -> None:
    founder, second = world.family(2)
    founder.propose(three_to_one(founder, second))
    second.sign(1)
    third = world.open()
    third.join(founder)
    third.leave()
    world.clock.pass_days()
    assert of(founder.shares().shares)[founder.account] == 750_000


def test_signing_twice_changes_nothing(world: World) -> None:
    founder, second, _ = world.family(3)
    founder.propose({m.account: 1 for m in founder.household().members})
    key = request_id()
    first = second.sign(1, key)
    assert second.sign(1, key) == first
    assert second.sign(1) == first
    assert founder.sign(1) == first
    assert [kind for kind, _, _ in world.events(first.account)].count("SHARES_CHANGED") == 2


def test_a_retry_of_a_proposal_proposes_nothing_more(world: World) -> None:
    founder, second = world.family(2)
    key = request_id()
    first = founder.propose(three_to_one(founder, second), key)
    assert founder.propose(three_to_one(founder, second), key) == first
    assert first.proposal.number == 1


def test_a_household_of_one_agrees_with_itself(world: World) -> None:
    founder = world.open()
    founder.found()
    household = founder.propose({founder.account: 7})
    assert not household.HasField("proposal")
    assert periods_of(household) == [("2026-01-01", {founder.account: WHOLE})]


def test_a_member_reads_the_days_of_the_membership_and_no_others(world: World) -> None:
    founder, second = world.family(2)
    world.clock.pass_days(4)
    second.leave()
    world.clock.pass_days(10)
    for date in ("2026-01-02", "2026-01-05"):
        assert of(second.shares(date).shares).keys() == {founder.account, second.account}
    for date in ("2026-01-01", "2026-01-06", ""):
        with refused("RESOURCE_NOT_FOUND"):
            second.shares(date)
    assert of(founder.shares("2026-01-06").shares) == {founder.account: WHOLE}


def test_a_former_member_reads_the_shares_of_the_own_days_for_ever(world: World) -> None:
    founder, second = world.family(2)
    household = founder.household().account
    world.clock.pass_days(4)
    second.leave()
    world.clock.pass_days(3)
    founder.leave()
    world.clock.pass_days(3000)
    assert second.shares("2026-01-04").household == household
    (membership,) = second.memberships().memberships
    assert [(iso(s.start_date), s.share_ppm) for s in membership.shares] == [
        ("2026-01-02", WHOLE // 2)
    ]
    second.close()
    assert second.shares("2026-01-04").household == household


def test_programs_and_auditors_read_any_day_of_a_household(world: World) -> None:
    founder, second = world.family(2)
    household = founder.household().account
    auditor = world.house.call("auditor", "auditors/one")
    for caller in (world.house.service, auditor):
        asked = pb.GetSharesRequest(parent=household, share_date=day("2026-01-02"))
        answer = world.house.households.GetShares(asked, **caller)
        assert (answer.household, sum(of(answer.shares).values())) == (household, WHOLE)
        assert list(of(answer.shares)) == sorted((founder.account, second.account))
    for parent, date in ((household, "2025-12-31"), (founder.account, "2026-01-01")):
        with refused("RESOURCE_NOT_FOUND"):
            world.shares(parent, date)


def test_a_statement_is_verified_by_the_stand_alone_script(world: World) -> None:
    founder, second = world.family(2)
    answer = founder.shares("2026-01-02")
    keys = published(world.house.settings.keys_dir)
    jwks = json_web_key_set([key.jwk for key in keys if key.purpose == RECEIPTS]).encode()
    assert verify(answer.jws, jwks)
    assert signed_payload(answer.jws) == {
        "household": answer.household,
        "share_date": "2026-01-02",
        "shares": [
            {"account": name, "share_ppm": WHOLE // 2}
            for name in sorted((founder.account, second.account))
        ],
    }


def test_memberships_come_in_pages_newest_first(world: World) -> None:
    founder, second = world.family(2)
    for _ in range(4):
        world.clock.pass_days()
        second.leave()
        second.join(founder)
    whole = list(second.memberships().memberships)
    assert [iso(m.start_date) for m in whole] == [
        "2026-01-06", "2026-01-05", "2026-01-04", "2026-01-03", "2026-01-02",
    ]  # fmt: skip
    pages, token = [], ""
    while True:
        page = second.memberships(2, token)
        pages += page.memberships
        token = page.next_page_token
        if not token:
            break
    assert pages == whole


def test_the_archive_holds_the_own_memberships_and_nobody_elses(world: World) -> None:
    founder, second = world.family(2)
    household = founder.propose(three_to_one(founder, second)).account
    second.sign(1)
    world.clock.pass_days(5)
    second.leave()
    second.join(founder)
    database = Database(world.house.settings.database_url)
    with database.transaction() as connection:
        rows = export_memberships(connection, account_id_of(second.account))
        acting = acting_households(
            connection, account_id_of(second.account), civil_day(world.clock())
        )
    database.close()
    assert founder.account not in str(rows)
    assert [(row["household"], row["start_date"], row["end_date"]) for row in rows] == [
        (household, "2026-01-02", "2026-01-07"), (household, "2026-01-07", ""),
    ]  # fmt: skip
    assert rows[0]["shares"] == [{"start_date": "2026-01-02", "share_ppm": 250_000}]
    assert [one["proposal"] for one in rows[0]["signatures"]] == [1]
    assert rows[1]["signatures"] == []
    assert [household_id for household_id, _ in acting] == [account_id_of(household)] * 2
    assert [end for _, end in acting] == [civil_day(world.clock()) + 1, None]


def test_who_left_on_the_day_of_joining_acts_for_nothing(world: World) -> None:
    founder, second = world.family(2)
    household = founder.household().account
    second.leave()
    database = Database(world.house.settings.database_url)
    with database.transaction() as connection:
        assert acting_households(connection, account_id_of(second.account), 20_454) == []
        ((_, end),) = acting_households(connection, account_id_of(founder.account), 20_454)
    database.close()
    assert end is None
    assert world.state(household)


def test_a_member_sees_accounts_of_the_others_and_not_who_they_are(world: World) -> None:
    founder, second = world.family(2)
    shown = str(second.household())
    assert founder.account in shown
    assert set(pb.Household.Member.DESCRIPTOR.fields_by_name) == {
        "account", "start_date", "end_date", "household_head",
    }  # fmt: skip
