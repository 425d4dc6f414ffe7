"""Codes that are made and never stored."""

from __future__ import annotations

from services.identity.domain.codes import code_digest, make_code

SECRET, KEY = b"s" * 32, b"k" * 16


def test_a_code_is_always_the_same_and_differs_by_secret_purpose_and_request() -> None:
    codes = [
        make_code(SECRET, "binding", KEY),
        make_code(b"t" * 32, "binding", KEY),
        make_code(SECRET, "community", KEY),
        make_code(SECRET, "binding", b"l" * 16),
    ]
    assert make_code(SECRET, "binding", KEY) == codes[0]
    assert len(set(codes)) == 4
    assert {len(code) for code in codes} == {10}


def test_codes_use_every_character_in_every_place() -> None:
    codes = [make_code(SECRET, "binding", n.to_bytes(16)) for n in range(1000)]
    assert len(set(codes)) == 1000
    for place in range(10):
        assert len({code[place] for code in codes}) == 32


def test_a_digest_does_not_depend_on_how_a_code_was_typed() -> None:
    digest = code_digest(SECRET, "binding", "0123abc1xz")
    for typed in ("0123ABC1XZ", " oi23-abcl xz ", "O-1-2-3-A-B-C-L-X-Z"):
        assert code_digest(SECRET, "binding", typed) == digest


def test_a_digest_depends_on_everything_else() -> None:
    digests = {
        code_digest(SECRET, "binding", "0123abc1xz", "sources/a"),
        code_digest(SECRET, "binding", "0123abc1xz", "sources/b"),
        code_digest(SECRET, "binding", "0123abc1xz"),
        code_digest(SECRET, "binding", "0123abc1xy", "sources/a"),
        code_digest(SECRET, "community", "0123abc1xz", "sources/a"),
        code_digest(b"t" * 32, "binding", "0123abc1xz", "sources/a"),
        code_digest(SECRET, "binding", "0123abc1xzs", "ources/a"),
    }
    assert len(digests) == 7
