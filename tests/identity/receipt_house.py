"""Words for tests of receipts: a scope, decisions about it, and what was noted of them."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from services.identity.domain.account import Consent, Decision, Event, NotedEvent
from services.identity.domain.scopes import Controller, Mandate, Scope

ACCOUNT_ID = 123_456_789
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)
SECRET = bytes(range(32))
BANK = Controller(
    "controllers/bank", "银行", "The bank", "privacy@bank.example", "https://bank.example", "CN",
    "none",
)  # fmt: skip
MANDATE = Mandate(
    "programmes/demo", "深圳排放权交易所", 0, "decision: none", "按毫克", "by the milligram",
    "我委托", "I entrust",
)  # fmt: skip


def scope_with(code: int, **more: Any) -> Scope:
    """A plain scope to collect, unless told otherwise."""
    words: dict[str, Any] = {
        "code": code, "name": f"scopes/s{code}", "title": "标题", "title_en": "Title",
        "category": "GREEN_TRAVEL", "purpose": "COLLECT", "recipient": "银行 (the bank)",
        "partner": "", "sensitive": False, "cover_from_earliest": None,
        "data_kinds_zh": ("时间", "里程"), "data_kinds_en": ("time", "distance"),
        "retention_days": 1096, "retention_source": "decision: three years",
        "notice_version": "1", "notice_zh": f"我同意 {code}", "notice_en": f"I agree {code}",
        "mandate": None, "controller": BANK,
    }  # fmt: skip
    return Scope(**{**words, **more})


PLAIN = scope_with(1)
SENSITIVE = scope_with(2, sensitive=True)
TRADE = scope_with(3, purpose="TRADE", mandate=MANDATE, recipient="深圳排放权交易所")
LINK = scope_with(4, purpose="LINK", partner="sources/bike-demo", sensitive=True)
NOTICES = {(s.code, s.notice_digest): s for s in (PLAIN, SENSITIVE, TRADE, LINK)}


def consent_to(scope: Scope, number: int = 1, at: datetime = NOW, **more: Any) -> Consent:
    """A decision about a scope, a grant unless told otherwise."""
    said: dict[str, Any] = {
        "cover_from_time": at, "revoke_time": None, "expire_time": None,
        "mandate_digest": scope.mandate.mandate_digest if scope.mandate else b"",
    }  # fmt: skip
    if scope.sensitive:
        said |= {"confirm_time": at - TICK, "screen": f"app/{scope.code}"}
    return Consent(ACCOUNT_ID, number, scope.code, scope.notice_digest, at, **{**said, **more})


def refusal_of(scope: Scope, number: int = 1, at: datetime = NOW) -> Consent:
    return consent_to(scope, number, at, decision=Decision.REFUSED, confirm_time=None, screen="",
                      mandate_digest=b"")  # fmt: skip


def noted(kind: Event, at: datetime, number: int = 1, **more: Any) -> NotedEvent:
    """One thing in the account's events, in whose order tests have no interest."""
    return NotedEvent(**{"position": 1, "actor": "customer", "cause": "", **more},
                      kind=kind, event_time=at, number=number)  # fmt: skip


def granted(consent: Consent, **more: Any) -> NotedEvent:
    return noted(Event.CONSENT_GRANTED, consent.grant_time, consent.number, **more)


def payload_of(jws: str) -> dict[str, Any]:
    """What a JWS says, unverified."""
    part = jws.split(".")[1]
    loaded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return loaded
