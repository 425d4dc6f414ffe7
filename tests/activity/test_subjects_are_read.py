"""Whom a report is about: the account that the bank names, or the user that a partner names."""

from __future__ import annotations

from typing import Any

import pytest

from services.activity.domain.catalogue import CatalogueInvalid, read_catalogue
from services.activity.wiring import load_catalogue
from shared.ids import account_name
from shared.refusal import Refusal
from tests.activity.world import (
    KEYRING,
    PARTNER,
    SOURCE,
    by_subject,
    digest,
    read,
    read_partner,
    report,
    scene_row,
    subject_name,
)

PHONE, CARD, IDENTITY = "13812345678", "4111111111111111", "11010519491231002X"


def only_refusal(batch: Any) -> Refusal:
    assert not len(batch.columns)
    (refusal,) = batch.refusals.values()
    return refusal


def test_a_partner_names_its_user_and_the_bank_an_account() -> None:
    partners, banks = read_partner(by_subject("bus")).columns, read(report("bus")).columns
    assert partners.subjects[0].tobytes() == digest("u")
    assert (partners.account_id.tolist(), banks.account_id.tolist()) == ([0], [64])
    assert (partners.has_subject.tolist(), banks.has_subject.tolist()) == ([True], [False])


NAMES_SUBJECT = f"send subject alone, {PARTNER}/subjects/{{subject}}"


@pytest.mark.parametrize(
    ("account", "subject", "field", "said"),
    [
        (account_name(64), "", "account", f"account is set; {PARTNER} names riders by subject"),
        (account_name(64), subject_name("u"), "account", NAMES_SUBJECT),
        ("", "", "subject", f"subject is not set; {PARTNER} names riders by subject"),
        ("", f"{SOURCE}/subjects/u", "subject", f"does not begin with {PARTNER}/subjects/"),
        ("", subject_name(""), "subject", "must have 1 to 64, all printable"),
        ("", subject_name("u" * 65), "subject", "must have 1 to 64, all printable"),
        ("", subject_name("a\nb"), "subject", "must have 1 to 64, all printable"),
        ("", subject_name(PHONE), "subject", "phone, card or identity number"),
    ],
)
def test_a_partner_is_told_what_to_send_instead(
    account: str, subject: str, field: str, said: str
) -> None:
    refused = only_refusal(read_partner(report("bus", account=account, subject=subject)))
    assert (refused.reason, refused.field) == ("FIELD_INVALID", field)
    assert said in refused.message
    assert PHONE not in refused.message


@pytest.mark.parametrize("length", [1, 64])
def test_a_subject_of_one_and_of_sixty_four_characters_is_taken(length: int) -> None:
    assert not read_partner(by_subject("bus", subject="u" * length)).refusals


@pytest.mark.parametrize(
    ("account", "subject", "field", "said"),
    [
        ("", subject_name("u"), "subject", f"{SOURCE} names riders by account: send account alone"),
        (account_name(64), subject_name("u"), "subject", "send account alone"),
        ("", "", "account", "it must be accounts/ and 13 characters of base 32"),
    ],
)
def test_a_system_of_the_bank_is_told_what_to_send_instead(
    account: str, subject: str, field: str, said: str
) -> None:
    refused = only_refusal(read(report("bus", account=account, subject=subject)))
    assert (refused.reason, refused.field) == ("FIELD_INVALID", field)
    assert said in refused.message


@pytest.mark.parametrize("number", [PHONE, CARD, IDENTITY, f"trip {PHONE}", "138-1234-5678"])
@pytest.mark.parametrize("field", ["source_event_id", "claim"])
def test_a_personal_number_is_refused_where_an_id_is_expected_and_never_repeated(
    field: str, number: str
) -> None:
    refused = only_refusal(read(report("bill", **{"claim": "bill-7", field: number})))
    assert (refused.reason, refused.field) == ("FIELD_INVALID", field)
    assert refused.message == (
        f"{field} looks like a phone, card or identity number; send a keyed hash of it instead"
    )
    assert number not in str(refused.metadata)


@pytest.mark.parametrize("number", ["1381234567", "4111111111111112", "ride-000000000012"])
def test_a_number_that_is_no_personal_one_is_taken_as_an_id(number: str) -> None:
    assert not read(report("bill", number, claim=number)).refusals


def test_what_was_reported_is_the_subject_whomever_it_is_bound_to() -> None:
    columns = read_partner(
        by_subject("bus", "a"),
        by_subject("bus", "b"),
        by_subject("bus", "c", "other"),
        by_subject("lunch", "d"),
    ).columns
    first, again, other, scene = columns.contents.tolist()
    assert first == again
    assert len({first, other, scene}) == 3


def test_a_digest_of_a_report_by_subject_is_none_of_one_by_account() -> None:
    numbers = (0, 1, 1_780_000_000_000_000, 440300, 1, 3000, 600)
    mine = KEYRING.content(numbers, "", 0, digest("u"))
    assert mine.hex() == "ddd8c169a0256e7d", "facts are known by it for ever"
    assert KEYRING.content(numbers, "") != mine


def test_a_claim_of_an_account_waits_until_the_account_is_known() -> None:
    known = read(report("meter", claim="2026-05-01")).columns.claims[0].tobytes()
    batch = read_partner(by_subject("bus", "a"), by_subject("meter", "b", claim="2026-05-01"))
    assert not batch.columns.has_claim.any()
    assert list(batch.late_claims) == [1]
    assert batch.late_claims[1](64) == known
    assert batch.late_claims[1](65) != known


def test_a_claim_whoever_reports_it_does_not_wait() -> None:
    batch = read_partner(by_subject("bill", claim="bill-7"))
    assert not batch.late_claims
    known = read(report("bill", claim="bill-7")).columns.claims
    assert batch.columns.claims.tolist() == known.tolist()


@pytest.mark.parametrize("more", [{}, {"names_riders_by": "name"}, {"names_riders_by": None}])
def test_a_source_that_does_not_say_how_it_names_riders_is_not_loaded(more: Any) -> None:
    scenes = {"scene": [scene_row(1, "scenes/any")], "scope_codes": {"scopes/any": 1}}
    row = {"code": 1, "name": "sources/x", "title": "X", "scenes": ["scenes/any"], **more}
    with pytest.raises(CatalogueInvalid) as caught:
        read_catalogue(scenes, {"source": [row]})
    assert "sources/x has names_riders_by" in str(caught.value)


def test_of_the_shipped_sources_the_banks_own_alone_name_accounts() -> None:
    by_account = {s.name for s in load_catalogue().sources.values() if not s.by_subject}
    assert by_account == {"sources/bank-demo", "sources/bench-demo"}
