"""Who looked, and why: what is written, what is shown, what an erasure leaves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from vault_house import ALICE, BOB, MICROSECOND, NOW, VaultHouse, vault_house

from services.identity.domain.free_text import check_free_text
from services.identity.storage.access_log import (
    KEPT,
    Access,
    forget_old,
    kept_until,
    note_access,
    read_page,
)
from shared.refusal import FieldInvalid


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[VaultHouse]:
    with vault_house(database_url, tmp_path) as made:
        yield made


def look(house: VaultHouse, account_id: int, purpose: str, days: int = 0) -> None:
    with house.database.transaction() as connection:
        note_access(
            connection, account_id, NOW + timedelta(days=days), "operators/desk", "GetAccount",
            purpose, ["display_name", "region_code"],
        )  # fmt: skip


def page(
    house: VaultHouse, account_id: int, before: int | None = None, limit: int = 50
) -> list[Access]:
    with house.database.transaction() as connection:
        return read_page(connection, account_id, before, limit)


def test_a_read_is_remembered_with_who_what_and_why(house: VaultHouse) -> None:
    look(house, ALICE, "客户来电，核对姓名")
    [access] = page(house, ALICE)
    assert access.access_time == NOW
    assert (access.actor, access.method) == ("operators/desk", "GetAccount")
    assert access.purpose == "客户来电，核对姓名"
    assert access.fields == ("display_name", "region_code")
    assert page(house, BOB) == []


def test_pages_go_from_the_newest_back_and_neither_miss_nor_repeat(house: VaultHouse) -> None:
    for number in range(7):
        look(house, ALICE, f"case {number}")
        look(house, BOB, "other")
    first = page(house, ALICE, limit=3)
    look(house, ALICE, "case 7")
    second = page(house, ALICE, first[-1].number, 3)
    third = page(house, ALICE, second[-1].number, 3)
    said = [access.purpose for access in (*first, *second, *third)]
    assert said == [f"case {number}" for number in range(6, -1, -1)]
    assert page(house, ALICE, third[-1].number, 3) == []


def test_a_read_that_is_rolled_back_is_in_no_log(house: VaultHouse) -> None:
    with house.database.transaction() as connection:
        note_access(connection, ALICE, NOW, "operators/desk", "GetAccount", "case", [])
        connection.rollback()
    assert page(house, ALICE) == []


def test_reads_are_kept_for_three_years_and_not_a_microsecond_less(house: VaultHouse) -> None:
    look(house, ALICE, "old")
    look(house, ALICE, "new", days=1)
    look(house, BOB, "old too")

    def forget(after: timedelta, limit: int = 10) -> int:
        with house.database.transaction() as connection:
            return forget_old(connection, NOW + after, limit)

    assert forget(KEPT) == 0
    assert forget(KEPT + MICROSECOND, limit=1) == 1
    assert forget(KEPT + MICROSECOND) == 1
    assert forget(KEPT + MICROSECOND) == 0
    assert [access.purpose for access in page(house, ALICE)] == ["new"]
    assert page(house, BOB) == []
    assert NOW.replace(year=NOW.year + 3) - NOW <= KEPT


def test_an_erasure_is_told_until_when_reads_are_kept(house: VaultHouse) -> None:
    with house.database.transaction() as connection:
        assert kept_until(connection, ALICE) is None
    look(house, ALICE, "case")
    look(house, ALICE, "case", days=2)
    with house.database.transaction() as connection:
        assert kept_until(connection, ALICE) == NOW + timedelta(days=2) + KEPT


@pytest.mark.parametrize(
    "text", ["complaint 2026-17", "核对", "a" * 128, "order 123456, 14:30", "née Wang – ok"]
)
def test_a_reason_in_plain_words_is_taken(text: str) -> None:
    check_free_text("purpose", text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("two\nlines", "U+000A at place 4"),
        ("a\tb", "U+0009"),
        ("\x00", "U+0000"),
        ("\x7f", "U+007F"),
        ("next\x85line", "U+0085"),
        ("turned \u202e around", "U+202E"),
        ("zero\u200bwidth", "U+200B"),
        ("line\u2028break", "U+2028"),
        ("\ud800", "U+D800"),
        ("tel 138 0013 8000", "phone number"),
        ("card 6222021234567890128", "card number"),
        ("id 11010519491231002X", "identity number"),
    ],
)
def test_a_reason_with_personal_or_invisible_content_is_refused_without_repeating_it(
    text: str, said: str
) -> None:
    with pytest.raises(FieldInvalid, match=said.replace("+", r"\+")) as error:
        check_free_text("purpose", text)
    assert error.value.field == "purpose"
    assert len(text.strip()) < 2 or text not in error.value.message


def test_a_reason_may_be_left_out_where_none_is_required() -> None:
    check_free_text("cause", "", required=False)
    with pytest.raises(FieldInvalid):
        check_free_text("cause", "13800138000", required=False)
