"""Between the contract's messages and identity's own types; no rule is decided here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from carbonaccount.identity.v1 import account_pb2, consent_pb2, consent_service_pb2
from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.type.v1 import category_pb2
from carbonaccount.type.v1.cursor_pb2 import ShardCursor
from google.protobuf.timestamp_pb2 import Timestamp

from services.identity.domain.account import Account, Consent, Grant, State
from services.identity.domain.digest import CONTENT, REQUEST, keyed_digest
from services.identity.domain.scopes import Scope
from services.identity.storage.register import Snapshot
from services.identity.usecases.accounts import Request
from services.identity.usecases.check_consents import Check
from shared.ids import account_id_of, account_name, from_us, new_account_id
from shared.refusal import FieldInvalid, Refusal
from shared.rpc.caller import caller
from shared.rpc.request_id import read_request_id
from shared.rpc.status import to_status

MOMENTS = (-62_135_596_800, 253_402_300_800)
"""Seconds since the epoch of the first moment of the year 1, and of the year 10000."""


def read_request(message: Any, method: str, secret: bytes) -> Request:
    """Who asks what; the request id is the caller's own, so callers never collide."""
    request_id = str(read_request_id(message.request_id))
    who = caller()
    content = message.SerializeToString(deterministic=True)
    return Request(
        key=keyed_digest(secret, REQUEST, who.kind, who.customer_ref or who.name, request_id),
        content=keyed_digest(secret, CONTENT, method, content),
        method=method,
        # The name in a customer's token may be the bank's number of a person; it stays out.
        actor=who.kind if who.kind == "customer" else who.name,
    )


def read_new_account(message: account_pb2.Account, now_us: int) -> Account:
    """The account to open, under a fresh number."""
    region, name = message.region_code, message.display_name
    if region and not (len(region) == 6 and region.isascii() and region.isdigit() and region > "1"):
        raise FieldInvalid(
            "account.region_code",
            f"region_code is {region[:16]!r}; it must be six digits, the first not 0, or empty",
        )
    if any(ord(character) < 32 for character in name):
        raise FieldInvalid(
            "account.display_name", "display_name has a control character; it must be plain text"
        )
    now = from_us(now_us)
    return Account(new_account_id(), State.OPEN, name, int(region or 0), now, now)


def read_grant(message: consent_pb2.ConsentGrant) -> Grant:
    """What the customer says yes to."""
    if not message.scope:
        raise FieldInvalid("scope", "scope is not set; it is required")
    return Grant(
        message.scope,
        message.notice_digest,
        _read_time(message, "cover_from_time"),
        _read_time(message, "expire_time"),
    )


def _read_time(message: Any, field: str) -> datetime | None:
    """A moment in whole microseconds, cut off; None when it is not set."""
    if not message.HasField(field):
        return None
    try:
        moment: datetime = getattr(message, field).ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise FieldInvalid(field, f"{field} is no moment between the years 1 and 9999") from error
    return moment


def read_check(message: consent_service_pb2.BatchCheckConsentsRequest.Check) -> Check | Refusal:
    """One collection to check, or what is wrong with the question."""
    try:
        account_id = account_id_of(message.account, "account")
        if not message.scope:
            raise FieldInvalid("scope", "scope is not set; it is required")
        if not message.HasField("occur_time"):
            raise FieldInvalid("occur_time", "occur_time is not set; it is required")
        occur_time = message.occur_time
        if not 0 <= occur_time.nanos < 10**9 or not MOMENTS[0] <= occur_time.seconds < MOMENTS[1]:
            raise FieldInvalid("occur_time", "occur_time is no moment between the years 1 and 9999")
    except FieldInvalid as refusal:
        return refusal
    return Check(account_id, message.scope, occur_time.seconds * 10**6 + occur_time.nanos // 1000)


def write_answer(answer: str | Refusal) -> consent_service_pb2.BatchCheckConsentsResponse.Answer:
    """The name of the covering consent, or the refusal that a single call would get."""
    if isinstance(answer, Refusal):
        return consent_service_pb2.BatchCheckConsentsResponse.Answer(refusal=to_status(answer))
    return consent_service_pb2.BatchCheckConsentsResponse.Answer(consent=answer)


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
    message = consent_pb2.Consent(
        name=f"{account_name(consent.account_id)}/consents/{consent.number}",
        scope=scopes[consent.scope].name,
        notice_digest=consent.notice_digest,
        state=_state(consent, now),
        grant_time=write_time(consent.grant_time),
        cover_from_time=write_time(consent.cover_from_time),
    )
    if consent.revoke_time is not None:
        message.revoke_time.FromDatetime(consent.revoke_time)
    if consent.expire_time is not None:
        message.expire_time.FromDatetime(consent.expire_time)
    return message


def _state(consent: Consent, now: datetime) -> consent_pb2.Consent.State.ValueType:
    """What the consent is by now.

    A grant or revocation that is written has happened, also where the clock of the worker that
    wrote it is ahead of `now`, or where `now` was taken before it was read. Time alone ends a
    consent only at its expiry.
    """
    if consent.revoke_time is not None:
        return consent_pb2.Consent.STATE_REVOKED
    if consent.expire_time is not None and consent.expire_time <= now:
        return consent_pb2.Consent.STATE_EXPIRED
    return consent_pb2.Consent.STATE_GRANTED


def write_snapshot(
    snapshot: Snapshot, scopes: Mapping[int, Scope], now: datetime
) -> pb.AccountSnapshot:
    """An account as the state feed sends it."""
    return pb.AccountSnapshot(
        account=account_name(snapshot.account_id),
        state=account_pb2.Account.State.ValueType(snapshot.state),
        consents=[write_consent(consent, scopes, now) for consent in snapshot.consents],
        shard=snapshot.shard,
        position=snapshot.position,
    )


def write_watch(
    snapshots: Sequence[Snapshot],
    moved: Mapping[int, int],
    complete_us: int,
    scopes: Mapping[int, Scope],
    now_us: int,
) -> pb.WatchAccountsResponse:
    """A run of snapshots and the shards it moves; `complete_us` is 0 when not yet known."""
    now = from_us(now_us)
    message = pb.WatchAccountsResponse(
        snapshots=[write_snapshot(snapshot, scopes, now) for snapshot in snapshots],
        cursors=[ShardCursor(shard=s, position=p) for s, p in sorted(moved.items())],
    )
    if complete_us:
        message.complete_time.CopyFrom(write_time(from_us(complete_us)))
    return message


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
