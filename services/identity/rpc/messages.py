"""Between the contract's messages and accounts; no rule is decided here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from carbonaccount.identity.v1 import account_pb2
from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.type.v1.cursor_pb2 import ShardCursor

from services.identity.domain.account import (
    Account,
    Event,
    Kind,
    NotedEvent,
    Person,
    Preferences,
    State,
)
from services.identity.domain.digest import CONTENT, CUSTOMER, PERSON, REQUEST, keyed_digest
from services.identity.domain.scopes import Scope
from services.identity.rpc.consent_messages import write_consent
from services.identity.rpc.times import write_day, write_time
from services.identity.storage.snapshots import Snapshot
from services.identity.usecases.accounts import Opened
from services.identity.usecases.acting import Request
from shared.ids import account_id_of, account_name, from_us, new_account_id
from shared.refusal import FieldInvalid, Refusal
from shared.rpc.caller import caller
from shared.rpc.request_id import read_request_id
from shared.rpc.status import to_status

_RESOURCES = {
    Event.CONSENT_GRANTED: "consents",
    Event.CONSENT_REVOKED: "consents",
    Event.CONSENT_REFUSED: "consents",
    Event.CONSENT_EXPIRED: "consents",
    Event.BOUND: "bindings",
    Event.UNBOUND: "bindings",
    Event.EXPORT_ASKED: "operations",
    Event.ERASED: "operations",
}
"""The events whose number is that of a resource below the account."""
_PREFERENCES = ("language", "board_opt_in", "share_display_name", "share_amounts")


def read_request(message: Any, method: str, secret: bytes) -> Request:
    """Who asks what; the request id is the caller's own, so callers never collide."""
    request_id = str(read_request_id(message.request_id))
    who = caller()
    content = message.SerializeToString(deterministic=True)
    return Request(
        key=keyed_digest(secret, REQUEST, who.kind, who.customer_ref or who.name, request_id),
        content=keyed_digest(secret, CONTENT, method, content),
        method=method,
        kind=who.kind,
        actor=_actor(),
        by=account_id_of(who.account, "token") if who.account else 0,
    )


def read_reader(method: str) -> Request:
    """Who reads; nothing is claimed by a read."""
    who = caller()
    by = account_id_of(who.account, "token") if who.account else 0
    return Request(b"", b"", method, who.kind, _actor(), by)


def _actor() -> str:
    """How the caller is called in events and logs of accounts."""
    who = caller()
    # The name in a customer's token may be the bank's number of a person; it stays out.
    return who.kind if who.kind == "customer" else who.name


def customer_keys(secret: bytes, customer_ref: str, person_ref: str) -> list[bytes]:
    """The keys under which a customer is known: of the relation, and of the person if given."""
    keys = [keyed_digest(secret, CUSTOMER, customer_ref)]
    return [*keys, keyed_digest(secret, PERSON, person_ref)] if person_ref else keys


def read_new_account(
    message: account_pb2.Account, now_us: int, customer_kind: int, own_from_day: int
) -> Account:
    """The account to open, under a fresh number; the bank's facts come beside the message."""
    person = Person(
        read_plain(message.display_name, "account.display_name"),
        read_region(message.region_code, "account.region_code"),
        _read_preferences(message.preferences),
        own_from_day,
    )
    now = from_us(now_us)
    return Account(new_account_id(), State.OPEN, Kind.PERSONAL, customer_kind, person, 1, now, now)


def read_change(message: account_pb2.Account, paths: Sequence[str]) -> Callable[[Person], Person]:
    """What the fields that an update mask names make of a person."""
    if not paths:
        raise FieldInvalid("update_mask", "update_mask names nothing; name the fields to change")
    fields: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    given = _read_preferences(message.preferences)
    for path in paths:
        if path == "display_name":
            fields["display_name"] = read_plain(message.display_name, "account.display_name")
        elif path == "region_code":
            fields["region"] = read_region(message.region_code, "account.region_code")
        elif path == "preferences":
            chosen |= vars(given)
        elif path.removeprefix("preferences.") in _PREFERENCES and "." in path:
            name = path.removeprefix("preferences.")
            chosen[name] = getattr(given, name)
        else:
            raise FieldInvalid(
                "update_mask",
                f"update_mask names {path[:64]!r}; display_name, region_code, preferences and the "
                f"fields of preferences ({', '.join(_PREFERENCES)}) may be changed",
            )

    def change(person: Person) -> Person:
        return replace(person, **fields, preferences=replace(person.preferences, **chosen))

    return change


def read_plain(text: str, field: str) -> str:
    """A text without control characters."""
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise FieldInvalid(field, f"{field} has a control character; it must be plain text")
    return text


def read_numbered_name(name: str, collection: str) -> tuple[int, int]:
    """Account number and number of accounts/{account}/{collection}/{number}."""
    parts = name.split("/")
    if len(parts) == 4 and parts[2] == collection and parts[3].isascii() and parts[3].isdigit():
        return account_id_of("/".join(parts[:2])), min(int(parts[3][:10]), 2**31 - 1)
    raise FieldInvalid(
        "name",
        f"name is {name[:96]!r}; it must be accounts/{{account}}/{collection}/ and a number",
    )


def read_region(region: str, field: str) -> int:
    """The number of an administrative division; 0 when not given."""
    if region and not (len(region) == 6 and region.isascii() and region.isdigit() and region > "1"):
        raise FieldInvalid(field, f"{field} must be six digits, the first not 0, or empty")
    return int(region or 0)


def _read_preferences(message: account_pb2.Preferences) -> Preferences:
    if message.language not in account_pb2.Preferences.Language.values():
        raise FieldInvalid(
            "account.preferences.language",
            f"language is {message.language}; it must be LANGUAGE_ZH, LANGUAGE_EN or unset",
        )
    return Preferences(**{name: getattr(message, name) for name in _PREFERENCES})


def write_account(account: Account, day: int) -> account_pb2.Account:
    """An account as the contract shows it on that civil day."""
    person = account.person
    return account_pb2.Account(
        name=account_name(account.account_id),
        state=account_pb2.Account.State.ValueType(account.state),
        kind=account_pb2.Account.Kind.ValueType(account.kind),
        customer_kind=account_pb2.CustomerKind.ValueType(account.customer_kind),
        display_name=person.display_name,
        region_code=f"{person.region:06d}" if person.region else "",
        preferences=account_pb2.Preferences(**vars(person.preferences)),
        open_time=write_time(account.open_time),
        update_time=write_time(account.update_time),
        etag=str(account.person_number),
        guarded_account=account.guarded(day),
    )


def write_outcomes(
    opened: Opened, scopes: Mapping[int, Scope], now: datetime
) -> tuple[list[Any], list[pb.OpenAccountResponse.Outcome]]:
    """The consents of an opening that were granted, and an outcome for each that was asked; a
    retry has none, because what was refused then was not kept."""
    consents, outcomes = [], []
    for place, outcome in enumerate(opened.outcomes):
        if isinstance(outcome, Refusal):
            if outcome.field:
                outcome.field = f"consents[{place}].{outcome.field}"
            outcomes.append(pb.OpenAccountResponse.Outcome(refusal=to_status(outcome)))
        else:
            consents.append(write_consent(outcome, scopes, now))
            outcomes.append(pb.OpenAccountResponse.Outcome(consent=consents[-1]))
    return consents, [] if opened.retry else outcomes


def write_event(account_id: int, event: NotedEvent) -> pb.AccountEvent:
    """What happened, as the contract shows it."""
    resource = ""
    if event.kind in _RESOURCES and event.number:
        resource = f"{account_name(account_id)}/{_RESOURCES[event.kind]}/{event.number}"
    return pb.AccountEvent(
        kind=pb.AccountEvent.Kind.ValueType(event.kind),
        event_time=write_time(event.event_time),
        actor=event.actor,
        cause=event.cause,
        resource=resource,
    )


def write_snapshot(
    snapshot: Snapshot, scopes: Mapping[int, Scope], now: datetime
) -> pb.AccountSnapshot:
    """An account as the state feed sends it."""
    message = pb.AccountSnapshot(
        account=account_name(snapshot.account_id),
        state=account_pb2.Account.State.ValueType(snapshot.state),
        kind=account_pb2.Account.Kind.ValueType(snapshot.kind),
        consents=[write_consent(consent, scopes, now) for consent in snapshot.consents],
        shard=snapshot.shard,
        position=snapshot.position,
        communities=snapshot.communities,
    )
    for partner, digest, expire_time in snapshot.subjects:
        subject = message.subjects.add(partner=partner, subject_digest=digest)
        if expire_time is not None:
            subject.expire_time.FromDatetime(expire_time)
    for day, shares in snapshot.share_periods:
        period = message.share_periods.add(start_date=write_day(day))
        for member, ppm in sorted(shares.items()):
            period.shares.add(account=account_name(member), share_ppm=ppm)
    return message


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
