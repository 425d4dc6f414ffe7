"""Phone, card and identity numbers are recognised, and ordinary ids are not taken for them."""

from __future__ import annotations

import timeit
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.personal import looks_personal

PHONE, CARD, IDENTITY = "phone number", "card number", "identity number"


@pytest.mark.parametrize(
    "text",
    [
        "13800138000",
        "19912345678",
        "8613800138000",
        "+8613800138000",
        "+86 138 0013 8000",
        "008613800138000",
        "ride-008613800138000",
        "0086-138-0013-8000",
        "0086138-0013-8000",
        "00861-38-0013-8000",
        "0-086-13800138000",
        "0-08613800138000",
        "00-8613800138000",
        "008-613800138000",
        "0 0 8 6 1 3 8 0 0 1 3 8 0 0 0",
        "００８６１３８００１３８０００",
        "138-0013-8000",
        "138 - 0013 - 8000",
        "1-3-8-0-0-1-3-8-0-0-0",
        "ride-13800138000",
        "ride13800138000x",
        "20240115-13800138000",
        "20240115-138-0013-8000-7",
        "seat 12, tel 138 0013 8000.",
        "来电13800138000请回",
        "１３８００１３８０００",
        "138－0013–8000",
        "138\u00a00013\u30008000",
        "١٣٨٠٠١٣٨٠٠٠",
    ],
)
def test_a_phone_number_is_recognised_however_it_is_written(text: str) -> None:
    assert looks_personal(text) == PHONE


@pytest.mark.parametrize(
    "text",
    [
        "1380013800",  # ten digits
        "138001380001",  # twelve
        "12800138000",  # 12 is no beginning
        "23800138000",
        "013800138000",
        "85138001380001",
        "861380013800",
        "0861380013800",
        "08613800138000",
        "00861380013800",  # ten digits after 0086
        "0086138001380001",  # twelve
        "0008613800138000",
        "008512800138000",
        "008513800138000",
        "008612800138000",
        "trip-2024-01-15-07-45-12-123",  # a moment
        "1700000000123",  # milliseconds
        "138a00138000",
        "138.00138000",
    ],
)
def test_what_is_one_step_from_a_phone_number_is_none(text: str) -> None:
    assert looks_personal(text) is None


@pytest.mark.parametrize(
    "number",
    [
        "6222021234567890128",
        "4111111111111111",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "3530111333300000",
        "6011111111111117",
        "6500001234567899",
        "9558820200001323775",  # debit cards from before 62: ICBC,
        "9559980210373016000",  # the Agricultural Bank,
        "6013820800096301237",  # the Bank of China
        "6907551234567892",  # China Merchants Bank
        "6839701234567890126",  # and a rural one
    ],
)
def test_a_card_number_is_recognised_and_no_other_with_a_wrong_digit(number: str) -> None:
    grouped = "-".join(number[at : at + 4] for at in range(0, len(number), 4))
    for text in (number, grouped, f"paid {number}", f"order-{number}/2", f"x{number}y"):
        assert looks_personal(text) == CARD
    for digit in set("0123456789") - {number[-1]}:
        assert looks_personal(number[:-1] + digit) is None
    assert looks_personal(f"{number}99999") is None
    assert looks_personal(f"0{number}") is None


@pytest.mark.parametrize("digits", [14, 15, 19, 20])
def test_a_card_has_15_to_19_digits(digits: int) -> None:
    body = "62" + "7" * (digits - 3)
    whole = next(body + d for d in "0123456789" if _passes_luhn(body + d))
    assert looks_personal(whole) == (CARD if 15 <= digits <= 19 else None)


def _passes_luhn(number: str) -> bool:
    doubled = [int(d) * (1 + place % 2) for place, d in enumerate(reversed(number))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def test_a_long_number_of_no_issuer_is_no_card() -> None:
    free = ("1", "21", "28", "33", "36", "50", "56", "61", "63", "64", "66", "67", "7", "8", "9")
    for start in (*free, "95", "9550", "9557", "956", "9858"):
        body = (start + "0" * 16)[:15]
        whole = next(body + d for d in "0123456789" if _passes_luhn(body + d))
        assert looks_personal(whole) is None, whole


@pytest.mark.parametrize(
    "text",
    [
        "11010519491231002X",
        "11010519491231002x",
        "110105194912310038",
        "110105 19491231 002X",
        "id=11010519491231002X;",
        "护照11010519491231002X",
    ],
)
def test_an_identity_number_with_its_checksum_is_recognised(text: str) -> None:
    assert looks_personal(text) == IDENTITY


@pytest.mark.parametrize(
    "text",
    [
        "110105194912310021",  # the checksum is wrong
        "11010519491331001X",  # no thirteenth month
        "1101051949123100X",  # seventeen
        "1110105194912310038",  # nineteen
        "11010519491231002XY",
    ],
)
def test_what_is_one_step_from_an_identity_number_is_none(text: str) -> None:
    assert looks_personal(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ride-000000000012",
        "ride-100000000012",
        "20240115000000012345",
        "202401150000123456",
        "A0F3-0012-7788",
        "12:30:45 2024-01-15",
        "550e8400-e29b-41d4-a716-446655440000",
        "00000000-0000-4000-8000-a13800138000",
        "a13800138000bcdef0123456",
        "d41d8cd98f00b204e9800998ecf8427e",
        "客户来电询问，已核对身份",
    ],
)
def test_ordinary_ids_and_texts_are_free(text: str) -> None:
    assert looks_personal(text) is None


def test_a_short_hexadecimal_word_is_looked_into() -> None:
    assert looks_personal("a13800138000bcdef012345") == PHONE


def test_no_uuid_and_no_digest_is_taken_for_a_person() -> None:
    for number in range(20_000):
        made = uuid.uuid5(uuid.NAMESPACE_URL, str(number))
        if made.hex.isdigit():
            continue
        assert looks_personal(str(made)) is None
        assert looks_personal(f"ride-{made.hex}") is None


@given(st.sampled_from(["", "86", "0086"]), st.integers(0, 10**9 - 1), st.integers(3, 9), st.data())
def test_separators_never_hide_a_phone_number(
    abroad: str, tail: int, second: int, data: st.DataObject
) -> None:
    digits = f"{abroad}1{second}{tail:09}"
    breaks = st.sampled_from(["", "", "-", " ", " - "])
    text = "".join(digit + data.draw(breaks) for digit in digits[:-1]) + digits[-1]
    assert looks_personal(f"<{text}>") == PHONE


@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    assert looks_personal(text) in (None, PHONE, CARD, IDENTITY)


@pytest.mark.parametrize(
    "text",
    [
        "1" * 100_000,
        "1 " * 50_000,
        "1" + " " * 100_000,
        "123 " * 9999,
        "0" * 100_000 + "086",
        "0 " * 50_000 + "086",
        "0086" + " " * 100_000,
        "9 5 5 " * 20_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    assert timeit.timeit(lambda: looks_personal(text), number=1) < 2


def test_an_ordinary_id_costs_next_to_nothing() -> None:
    taken = min(timeit.repeat(lambda: looks_personal("ride-000000000012"), number=10_000, repeat=7))
    # Under one microsecond when measured alone; the test leaves room for a busy machine.
    assert taken / 10_000 < 5e-6
