"""A partner's name of its user: what is one, whose it is, and what is kept of it."""

from __future__ import annotations

import pytest

from shared.refusal import FieldInvalid
from shared.subject import SUBJECT_MAX, read_subject_name, subject_digest

BIKE = "sources/bike-demo"
SECRET = bytes(range(32))


def refusal(text: str) -> FieldInvalid:
    with pytest.raises(FieldInvalid) as caught:
        read_subject_name(text, "subject", BIKE)
    assert caught.value.field == "subject"
    return caught.value


@pytest.mark.parametrize("subject", ["u", "u" * SUBJECT_MAX, "骑行者", "a b", "x/y", "4f9a0c"])
def test_one_to_sixty_four_printable_characters_are_a_subject(subject: str) -> None:
    name = f"{BIKE}/subjects/{subject}"
    assert read_subject_name(name, "subject", BIKE) == name


@pytest.mark.parametrize("subject", ["", "u" * (SUBJECT_MAX + 1), "a\nb", "a\0", "a\u200bb"])
def test_none_one_more_and_what_cannot_be_printed_are_not(subject: str) -> None:
    assert "must have 1 to 64, all printable" in refusal(f"{BIKE}/subjects/{subject}").message


@pytest.mark.parametrize(
    "text",
    [
        "", "u-1", BIKE, f"{BIKE}/subjects", f"{BIKE}s/subjects/u-1", f" {BIKE}/subjects/u",
        "sources/metro-demo/subjects/u", "partners/bike-demo/subjects/u", "accounts/0000000000001",
    ],
)  # fmt: skip
def test_a_partner_names_users_of_its_own_only(text: str) -> None:
    said = refusal(text).message
    assert said == (
        "subject does not begin with sources/bike-demo/subjects/; name your own user, as "
        "sources/bike-demo/subjects/{subject}"
    )


@pytest.mark.parametrize("number", ["13812345678", "4111111111111111", "11010519491231002X"])
def test_a_phone_card_or_identity_number_is_no_subject_and_is_not_repeated(number: str) -> None:
    refused = refusal(f"{BIKE}/subjects/{number}")
    assert "phone, card or identity number" in refused.message
    assert number not in refused.message + str(refused.metadata)


def test_a_digest_is_sixteen_bytes_and_stays_what_it_is() -> None:
    assert (
        subject_digest(SECRET, f"{BIKE}/subjects/u-1").hex() == "63989728aa81fc9c2f4da35bc8248d96"
    )


def test_another_subject_partner_or_secret_is_another_digest() -> None:
    digests = {
        subject_digest(SECRET, f"{BIKE}/subjects/u-1"),
        subject_digest(SECRET, f"{BIKE}/subjects/u-2"),
        subject_digest(SECRET, "partners/bike-demo/subjects/u-1"),
        subject_digest(bytes(32), f"{BIKE}/subjects/u-1"),
    }
    assert len(digests) == 4
