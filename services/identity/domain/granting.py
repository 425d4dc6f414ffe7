"""What a customer must have seen and done for a grant to be one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from services.identity.domain.account import Account, Consent, EndKind, Grant, Kind
from services.identity.domain.scopes import Scope
from shared.ids import civil_day_begin_us, from_us
from shared.refusal import ConfirmationMissing, FieldInvalid, NoticeStale, ResourceNotFound

CONFIRMED_AHEAD_MAX = timedelta(minutes=5)
"""So far may the phone's clock be ahead of ours."""
CONFIRMED_AGO_MAX = timedelta(hours=1)
"""A confirmation is of the tap that grants, and not of another day."""


def new_consent(
    account: Account,
    number: int,
    grant: Grant,
    scopes: Mapping[str, Scope],
    now: datetime,
    by_guardian: bool,
) -> Consent:
    """The consent that `grant` makes of the account now; a refusal says which rule it breaks."""
    scope = scope_meant(grant, scopes)
    _check_mandate(grant, scope)
    if scope.sensitive:
        _check_confirmation(grant, now)
    cover_from = grant.cover_from_time or now
    earliest = min(scope.cover_from_earliest or now, now)
    # A household that begins tomorrow owns nothing of today, whenever its members agree.
    latest = now + timedelta(days=1) if account.kind is Kind.HOUSEHOLD else now
    if not earliest <= cover_from <= latest:
        raise FieldInvalid(
            "cover_from_time",
            f"cover_from_time is {cover_from.isoformat()}; the notice of {scope.name} offers "
            f"{earliest.isoformat()} to now",
        )
    if grant.expire_time is not None and grant.expire_time <= now:
        said = grant.expire_time.isoformat()
        raise FieldInvalid("expire_time", f"expire_time is {said}; it must lie in the future")
    expire_time = grant.expire_time
    if by_guardian:
        # A guardian's word ends with the guardianship; the holder is asked anew.
        of_age = from_us(civil_day_begin_us(account.person.own_from_day))
        expire_time = min(expire_time or of_age, of_age)
    return Consent(
        account.account_id, number, scope.code, scope.notice_digest, now, cover_from, None,
        expire_time,
        confirm_time=grant.confirm_time if scope.sensitive else None,
        screen=grant.screen if scope.sensitive else "",
        mandate_digest=grant.mandate_digest,
        by_guardian=by_guardian,
        end_kind=EndKind.NOT_ENDED,
    )  # fmt: skip


def scope_meant(grant: Grant, scopes: Mapping[str, Scope]) -> Scope:
    """The scope that is decided about; NOTICE_STALE unless its notice in force is meant."""
    scope = scopes.get(grant.scope)
    if scope is None:
        raise ResourceNotFound(grant.scope[:64], f"there are {', '.join(scopes)}")
    if grant.notice_digest != scope.notice_digest:
        raise NoticeStale(
            f"notice_digest is not that of the notice of {scope.name} in force; show the text "
            "that ListScopes gives and grant again",
            field="notice_digest",
            metadata={"scope": scope.name, "notice_digest": scope.notice_digest.hex()},
        )
    return scope


def _check_mandate(grant: Grant, scope: Scope) -> None:
    wanted = scope.mandate.mandate_digest if scope.mandate is not None else b""
    if grant.mandate_digest != wanted:
        said = "that of the mandate in force" if wanted else "empty, for it has no mandate"
        raise NoticeStale(
            f"mandate_digest of {scope.name} must be {said}; show what ListScopes gives and grant "
            "again",
            field="mandate_digest",
            metadata={"scope": scope.name, "notice_digest": wanted.hex()},
        )


def _check_confirmation(grant: Grant, now: datetime) -> None:
    if grant.confirm_time is None:
        raise ConfirmationMissing(
            f"{grant.scope} is about sensitive data and has no confirmation; ask for it on a "
            "screen of its own and send time and screen",
            field="confirmation",
            metadata={"scope": grant.scope},
        )
    if not now - CONFIRMED_AGO_MAX <= grant.confirm_time <= now + CONFIRMED_AHEAD_MAX:
        raise FieldInvalid(
            "confirmation.confirm_time",
            f"confirm_time is {grant.confirm_time.isoformat()}; it must be of the last hour, by a "
            "clock at most five minutes ahead",
        )


def shares_confirmation(consent: Consent, other: Consent) -> bool:
    """Whether two consents to different scopes rest on one tap."""
    return (
        consent.confirm_time is not None
        and consent.scope != other.scope
        and (consent.confirm_time, consent.screen) == (other.confirm_time, other.screen)
    )
