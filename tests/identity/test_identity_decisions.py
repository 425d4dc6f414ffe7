"""Saying no, taking back, receipts and freshness; checks as columns and as of a moment."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from carbonaccount.feed.v1 import feed_service_pb2 as feed_pb
from carbonaccount.feed.v1 import feed_service_pb2_grpc as feed_grpc
from carbonaccount.identity.v1 import consent_service_pb2 as pb
from carbonaccount.identity.v1 import session_service_pb2
from carbonaccount.identity.v1.consent_pb2 import Consent, ConsentReceipt
from google.protobuf.timestamp_pb2 import Timestamp
from identity_house import (
    MICROSECOND,
    OFFERED,
    READING,
    SCOPES,
    TRAVEL,
    Customer,
    House,
    grant_of,
    refused,
    request_id,
    served,
    settings_for,
    soon,
    stamp,
)

from services.identity import wiring
from services.identity.verify_receipt import verify
from shared.ids import account_id_of
from shared.rpc.status import reason_of

TRADE = "scopes/shenzhen-trade"


def refuse(
    person: Customer, scope: str, request: str = "", **other: Any
) -> pb.RefuseConsentResponse:
    message = pb.RefuseConsentRequest(
        parent=person.account,
        scope=other.get("name", scope),
        notice_digest=other.get("notice_digest", SCOPES[scope].notice_digest),
        request_id=request or request_id(),
    )
    return person.house.consents.RefuseConsent(message, **person.call)


def receipts(person: Customer) -> list[ConsentReceipt]:
    asked = pb.ListConsentReceiptsRequest(parent=person.account, page_size=500)
    return list(person.house.consents.ListConsentReceipts(asked, **person.call).receipts)


def test_a_no_is_on_record_with_a_receipt(house: House) -> None:
    person = house.customer()
    person.open()
    answer = refuse(person, TRAVEL)
    assert answer.consent.state == Consent.STATE_REFUSED
    assert not answer.consent.HasField("cover_from_time")
    assert answer.receipt.event == ConsentReceipt.EVENT_REFUSED
    assert answer.freshness_token
    assert list(person.consents()) == [answer.consent]


def test_a_no_ends_the_yes_before_it(house: House) -> None:
    person = house.customer()
    person.open(grant_of(TRAVEL))
    refused_at = refuse(person, TRAVEL).consent.grant_time
    newest, older = person.consents()
    assert newest.state == Consent.STATE_REFUSED
    assert (older.state, older.revoke_time) == (Consent.STATE_REVOKED, refused_at)


def test_the_same_no_twice_is_one_and_a_yes_may_follow(house: House) -> None:
    person, key = house.customer(), request_id()
    person.open()
    first = refuse(person, TRAVEL, key).consent
    assert refuse(person, TRAVEL).consent == first
    assert person.grant(grant_of(TRAVEL)).state == Consent.STATE_GRANTED
    assert refuse(person, TRAVEL, key).consent == first
    assert len(person.consents()) == 2


def test_a_no_is_to_a_notice_in_force_of_a_known_scope(house: House) -> None:
    person = house.customer()
    person.open()
    with refused("NOTICE_STALE"):
        refuse(person, TRAVEL, notice_digest=b"\1" * 32)
    with refused("RESOURCE_NOT_FOUND"):
        refuse(person, TRAVEL, name="scopes/none")
    person.close()
    with refused("ACCOUNT_NOT_OPEN"):
        refuse(person, TRAVEL)


def test_a_mandate_is_agreed_to_in_its_own_words(house: House) -> None:
    person = house.customer()
    person.open()
    for wrong in (b"", b"\1" * 32):
        with refused("NOTICE_STALE"):
            person.grant(grant_of(TRADE, mandate_digest=wrong))
    with refused("NOTICE_STALE"):
        person.grant(grant_of(READING, mandate_digest=b"\1" * 32))
    assert person.grant(grant_of(TRADE)).mandate_digest == SCOPES[TRADE].mandate.mandate_digest


def test_every_decision_has_a_receipt_that_verifies_with_the_published_keys(house: House) -> None:
    person = house.customer()
    person.open(grant_of(TRAVEL))
    refuse(person, TRAVEL)
    name = person.grant(grant_of(READING)).name
    person.revoke(name)
    jwks = house.sessions.ListSigningKeys(session_service_pb2.ListSigningKeysRequest()).jwks
    found = receipts(person)
    told = [(r.event, r.consent.rpartition("/")[2]) for r in found]
    assert told == [(3, "3"), (1, "3"), (2, "2"), (3, "1"), (1, "1")]
    for receipt in found:
        assert verify(receipt.jws, jwks.encode())[1]["pii_principal_id"] == person.account
    head, body, tail = found[0].jws.split(".")
    changed = json.loads(base64.urlsafe_b64decode(body + "=="))
    changed["pii_principal_id"] = "accounts/somebody"
    forged = base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip("=")
    with pytest.raises(Exception, match="signature"):
        verify(f"{head}.{forged}.{tail}", jwks.encode())


def test_the_receipt_of_a_call_is_the_one_of_the_list(house: House) -> None:
    person = house.customer()
    person.open()
    request = pb.GrantConsentRequest(
        parent=person.account, consent=grant_of(READING), request_id=request_id()
    )
    granted = house.consents.GrantConsent(request, **person.call)
    mine = json.loads(base64.urlsafe_b64decode(granted.receipt.jws.split(".")[1] + "=="))
    [listed] = receipts(person)
    assert json.loads(base64.urlsafe_b64decode(listed.jws.split(".")[1] + "==")) == mine


def test_a_token_is_fresh_at_once_where_it_was_made(
    house: House,
) -> None:
    person = house.customer()
    name = person.open(grant_of(READING)).consents[0].name
    request = pb.RevokeConsentRequest(name=name, request_id=request_id())
    token = house.consents.RevokeConsent(request, **person.call).freshness_token
    feed = feed_grpc.FeedServiceStub(house.channel)
    feed.AwaitFreshness(feed_pb.AwaitFreshnessRequest(freshness_token=token), **person.call)
    for wrong in ("", "x", token[:-2], base64.urlsafe_b64encode(b"other:1:1").decode()):
        with refused("FIELD_INVALID"):
            feed.AwaitFreshness(feed_pb.AwaitFreshnessRequest(freshness_token=wrong), **person.call)
    again = pb.RevokeConsentRequest(name=name, request_id=request_id())
    assert house.consents.RevokeConsent(again, **person.call).freshness_token == token


def columns(accounts: list[str], moments: list[int], scope: str = TRAVEL) -> Any:
    numbers = np.array([account_id_of(name) for name in accounts], ">i8")
    return pb.BatchCheckConsentsRequest.Columns(
        scope=scope,
        account_id=numbers.tobytes(),
        occur_time_us=np.array(moments, ">i8").tobytes(),
    )


def ask(house: House, **fields: Any) -> pb.BatchCheckConsentsResponse:
    request = pb.BatchCheckConsentsRequest(**fields)
    return house.consents.BatchCheckConsents(request, **house.service)


def test_columns_are_answered_as_items_are(house: House) -> None:
    covered, closed, silent = house.customer(), house.customer(), house.customer()
    covered.open(grant_of(TRAVEL, cover_from_time=stamp(OFFERED)))
    closed.open(grant_of(TRAVEL))
    closed.close()
    silent.open()
    first = int(OFFERED.timestamp() * 1e6)
    asked = columns(
        [
            covered.account,
            covered.account,
            silent.account,
            closed.account,
            "accounts/0000000000001",
        ],
        [first, first - 1, first, first, first],
    )
    assert list(ask(house, columns=asked).verdicts) == [1, 2, 2, 3, 4]


@pytest.mark.parametrize(
    "change",
    [
        {"account_id": b"1234567"},
        {"account_id": bytes(16)},
        {"account_id": (-1).to_bytes(8, signed=True)},
        {"occur_time_us": (2**62).to_bytes(8)},
        {"occur_time_us": bytes(16)},
    ],
)
def test_columns_that_mean_nothing_are_refused(house: House, change: dict[str, bytes]) -> None:
    person = house.customer()
    person.open()
    asked = columns([person.account], [0])
    for name, value in change.items():
        setattr(asked, name, value)
    with refused("FIELD_INVALID"):
        ask(house, columns=asked)


def test_either_items_or_columns_are_asked(house: House) -> None:
    person = house.customer()
    person.open()
    with refused("FIELD_INVALID"):
        ask(house)
    check = pb.BatchCheckConsentsRequest.Check(account=person.account, scope=TRAVEL)
    with refused("FIELD_INVALID"):
        ask(house, checks=[check], columns=columns([person.account], [0]))
    with refused("RESOURCE_NOT_FOUND"):
        ask(house, columns=columns([person.account], [0], "scopes/none"))


def test_a_check_as_of_a_moment_knows_nothing_of_what_came_after(house: House) -> None:
    person = house.customer()
    person.open()
    granted = person.grant(grant_of(TRAVEL, cover_from_time=stamp(OFFERED)))
    revoked = person.revoke(granted.name)
    closed = person.close()
    first = int(OFFERED.timestamp() * 1e6)
    asked = columns([person.account], [first])
    for moment, expected in (
        (stamp(granted.grant_time.ToDatetime() - MICROSECOND), 2),
        (granted.grant_time, 1),
        (stamp(revoked.revoke_time.ToDatetime() - MICROSECOND), 1),
        (revoked.revoke_time, 2),
        (closed.update_time, 3),
        (Timestamp(seconds=1_500_000_000), 4),
    ):
        assert list(ask(house, columns=asked, read_time=moment).verdicts) == [expected]


def test_consents_are_listed_as_they_stood(house: House) -> None:
    person = house.customer()
    person.open()
    first = person.grant(grant_of(TRAVEL))
    second = person.grant(grant_of(READING))
    person.revoke(first.name)
    asked = pb.ListConsentsRequest(parent=person.account, read_time=second.grant_time)
    stood = house.consents.ListConsents(asked, **person.call).consents
    assert list(stood) == [second, first]
    asked.read_time.CopyFrom(first.grant_time)
    assert list(house.consents.ListConsents(asked, **person.call).consents) == [first]


def test_checks_are_metered_by_caller_and_day(house: House) -> None:
    person = house.customer()
    person.open(grant_of(TRAVEL))
    now = int(soon(0).ToMicroseconds())
    ask(house, columns=columns([person.account] * 3, [now] * 3))
    ask(house, columns=columns([person.account], [now], READING))
    for _ in range(100):
        asked = pb.ListConsentMetersRequest()
        meters = house.consents.ListConsentMeters(asked, **house.operator).meters
        if meters:
            break
        time.sleep(0.05)
    found = [(m.caller, m.check_count, m.refused_count) for m in meters]
    assert found == [("services/activity", 4, 1)]


def test_a_changed_notice_ends_the_consents_to_the_old_one_before_anything_is_served(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(database_url, tmp_path)
    with served(settings) as house:
        person = house.customer()
        person.open(grant_of(READING), grant_of(TRAVEL))
    scopes = wiring.load_scopes()
    new = replace(
        scopes[READING],
        notice_zh=scopes[READING].notice_zh + "（新）",
        notice_version="2026-12-01",
    )
    changed = {**scopes, READING: new}
    monkeypatch.setattr(wiring, "load_scopes", lambda: changed)
    with served(settings) as later:
        again = later.customer_like(person)
        states = {c.scope: c.state for c in again.consents()}
        assert states == {READING: Consent.STATE_EXPIRED, TRAVEL: Consent.STATE_GRANTED}
        with refused("NOTICE_STALE"):
            again.grant(grant_of(READING))
        newest = receipts(again)[0]
        assert newest.event == ConsentReceipt.EVENT_EXPIRED
        renewed = again.grant(grant_of(READING, notice_digest=new.notice_digest))
        assert renewed.state == Consent.STATE_GRANTED


def test_a_consent_to_belong_comes_with_a_household_and_not_alone(house: House) -> None:
    person = house.customer()
    belong = "scopes/household-collect"
    opened = person.open(grant_of(belong))
    assert reason_of(opened.outcomes[0].refusal) == "FIELD_INVALID"
    with refused("FIELD_INVALID"):
        person.grant(grant_of(belong))
    assert refuse(person, belong).consent.state == Consent.STATE_REFUSED
