"""A sealed value opens for its account, its purpose and its key, unchanged, and not otherwise."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.identity.domain.sealing import CIPHERS, SealBroken, open_sealed, seal

KEY, NONCE = bytes(range(32)), bytes(range(12))
ACCOUNT, PURPOSE = 0x0123_4567_89AB_CDEF, "person/1"
PLAIN = "王小明 wang".encode()
both = pytest.mark.parametrize("cipher", list(CIPHERS))


def sealed_by(cipher: str, plain: bytes = PLAIN) -> bytes:
    return seal(KEY, cipher, ACCOUNT, PURPOSE, plain, NONCE)


@both
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100_000])
def test_what_was_sealed_opens_as_it_was(cipher: str, size: int) -> None:
    plain = secrets.token_bytes(size)
    sealed = sealed_by(cipher, plain)
    assert open_sealed(KEY, ACCOUNT, PURPOSE, sealed) == plain
    assert len(sealed) == 1 + 1 + 12 + size + 16


@both
def test_a_sealed_value_says_format_and_cipher_and_nothing_of_the_content(cipher: str) -> None:
    sealed = sealed_by(cipher)
    assert sealed[:2] == bytes((1, CIPHERS[cipher]))
    assert sealed[2:14] == NONCE
    assert PLAIN not in sealed
    assert "王小明".encode() not in sealed


@both
def test_no_bit_can_be_changed_at_any_place(cipher: str) -> None:
    sealed = sealed_by(cipher)
    for place in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[place] ^= 1 << bit
            with pytest.raises(SealBroken):
                open_sealed(KEY, ACCOUNT, PURPOSE, bytes(changed))


@both
def test_no_value_of_the_first_two_bytes_but_their_own_opens(cipher: str) -> None:
    sealed = sealed_by(cipher)
    for place in (0, 1):
        for value in set(range(256)) - {sealed[place]}:
            with pytest.raises(SealBroken):
                open_sealed(
                    KEY, ACCOUNT, PURPOSE, sealed[:place] + bytes((value,)) + sealed[place + 1 :]
                )


@both
def test_nothing_shorter_or_longer_opens(cipher: str) -> None:
    sealed = sealed_by(cipher)
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            open_sealed(KEY, ACCOUNT, PURPOSE, sealed[:length])
    with pytest.raises(SealBroken):
        open_sealed(KEY, ACCOUNT, PURPOSE, sealed + b"\0")


@both
def test_a_value_moved_to_another_account_or_field_does_not_open(cipher: str) -> None:
    sealed = sealed_by(cipher)
    for account, purpose in [
        (ACCOUNT + 1, PURPOSE), (ACCOUNT ^ 1 << 62, PURPOSE), (ACCOUNT, "person/2"),
        (ACCOUNT, "person/11"), (ACCOUNT, ""), (ACCOUNT, "Person/1"),
    ]:  # fmt: skip
        with pytest.raises(SealBroken):
            open_sealed(KEY, account, purpose, sealed)


@both
def test_another_data_key_opens_nothing(cipher: str) -> None:
    sealed = sealed_by(cipher)
    for place in range(32):
        other = bytearray(KEY)
        other[place] ^= 1
        with pytest.raises(SealBroken):
            open_sealed(bytes(other), ACCOUNT, PURPOSE, sealed)


def test_the_message_of_a_broken_seal_tells_nothing_of_the_content() -> None:
    with pytest.raises(SealBroken) as error:
        open_sealed(KEY, ACCOUNT + 1, PURPOSE, sealed_by("aes-256-gcm"))
    assert str(error.value) == "a sealed value (person/1) does not open"


@given(st.binary(max_size=64))
def test_bytes_that_nobody_sealed_are_refused_in_words(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        open_sealed(KEY, ACCOUNT, PURPOSE, sealed)


def test_what_is_written_today_opens_with_what_an_older_version_wrote() -> None:
    # Fixed for ever: these lie in databases.
    known = {
        "aes-256-gcm": "0101000102030405060708090a0b"
        "3ae2cf97321310f895c610b0a155f2735a6d496a5d6f7d4daa7a71a91f46",
        "sm4-gcm": "0102000102030405060708090a0b"
        "837653044dbe910217295b579b9c1aeec65ceed47afbc9b5856d374cc1eb",
    }
    for cipher, text in known.items():
        assert sealed_by(cipher).hex() == text
