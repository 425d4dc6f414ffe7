"""Page sizes, and page tokens that open for their own query only."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.refusal import FieldInvalid, PageTokenInvalid
from shared.rpc.paging import PageTokens, page_size_of

TOKENS = PageTokens(b"s" * 32)


@pytest.mark.parametrize(
    ("asked", "given"), [(0, 50), (1, 1), (500, 500), (501, 500), (2**31 - 1, 500)]
)
def test_a_page_is_as_long_as_asked_up_to_500(asked: int, given: int) -> None:
    assert page_size_of(asked) == given


def test_a_negative_page_is_refused() -> None:
    with pytest.raises(FieldInvalid) as refusal:
        page_size_of(-1)
    assert refusal.value.field == "page_size"


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4).map(tuple))
def test_a_token_opens_for_its_own_query(last: tuple[int, ...]) -> None:
    token = TOKENS.seal(last, "ListConsents", "accounts/a", "open")
    assert TOKENS.open(token, "ListConsents", "accounts/a", "open") == last
    assert len(token) <= 256
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_no_token_is_the_first_page() -> None:
    assert TOKENS.open("", "ListConsents") is None


@pytest.mark.parametrize(
    "query", [("ListConsents", "b"), ("ListActivities", "a"), ("ListConsents", "a", ""),
              ("ListConsentsa",), ()]
)  # fmt: skip
def test_a_token_opens_for_no_other_query(query: tuple[str, ...]) -> None:
    with pytest.raises(PageTokenInvalid):
        TOKENS.open(TOKENS.seal((7, 8), "ListConsents", "a"), *query)


def test_a_token_of_another_secret_is_refused() -> None:
    with pytest.raises(PageTokenInvalid):
        PageTokens(b"t" * 32).open(TOKENS.seal((7,), "q"), "q")


def test_a_changed_token_is_refused() -> None:
    data = base64.urlsafe_b64decode(TOKENS.seal((7,), "q") + "==")
    changed = data.replace(b"7", b"8")
    with pytest.raises(PageTokenInvalid):
        TOKENS.open(base64.urlsafe_b64encode(changed).decode(), "q")


@given(st.text(min_size=1))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(PageTokenInvalid):
        TOKENS.open(text, "q")
