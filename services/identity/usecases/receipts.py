"""Signed receipts for everything that happened to the consents of an account."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from services.identity.domain.account import Consent, Decision, Event, NotedEvent
from services.identity.domain.receipt import (
    RECEIPT_TYP,
    TIME,
    ConsentEvent,
    ReceiptEvent,
    build_receipt,
)
from services.identity.domain.scopes import Scope, canonical_json
from shared.ids import to_us

_EVENTS = {
    Event.CONSENT_GRANTED: ReceiptEvent.GRANTED,
    Event.CONSENT_REFUSED: ReceiptEvent.REFUSED,
    Event.CONSENT_REVOKED: ReceiptEvent.REVOKED,
    Event.CONSENT_EXPIRED: ReceiptEvent.EXPIRED,
}


class Signer(Protocol):
    """Signs with the key of receipts; see `shared.rpc.keyring.Signer`."""

    def sign(self, payload: bytes, typ: str) -> str:
        """A compact JWS (ES256) with `kid` and `typ` in its header."""


@dataclass(frozen=True)
class Receipt:
    """A signed receipt; `number` is of the consent."""

    number: int
    event: ReceiptEvent
    event_time: datetime
    jws: str

    @property
    def key(self) -> tuple[int, int, int]:
        """Its place in the order of an account's receipts, for `before`."""
        return _key(self.event_time, self.number, self.event)


@dataclass(frozen=True)
class ReceiptMaker:
    """What every receipt needs: the words of notices by (scope, digest), the secret that keys
    ids, and the signer."""

    notices: Mapping[tuple[int, bytes], Scope]
    secret: bytes
    signer: Signer

    def sign(self, happened: ConsentEvent) -> Receipt:
        """The receipt of one event; KeyError when `notices` lacks the notice of its consent."""
        consent = happened.consent
        scope = self.notices[consent.scope, consent.notice_digest]
        payload = canonical_json(build_receipt(happened, scope, self.secret))
        jws = self.signer.sign(payload, RECEIPT_TYP)
        return Receipt(consent.number, happened.event, happened.event_time, jws)


def receipts_of(
    consents: Sequence[Consent],
    events: Sequence[NotedEvent],
    now: datetime,
    *,
    maker: ReceiptMaker,
    before: tuple[int, ...] | None = None,
    limit: int | None = None,
) -> list[Receipt]:
    """At most `limit` receipts of one account, newest first, below the key `before`.

    `consents` and `events` are all there are of the account, in any order.
    """
    happened = consent_events(consents, events, now)
    if before is not None:
        happened = [one for one in happened if _key_of(one) < before]
    return [maker.sign(one) for one in happened[:limit]]


def receipt_of(
    number: int,
    kinds: Collection[ReceiptEvent],
    consents: Sequence[Consent],
    events: Sequence[NotedEvent],
    now: datetime,
    *,
    maker: ReceiptMaker,
) -> Receipt | None:
    """The newest receipt of one consent about one of `kinds`; None when that did not happen."""
    for happened in consent_events(consents, events, now):
        if happened.consent.number == number and happened.event in kinds:
            return maker.sign(happened)
    return None


def consent_events(
    consents: Sequence[Consent], events: Sequence[NotedEvent], now: datetime
) -> list[ConsentEvent]:
    """Everything that happened to the consents of one account until now, newest first.

    A consent that ran out did so at its `expire_time`, which nobody noted.
    """
    numbered = {consent.number: consent for consent in consents}
    happened = [
        ConsentEvent(numbered[e.number], _EVENTS[e.kind], e.event_time, e.actor, e.cause)
        for e in events
        if e.kind in _EVENTS and e.number in numbered
    ]
    # What is noted has happened, also where the clock of the worker that noted it is ahead.
    now = max([now, *(one.event_time for one in happened)])
    happened += [
        ConsentEvent(consent, ReceiptEvent.EXPIRED, consent.expire_time, TIME)
        for consent in consents
        if consent.expire_time is not None and _ran_out(consent, now)
    ]
    newest: dict[int, tuple[int, ReceiptEvent]] = {}
    chained = []
    for one in sorted(happened, key=_key_of):
        scope = one.consent.scope
        chained.append(replace(one, supersedes=newest.get(scope)))
        newest[scope] = (one.consent.number, one.event)
    return chained[::-1]


def _ran_out(consent: Consent, now: datetime) -> bool:
    return (
        consent.decision is Decision.GRANTED
        and consent.revoke_time is None
        and consent.expire_time is not None
        and consent.expire_time <= now
    )


def _key_of(happened: ConsentEvent) -> tuple[int, int, int]:
    return _key(happened.event_time, happened.consent.number, happened.event)


def _key(event_time: datetime, number: int, event: ReceiptEvent) -> tuple[int, int, int]:
    # What happened to an older consent at the moment of a newer one happened before it.
    return to_us(event_time), number, int(event)
