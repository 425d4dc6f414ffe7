"""Between the contract's messages and consents; no rule is decided here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

import numpy as np
from carbonaccount.identity.v1 import consent_pb2
from carbonaccount.identity.v1 import consent_service_pb2 as pb
from carbonaccount.type.v1 import category_pb2
from numpy.typing import NDArray

from services.identity.domain.account import Consent, Decision, EndKind, Grant
from services.identity.domain.scopes import Scope
from services.identity.rpc.times import read_moment, write_time
from services.identity.usecases.check_consents import Check
from shared.ids import account_id_of, account_name
from shared.personal import looks_personal
from shared.refusal import FieldInvalid, Refusal
from shared.rpc.status import to_status

_SECONDS = (-62_135_596_800, 253_402_300_800)
"""Seconds since the epoch of the first moment of the year 1, and of the year 10000."""
_SCREEN = re.compile(r"[a-z0-9._/-]{1,64}")
_ID_BYTES = 8


def read_grant(message: consent_pb2.ConsentGrant) -> Grant:
    """What the customer says yes to."""
    if not message.scope:
        raise FieldInvalid("scope", "scope is not set; it is required")
    confirmation = message.confirmation
    screen = confirmation.screen
    is_name = _SCREEN.fullmatch(screen) and looks_personal(screen) is None
    if message.HasField("confirmation") and not is_name:
        raise FieldInvalid(
            "confirmation.screen",
            "screen must be 1 to 64 lower-case letters, digits and . _ / - such as consent/travel",
        )
    return Grant(
        message.scope,
        message.notice_digest,
        read_moment(message, "cover_from_time"),
        read_moment(message, "expire_time"),
        read_moment(confirmation, "confirm_time"),
        confirmation.screen,
        message.mandate_digest,
    )


def read_grants(messages: Iterable[consent_pb2.ConsentGrant]) -> list[Grant | Refusal]:
    """What the customer says yes to in one tap, each by itself: one that cannot be read is its
    refusal."""
    grants: list[Grant | Refusal] = []
    for message in messages:
        try:
            grants.append(read_grant(message))
        except Refusal as refusal:
            grants.append(refusal)
    return grants


def read_check(message: pb.BatchCheckConsentsRequest.Check) -> Check | Refusal:
    """One collection to check, or what is wrong with the question."""
    try:
        account_id = account_id_of(message.account, "account")
        if not message.scope:
            raise FieldInvalid("scope", "scope is not set; it is required")
        if not message.HasField("occur_time"):
            raise FieldInvalid("occur_time", "occur_time is not set; it is required")
        occur_time = message.occur_time
        if not 0 <= occur_time.nanos < 10**9 or not _SECONDS[0] <= occur_time.seconds < _SECONDS[1]:
            raise FieldInvalid("occur_time", "occur_time is no moment between the years 1 and 9999")
    except FieldInvalid as refusal:
        return refusal
    return Check(account_id, message.scope, occur_time.seconds * 10**6 + occur_time.nanos // 1000)


def read_columns(
    message: pb.BatchCheckConsentsRequest.Columns,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Account numbers and moments of many collections."""
    accounts = _integers(message.account_id, "columns.account_id")
    occur_us = _integers(message.occur_time_us, "columns.occur_time_us")
    if len(accounts) != len(occur_us):
        raise FieldInvalid(
            "columns.occur_time_us",
            f"occur_time_us has {len(occur_us)} items and account_id {len(accounts)}; send as many",
        )
    if (accounts <= 0).any():
        raise FieldInvalid("columns.account_id", "account_id holds a number below 1; none is such")
    low, high = _SECONDS[0] * 10**6, _SECONDS[1] * 10**6
    if (occur_us < low).any() or (occur_us >= high).any():
        raise FieldInvalid(
            "columns.occur_time_us", "occur_time_us holds no moment of the years 1 to 9999"
        )
    return accounts, occur_us


def _integers(packed: bytes, field: str) -> NDArray[np.int64]:
    if len(packed) % _ID_BYTES:
        raise FieldInvalid(field, f"{field} has {len(packed)} bytes; each item takes {_ID_BYTES}")
    return np.frombuffer(packed, ">i8").astype(np.int64)


def write_answer(answer: str | Refusal) -> pb.BatchCheckConsentsResponse.Answer:
    """The name of the covering consent, or the refusal that a single call would get."""
    if isinstance(answer, Refusal):
        return pb.BatchCheckConsentsResponse.Answer(refusal=to_status(answer))
    return pb.BatchCheckConsentsResponse.Answer(consent=answer)


def write_consent(
    consent: Consent, scopes: Mapping[int, Scope], now: datetime
) -> consent_pb2.Consent:
    """A consent as the contract shows it."""
    refused = consent.decision is Decision.REFUSED
    message = consent_pb2.Consent(
        name=f"{account_name(consent.account_id)}/consents/{consent.number}",
        scope=scopes[consent.scope].name,
        notice_digest=consent.notice_digest,
        state=_state(consent, now),
        grant_time=write_time(consent.grant_time),
        cover_from_time=None if refused else write_time(consent.cover_from_time),
        mandate_digest=consent.mandate_digest,
        decided_by_guardian=consent.by_guardian,
    )
    if consent.revoke_time is not None:
        message.revoke_time.FromDatetime(consent.revoke_time)
    if consent.expire_time is not None:
        message.expire_time.FromDatetime(consent.expire_time)
    if consent.confirm_time is not None:
        message.confirmation.confirm_time.FromDatetime(consent.confirm_time)
        message.confirmation.screen = consent.screen
    return message


def _state(consent: Consent, now: datetime) -> consent_pb2.Consent.State.ValueType:
    """What the consent is by now.

    A grant or revocation that is written has happened, also where the clock of the worker that
    wrote it is ahead of `now`, or where `now` was taken before it was read. Time alone ends a
    consent only at its expiry.
    """
    if consent.decision is Decision.REFUSED:
        return consent_pb2.Consent.STATE_REFUSED
    if consent.end_kind is EndKind.NOTICE_CHANGED:
        return consent_pb2.Consent.STATE_EXPIRED
    if consent.revoke_time is not None:
        return consent_pb2.Consent.STATE_REVOKED
    if consent.expire_time is not None and consent.expire_time <= now:
        return consent_pb2.Consent.STATE_EXPIRED
    return consent_pb2.Consent.STATE_GRANTED


def write_scope(scope: Scope) -> consent_pb2.Scope:
    """A scope as the contract shows it."""
    message = consent_pb2.Scope(
        name=scope.name,
        title=scope.title,
        title_en=scope.title_en,
        category=category_pb2.Category.Value(f"CATEGORY_{scope.category}"),
        purpose=consent_pb2.Scope.Purpose.Value(f"PURPOSE_{scope.purpose}"),
        recipient=scope.recipient,
        partner=scope.partner,
        notice_version=scope.notice_version,
        notice_zh=scope.notice_zh,
        notice_en=scope.notice_en,
        notice_digest=scope.notice_digest,
        data_kinds_zh=scope.data_kinds_zh,
        data_kinds_en=scope.data_kinds_en,
        retention_days=scope.retention_days,
        retention_source=scope.retention_source,
        sensitive_data=scope.sensitive,
    )
    if scope.cover_from_earliest is not None:
        message.cover_from_earliest_time.FromDatetime(scope.cover_from_earliest)
    if scope.mandate is not None:
        mandate = {
            field.name: getattr(scope.mandate, field.name)
            for field in consent_pb2.Scope.Mandate.DESCRIPTOR.fields
        }
        message.mandate.CopyFrom(consent_pb2.Scope.Mandate(**mandate))
    return message
