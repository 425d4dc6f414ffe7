"""Between the contract's messages and identity's own types; no rule is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from carbonaccount.identity.v1 import account_pb2, consent_pb2
from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.type.v1 import category_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.identity.domain.account import Account, Consent, Grant, State
from services.identity.domain.scopes import Scope
from services.identity.storage.register import Snapshot
from services.identity.usecases.accounts import Request
from shared.ids import account_id_of, account_name, from_us, new_account_id
from shared.refusal import FieldInvalid
from shared.rpc.caller import caller

_REQUEST_ID_MAX = 36


def read_request(message: Any, method: str, now_us: int) -> Request:
    """Who asks what and when; the request id is the caller's own, so callers never collide."""
    if not 8 <= len(message.request_id) <= _REQUEST_ID_MAX:
        raise FieldInvalid("request_id", "request_id must be a UUID4 in text form")
    who = caller()
    owner = who.customer_ref or who.name
    key = blake2b(f"{owner}\0{method}\0{message.request_id}".encode(), digest_size=16)
    content = blake2b(_canonical(message), digest_size=16)
    return Request(key.digest(), content.digest(), who.name, from_us(now_us))


def _canonical(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def read_new_account(message: account_pb2.Account, now_us: int) -> Account:
    """The account to open, under a fresh number."""
    region = message.region_code
    if region and (len(region) != 6 or not region.isascii() or not region.isdigit()):
        raise FieldInvalid(
            "account.region_code", f"region_code is {region[:16]!r}; it must be six digits or empty"
        )
    now = from_us(now_us)
    return Account(new_account_id(), State.OPEN, message.display_name, int(region or 0), now, now)


def read_grant(message: consent_pb2.ConsentGrant) -> Grant:
    """What the customer says yes to."""
    return Grant(
        message.scope,
        message.notice_digest,
        _read_time(message, "cover_from_time"),
        _read_time(message, "expire_time"),
    )


def _read_time(message: Any, field: str) -> datetime | None:
    if not message.HasField(field):
        return None
    try:
        moment: datetime = getattr(message, field).ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise FieldInvalid(field, f"{field} is no moment between the years 1 and 9999") from error
    return moment


def read_consent_name(name: str) -> tuple[int, int]:
    """Account number and consent number of accounts/{account}/consents/{consent}."""
    parts = name.split("/")
    if len(parts) == 4 and parts[2] == "consents" and parts[3].isascii() and parts[3].isdigit():
        return account_id_of("/".join(parts[:2])), min(int(parts[3]), 2**31 - 1)
    raise FieldInvalid(
        "name", f"name is {name[:96]!r}; it must be accounts/{{account}}/consents/{{consent}}"
    )


def write_account(account: Account) -> account_pb2.Account:
    """An account as the contract shows it."""
    return account_pb2.Account(
        name=account_name(account.account_id),
        state=account_pb2.Account.State.ValueType(account.state),
        display_name=account.display_name,
        region_code=f"{account.region:06d}" if account.region else "",
        open_time=write_time(account.open_time),
        update_time=write_time(account.update_time),
    )


def write_consent(
    consent: Consent, scopes: Mapping[int, Scope], now: datetime
) -> consent_pb2.Consent:
    """A consent as the contract shows it."""
    ended = consent_pb2.Consent.STATE_EXPIRED
    if consent.revoke_time is not None:
        ended = consent_pb2.Consent.STATE_REVOKED
    message = consent_pb2.Consent(
        name=f"{account_name(consent.account_id)}/consents/{consent.number}",
        scope=scopes[consent.scope].name,
        notice_digest=consent.notice_digest,
        state=consent_pb2.Consent.STATE_GRANTED if consent.in_force(now) else ended,
        grant_time=write_time(consent.grant_time),
        cover_from_time=write_time(consent.cover_from_time),
    )
    if consent.revoke_time is not None:
        message.revoke_time.FromDatetime(consent.revoke_time)
    if consent.expire_time is not None:
        message.expire_time.FromDatetime(consent.expire_time)
    return message


def write_snapshot(
    snapshot: Snapshot, scopes: Mapping[int, Scope], now: datetime
) -> pb.AccountSnapshot:
    """An account as the state feed sends it; only the newest consent of each scope matters."""
    newest = {consent.scope: consent for consent in snapshot.consents}
    return pb.AccountSnapshot(
        account=account_name(snapshot.account_id),
        state=account_pb2.Account.State.ValueType(snapshot.state),
        consents=[write_consent(consent, scopes, now) for consent in newest.values()],
        shard=snapshot.shard,
        position=snapshot.position,
    )


def write_scope(scope: Scope) -> consent_pb2.Scope:
    """A scope as the contract shows it."""
    message = consent_pb2.Scope(
        name=scope.name,
        title=scope.title,
        category=category_pb2.Category.Value(f"CATEGORY_{scope.category}"),
        purpose=consent_pb2.Scope.Purpose.Value(f"PURPOSE_{scope.purpose}"),
        recipient=scope.recipient,
        notice_zh=scope.notice_zh,
        notice_en=scope.notice_en,
        notice_digest=scope.notice_digest,
        sensitive_data=scope.sensitive,
    )
    if scope.cover_from_earliest is not None:
        message.cover_from_earliest_time.FromDatetime(scope.cover_from_earliest)
    return message


def write_time(moment: datetime) -> Timestamp:
    """A moment as a Timestamp."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message
