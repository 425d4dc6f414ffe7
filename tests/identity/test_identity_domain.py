"""Consents and scopes as values: the borders of what is covered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.identity.domain.account import Consent
from services.identity.domain.digest import CONTENT, CUSTOMER, keyed_digest

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
CONSENT = Consent(
    account_id=1,
    number=1,
    scope=1,
    notice_digest=bytes(32),
    grant_time=NOW,
    cover_from_time=NOW - timedelta(days=30),
    revoke_time=None,
    expire_time=NOW + timedelta(days=30),
)


def test_behaviour_is_covered_at_the_first_moment_and_not_a_microsecond_earlier() -> None:
    assert CONSENT.covers(CONSENT.cover_from_time, NOW)
    assert not CONSENT.covers(CONSENT.cover_from_time - TICK, NOW)


def test_the_moment_of_expiry_is_no_longer_in_force() -> None:
    end = NOW + timedelta(days=30)
    assert CONSENT.in_force(end - TICK)
    assert not CONSENT.in_force(end)


def test_a_consent_is_in_force_from_its_grant_and_not_before() -> None:
    assert CONSENT.in_force(NOW)
    assert not CONSENT.in_force(NOW - TICK)


def test_after_a_revocation_nothing_is_covered_however_old() -> None:
    later = NOW + timedelta(hours=1)
    revoked = CONSENT.ended(later)
    assert revoked.covers(CONSENT.cover_from_time, later - TICK)
    assert not revoked.covers(CONSENT.cover_from_time, later)


def test_a_second_revocation_keeps_the_first_moment() -> None:
    assert CONSENT.ended(NOW).ended(NOW + TICK).revoke_time == NOW


def test_two_grants_that_each_cover_from_their_own_moment_say_the_same() -> None:
    first = replace(CONSENT, cover_from_time=NOW)
    later = replace(first, number=2, grant_time=NOW + TICK, cover_from_time=NOW + TICK)
    assert first.says_as_much_as(later)
    assert not CONSENT.says_as_much_as(later)


@pytest.mark.parametrize(
    "change",
    [
        {"expire_time": None},
        {"notice_digest": b"\1" * 32},
        {"scope": 2},
        {"cover_from_time": CONSENT.cover_from_time + TICK},
    ],
)
def test_a_grant_that_differs_in_anything_says_something_else(change: dict[str, object]) -> None:
    assert CONSENT.says_as_much_as(replace(CONSENT, number=2, grant_time=NOW + TICK))
    assert not CONSENT.says_as_much_as(replace(CONSENT, **change))  # type: ignore[arg-type]


def test_a_digest_depends_on_secret_purpose_and_where_a_part_ends() -> None:
    digest = keyed_digest(b"secret", CUSTOMER, "ab", "c")
    assert len(digest) == 16
    assert digest == keyed_digest(b"secret", CUSTOMER, b"ab", b"c")
    assert digest != keyed_digest(b"secret", CUSTOMER, "a", "bc")
    assert digest != keyed_digest(b"secret", CONTENT, "ab", "c")
    assert digest != keyed_digest(b"another", CUSTOMER, "ab", "c")
