"""The bank's own acts: made up by a file, always the same, with doubles on purpose."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from services.activity.feeds import BankMapping, FeedMapping, MappedAct, bank_acts

BEIJING = timezone(timedelta(hours=8))


def claim_of(act: MappedAct) -> tuple[str, str, str]:
    """What may be credited once: the scene catalogue adds the account for statements only."""
    account = act.account if act.scene == "scenes/e-statement" else ""
    return act.scene, account, act.claim


def test_each_demo_account_has_1_application_6_statements_and_3_bills(bank: BankMapping) -> None:
    once = list(bank_acts(bank))[:2000]
    assert Counter(act.scene for act in once) == {
        "scenes/ecard-application": 200,
        "scenes/e-statement": 1200,
        "scenes/utility-payment": 600,
    }
    assert set(Counter(act.account for act in once).values()) == {10}
    assert len({act.source_event_id for act in once}) == 2000
    assert len({claim_of(act) for act in once}) == 2000
    assert all(act.measures == {"count": 1} for act in once)


def test_so_many_acts_as_the_file_says_are_sent_again_unchanged(bank: BankMapping) -> None:
    acts = list(bank_acts(bank))
    first = {act.source_event_id: act for act in acts[:2000]}
    again = [act for act in acts[2000:] if act.source_event_id in first]
    assert len(again) == bank.repeats == 25
    assert all(replace(first[act.source_event_id], line=act.line) == act for act in again)


def test_so_many_bills_as_the_file_says_are_claimed_again_by_another_account_and_event(
    bank: BankMapping,
) -> None:
    acts = list(bank_acts(bank))
    first = {claim_of(act): act for act in acts[:2000]}
    known = {act.source_event_id for act in acts[:2000]}
    second = [act for act in acts if act.source_event_id not in known]
    assert len(second) == bank.second_claims.count == 10
    for act in second:
        assert act.scene == "scenes/utility-payment"
        assert first[claim_of(act)].account != act.account
    assert len(acts) == 2000 + 25 + 10


def test_the_acts_lie_in_their_periods_after_consent_begins(bank: BankMapping) -> None:
    for act in bank_acts(bank):
        moment = datetime.fromtimestamp(act.occur_time_us / 1e6, BEIJING)
        assert datetime(2026, 4, 1, tzinfo=BEIJING) <= moment
        assert moment < datetime(2026, 10, 1, tzinfo=BEIJING)
        if act.scene == "scenes/e-statement":
            assert f"{moment:%Y-%m}" == act.claim


def test_the_same_file_gives_the_same_acts_numbered_from_1(bank: BankMapping) -> None:
    acts = list(bank_acts(bank))
    assert acts == list(bank_acts(bank))
    assert [act.line for act in acts] == list(range(1, len(acts) + 1))


def test_trips_and_bank_acts_belong_to_the_same_demo_accounts(
    bank: BankMapping, trips_2020: FeedMapping, trips_2021: FeedMapping
) -> None:
    for rule in (trips_2020.act.account, trips_2021.act.account):
        accounts = bank.accounts
        assert (rule.prefix, rule.digits, rule.count) == (
            accounts.prefix, accounts.digits, accounts.count
        )  # fmt: skip


def test_a_claim_is_not_shown_when_an_act_is_printed(bank: BankMapping) -> None:
    act = next(act for act in bank_acts(bank) if act.scene == "scenes/utility-payment")
    assert act.claim
    assert "claim" not in repr(act)


def test_the_file_says_that_its_acts_are_demonstration_data(bank: BankMapping) -> None:
    said = " ".join(assumption.en for assumption in bank.assumption)
    assert bank.demo
    assert "made up for the demonstration" in said
    assert f"{bank.repeats} acts are sent twice" in said
    assert f"{bank.second_claims.count} bills are claimed again" in said
