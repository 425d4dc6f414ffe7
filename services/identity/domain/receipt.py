"""Receipts: one thing that happened to a consent, in the shape of ISO/IEC TS 27560:2023.

A receipt says nothing but what is kept for ever: the decision, its event and the words of its
scope under the notice digest. So the same event gives the same receipt at any later time. Its
own wording belongs to SCHEMA_VERSION; another word is another version.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any
from uuid import UUID

from services.identity.domain.account import Consent
from services.identity.domain.digest import keyed_digest
from services.identity.domain.scopes import Scope
from shared.ids import account_name

SCHEMA_VERSION = "ISO/IEC TS 27560:2023, carbonaccount receipt 1"
RECEIPT_TYP = "consent-receipt+jws"
"""The `typ` in the header of a signed receipt: nothing else that we sign passes for one."""

TIME = "time"
"""The actor of what nobody did: a consent that ran out."""


class ReceiptEvent(IntEnum):
    """What happened to a consent; the numbers are those of the contract."""

    GRANTED = 1
    REFUSED = 2
    REVOKED = 3
    EXPIRED = 4


@dataclass(frozen=True)
class ConsentEvent:
    """One thing that happened to `consent`.

    `supersedes` is the event before it of the same account and scope, as number of the consent
    and event; None for the first one.
    """

    consent: Consent
    event: ReceiptEvent
    event_time: datetime
    actor: str
    cause: str = ""
    supersedes: tuple[int, ReceiptEvent] | None = None


def build_receipt(happened: ConsentEvent, scope: Scope, secret: bytes) -> dict[str, Any]:
    """The receipt as values of JSON, without fractions; ids are digests keyed by `secret`.

    `scope` is worded as under the notice digest of the consent. Times are RFC 3339 in UTC, with
    microseconds; digests are hexadecimal. What does not apply is left out.
    """
    consent = happened.consent
    receipt: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "receipt_id": _receipt_id(secret, consent.account_id, consent.number, happened.event),
        "record_id": _uuid(secret, "record", consent.account_id, consent.number),
        "pii_principal_id": account_name(consent.account_id),
        "creation_time": _time(happened.event_time),
        "consent": f"{account_name(consent.account_id)}/consents/{consent.number}",
        "event": _event(happened, scope),
        "pii_processing": _processing(scope),
        "party_identification": [_controller(scope)],
    }
    if happened.supersedes is not None:
        number, event = happened.supersedes
        receipt["supersedes"] = _receipt_id(secret, consent.account_id, number, event)
    if scope.mandate is not None:
        receipt["mandate"] = {
            **vars(scope.mandate),
            "mandate_digest": scope.mandate.mandate_digest.hex(),
        }
    return receipt


def _event(happened: ConsentEvent, scope: Scope) -> dict[str, Any]:
    consent = happened.consent
    event: dict[str, Any] = {
        "event_time": _time(happened.event_time),
        "event_type": "explicit and separate consent" if _separate(scope) else "explicit consent",
        "event_state": happened.event.name.lower(),
        "entity_id": happened.actor,
        "decided_by_guardian": consent.by_guardian,
    }
    if happened.cause:
        event["cause"] = happened.cause
    if happened.event is ReceiptEvent.REFUSED:
        return event
    event["validity_duration"] = {"cover_from_time": _time(consent.cover_from_time)}
    if consent.expire_time is not None:
        event["validity_duration"]["expire_time"] = _time(consent.expire_time)
    if consent.confirm_time is not None:
        event["confirmation"] = {
            "confirm_time": _time(consent.confirm_time),
            "screen": consent.screen,
        }
    return event


def _processing(scope: Scope) -> dict[str, Any]:
    kinds = zip(scope.data_kinds_zh, scope.data_kinds_en, strict=True)
    purpose_zh, purpose_en = _PURPOSES[scope.purpose]
    return {
        "privacy_notice": {
            "scope": scope.name,
            "version": scope.notice_version,
            "notice_digest": scope.notice_digest.hex(),
            "notice_zh": scope.notice_zh,
            "notice_en": scope.notice_en,
        },
        "language": ["zh", "en"],
        "services": ["personal carbon account (个人碳账户)"],
        "purposes": [
            {
                "purpose": scope.purpose,
                "category": scope.category,
                "title_zh": scope.title,
                "title_en": scope.title_en,
                "description_zh": purpose_zh,
                "description_en": purpose_en,
            }
        ],
        "lawful_basis": _lawful_basis(scope),
        "pii_information": [
            {"pii_type_zh": zh, "pii_type_en": en, "sensitive": scope.sensitive} for zh, en in kinds
        ],
        "pii_controllers": [scope.controller.party_id],
        "recipients": [
            {
                "party_name": scope.recipient,
                **({"party_id": scope.partner} if scope.partner else {}),
            }
        ],
        "storage_locations": [scope.controller.location],
        "processing_locations": [scope.controller.location],
        "retention_period": {
            "days_after_account_ends": scope.retention_days,
            "source": scope.retention_source,
        },
        "jurisdiction": "CN",
        "withdrawal_method": _WITHDRAWAL,
        "privacy_rights": _RIGHTS,
        "impact_assessment": scope.controller.impact_assessment,
    }


def _controller(scope: Scope) -> dict[str, str]:
    party = scope.controller
    return {
        "party_id": party.party_id,
        "party_name_zh": party.name_zh,
        "party_name_en": party.name_en,
        "party_role": "PII controller",
        "party_contact": party.contact,
        "party_url": party.url,
        "party_type": "organisation",
    }


def _separate(scope: Scope) -> bool:
    """Whether the law asks for a consent of its own: sensitive, or given to somebody else."""
    return scope.sensitive or scope.purpose in ("TRADE", "LINK")


def _lawful_basis(scope: Scope) -> list[str]:
    basis = ["consent, PIPL art. 13 (《个人信息保护法》第十三条：同意)"]
    if scope.sensitive:
        basis.append("separate consent to sensitive data, PIPL art. 29 (第二十九条：单独同意)")
    if scope.purpose in ("TRADE", "LINK"):
        basis.append(
            "separate consent to give data to another, PIPL art. 23 (第二十三条：单独同意)"
        )
    return basis


def _receipt_id(secret: bytes, account_id: int, number: int, event: ReceiptEvent) -> str:
    return _uuid(secret, "receipt", account_id, number, event)


def _uuid(secret: bytes, purpose: str, *numbers: int) -> str:
    """A UUID of the shape of version 4, the same for the same numbers."""
    parts = [number.to_bytes(8, "big") for number in numbers]
    return str(UUID(bytes=keyed_digest(secret, purpose, *parts), version=4))


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_PURPOSES = {
    "COLLECT": ("收集并计量", "collect and measure"),
    "SHARE": ("向他人展示", "show to others"),
    "TRADE": ("提供给交易所并委托出售", "give to the venue and entrust the sale"),
    "LINK": ("与指定合作方交换数据", "exchange data with the named partner"),
}
_WITHDRAWAL = {
    "zh": "在银行应用中一步撤回，与授权同样便捷；撤回前的处理依然有效。",
    "en": "one step in the bank's app, as easy as granting; what was done before stays valid",
    "method": "carbonaccount.identity.v1.ConsentService/RevokeConsent",
}
_RIGHTS = [
    {"law": "PIPL art. 15", "zh": "撤回同意", "en": "withdraw consent"},
    {"law": "PIPL art. 45", "zh": "查阅、复制与转移", "en": "access, copy and portability"},
    {"law": "PIPL art. 46", "zh": "更正与补充", "en": "correction"},
    {"law": "PIPL art. 47", "zh": "删除", "en": "deletion"},
]
