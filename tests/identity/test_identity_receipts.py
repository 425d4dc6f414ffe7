"""Receipts: what they say of a decision, that they say it for ever, and in which order."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from carbonaccount.identity.v1 import consent_pb2
from joserfc import jws
from receipt_house import (
    ACCOUNT_ID,
    DAY,
    LINK,
    MANDATE,
    NOTICES,
    NOW,
    PLAIN,
    SECRET,
    SENSITIVE,
    TICK,
    TRADE,
    consent_to,
    granted,
    noted,
    payload_of,
    refusal_of,
)

from services.identity.domain.account import Consent, EndKind, Event, NotedEvent
from services.identity.domain.receipt import (
    RECEIPT_TYP,
    ConsentEvent,
    ReceiptEvent,
    build_receipt,
)
from services.identity.domain.scopes import Scope, canonical_json
from services.identity.storage.notices import NOTICE_SCHEMA, read_notices, remember_notices
from services.identity.usecases.receipts import (
    Receipt,
    ReceiptMaker,
    consent_events,
    receipt_of,
    receipts_of,
)
from shared.ids import account_name
from shared.rpc.keyring import Signer
from shared.storage.engine import Database

GRANTED, REFUSED, REVOKED, EXPIRED = ReceiptEvent
NAME = account_name(ACCOUNT_ID)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path)


@pytest.fixture
def maker(signer: Signer) -> ReceiptMaker:
    return ReceiptMaker(NOTICES, SECRET, signer)


def receipt_about(
    scope: Scope, event: ReceiptEvent = GRANTED, at: datetime = NOW, **more: Any
) -> dict[str, Any]:
    """The receipt of one event of a first consent to a scope."""
    consent = refusal_of(scope) if event is REFUSED else consent_to(scope)
    happened = ConsentEvent(consent, event, at, "customer")
    return build_receipt(replace(happened, **more), scope, SECRET)


def said(receipts: Sequence[Receipt]) -> list[tuple[int, ReceiptEvent]]:
    return [(receipt.number, receipt.event) for receipt in receipts]


# What a receipt says


def test_a_receipt_has_the_fields_of_the_standard() -> None:
    receipt = receipt_about(SENSITIVE)
    assert set(receipt) == {
        "schema_version",
        "receipt_id",
        "record_id",
        "pii_principal_id",
        "creation_time",
        "consent",
        "event",
        "pii_processing",
        "party_identification",
    }
    assert set(receipt["pii_processing"]) == {
        "privacy_notice",
        "language",
        "services",
        "purposes",
        "lawful_basis",
        "pii_information",
        "pii_controllers",
        "recipients",
        "storage_locations",
        "processing_locations",
        "retention_period",
        "jurisdiction",
        "withdrawal_method",
        "privacy_rights",
        "impact_assessment",
    }
    assert "27560" in receipt["schema_version"]
    assert receipt["pii_processing"]["jurisdiction"] == "CN"
    assert receipt["pii_processing"]["pii_controllers"] == ["controllers/bank"]
    assert receipt["party_identification"][0]["party_id"] == "controllers/bank"


def test_a_receipt_names_the_account_and_no_person() -> None:
    receipt = receipt_about(PLAIN)
    assert receipt["pii_principal_id"] == NAME
    assert receipt["consent"] == f"{NAME}/consents/1"


def test_a_receipt_quotes_the_notice_that_was_agreed_to() -> None:
    assert receipt_about(PLAIN)["pii_processing"]["privacy_notice"] == {
        "scope": "scopes/s1",
        "version": "1",
        "notice_digest": PLAIN.notice_digest.hex(),
        "notice_zh": "我同意 1",
        "notice_en": "I agree 1",
    }


def test_a_receipt_of_version_1_never_changes() -> None:
    # Receipts are made anew from what is kept; whoever changes their wording changes the version.
    consent = consent_to(LINK, by_guardian=True, expire_time=NOW + DAY)
    link = ConsentEvent(consent, EXPIRED, NOW + DAY, "time", supersedes=(1, GRANTED))
    trade = ConsentEvent(consent_to(TRADE), REVOKED, NOW, "operators/desk", "closed")
    receipts = [
        build_receipt(link, LINK, SECRET),
        build_receipt(trade, TRADE, SECRET),
        *(receipt_about(scope, event) for scope in (PLAIN, SENSITIVE) for event in ReceiptEvent),
    ]
    assert hashlib.sha256(canonical_json(receipts)).hexdigest() == (
        "c3e42e7051baa04396f66b78c31add454e0d4c505888f7677c84f86ce4a3e3d5"
    )


def test_a_sensitive_grant_shows_its_own_confirmation_and_a_plain_one_shows_none() -> None:
    assert receipt_about(SENSITIVE)["event"]["confirmation"] == {
        "confirm_time": "2026-06-01T11:59:59.999999Z",
        "screen": "app/2",
    }
    assert "confirmation" not in receipt_about(PLAIN)["event"]


def test_what_is_sensitive_or_given_away_rests_on_a_separate_consent() -> None:
    for scope, articles in ((PLAIN, 1), (SENSITIVE, 2), (TRADE, 2), (LINK, 3)):
        receipt = receipt_about(scope)
        assert len(receipt["pii_processing"]["lawful_basis"]) == articles
        assert ("separate" in receipt["event"]["event_type"]) is (articles > 1)


def test_a_trade_shows_its_mandate_with_the_digest_that_was_agreed_to() -> None:
    mandate = receipt_about(TRADE)["mandate"]
    assert mandate == {**vars(MANDATE), "mandate_digest": MANDATE.mandate_digest.hex()}
    assert "mandate" not in receipt_about(PLAIN)


def test_a_link_names_its_partner() -> None:
    party = receipt_about(LINK)["pii_processing"]["recipients"][0]
    assert party == {"party_name": "银行 (the bank)", "party_id": "sources/bike-demo"}


def test_a_refusal_covers_nothing() -> None:
    event = receipt_about(SENSITIVE, REFUSED)["event"]
    assert event["event_state"] == "refused"
    assert not {"validity_duration", "confirmation"} & set(event)


def test_a_receipt_says_from_when_a_consent_covers_and_until_when() -> None:
    open_end = receipt_about(PLAIN)["event"]["validity_duration"]
    assert open_end == {"cover_from_time": "2026-06-01T12:00:00.000000Z"}
    consent = consent_to(PLAIN, cover_from_time=NOW - DAY, expire_time=NOW + DAY)
    receipt = build_receipt(ConsentEvent(consent, GRANTED, NOW, "customer"), PLAIN, SECRET)
    assert receipt["event"]["validity_duration"] == {
        "cover_from_time": "2026-05-31T12:00:00.000000Z",
        "expire_time": "2026-06-02T12:00:00.000000Z",
    }


def test_a_receipt_says_whether_a_guardian_decided() -> None:
    assert receipt_about(PLAIN)["event"]["decided_by_guardian"] is False
    consent = consent_to(PLAIN, by_guardian=True)
    receipt = build_receipt(ConsentEvent(consent, GRANTED, NOW, "guardian"), PLAIN, SECRET)
    assert receipt["event"]["decided_by_guardian"] is True
    assert receipt["event"]["entity_id"] == "guardian"


def test_ids_have_the_shape_of_version_4_and_differ_where_anything_does() -> None:
    ids = set()
    for number in (1, 2):
        for event in ReceiptEvent:
            for secret in (SECRET, bytes(32)):
                consent = consent_to(PLAIN, number)
                receipt = build_receipt(
                    ConsentEvent(consent, event, NOW, "customer"), PLAIN, secret
                )
                ids.add(receipt["receipt_id"])
                ids.add(receipt["record_id"])
    other = ConsentEvent(replace(consent_to(PLAIN), account_id=5), GRANTED, NOW, "customer")
    ids.add(build_receipt(other, PLAIN, SECRET)["receipt_id"])
    assert len(ids) == 2 * 4 * 2 + 2 * 2 + 1  # receipts, records, and the other account's
    for text in ids:
        assert str(UUID(text)) == text
        assert UUID(text).version == 4


def test_every_receipt_of_one_consent_belongs_to_one_record() -> None:
    records = {receipt_about(PLAIN, event)["record_id"] for event in ReceiptEvent}
    assert len(records) == 1


def test_events_are_numbered_as_in_the_contract() -> None:
    assert {f"EVENT_{event.name}": event.value for event in ReceiptEvent} == {
        name: number for name, number in consent_pb2.ConsentReceipt.Event.items() if number
    }


# Which receipts there are


def test_a_grant_has_one_receipt_and_its_withdrawal_a_second_that_supersedes_it(
    maker: ReceiptMaker,
) -> None:
    consent = consent_to(PLAIN)
    before = receipts_of([consent], [granted(consent)], NOW + DAY, maker=maker)
    assert said(before) == [(1, GRANTED)]
    events = [granted(consent), noted(Event.CONSENT_REVOKED, NOW + DAY)]
    receipts = receipts_of([consent.ended(NOW + DAY)], events, NOW + 2 * DAY, maker=maker)
    assert said(receipts) == [(1, REVOKED), (1, GRANTED)]
    revoked, first = (payload_of(receipt.jws) for receipt in receipts)
    assert revoked["supersedes"] == first["receipt_id"]
    assert "supersedes" not in first
    assert first == payload_of(before[0].jws)


def test_a_newer_decision_ends_the_older_one_and_each_receipt_points_at_the_one_before(
    maker: ReceiptMaker,
) -> None:
    then = NOW + DAY
    older, newer = consent_to(PLAIN).ended(then), refusal_of(PLAIN, 2, then)
    events = [
        granted(older),
        noted(Event.CONSENT_REFUSED, then, 2),
        noted(Event.CONSENT_REVOKED, then, 1),
    ]
    receipts = receipts_of([newer, older], events, then, maker=maker)
    assert said(receipts) == [(2, REFUSED), (1, REVOKED), (1, GRANTED)]
    refused, revoked, first = (payload_of(receipt.jws) for receipt in receipts)
    assert refused["supersedes"] == revoked["receipt_id"]
    assert revoked["supersedes"] == first["receipt_id"]
    assert refused["record_id"] != first["record_id"]


def test_another_scope_supersedes_nothing(maker: ReceiptMaker) -> None:
    consents = [consent_to(PLAIN), consent_to(TRADE, 2, NOW + TICK)]
    for receipt in receipts_of(consents, [granted(c) for c in consents], NOW + DAY, maker=maker):
        assert "supersedes" not in payload_of(receipt.jws)


def test_a_consent_runs_out_at_its_moment_and_not_a_microsecond_earlier(
    maker: ReceiptMaker,
) -> None:
    consent = consent_to(PLAIN, expire_time=NOW + DAY)
    events = [granted(consent)]
    assert said(receipts_of([consent], events, NOW + DAY - TICK, maker=maker)) == [(1, GRANTED)]
    receipts = receipts_of([consent], events, NOW + DAY, maker=maker)
    assert said(receipts) == [(1, EXPIRED), (1, GRANTED)]
    expired = payload_of(receipts[0].jws)
    assert expired["event"]["entity_id"] == "time"
    assert expired["creation_time"] == "2026-06-02T12:00:00.000000Z"
    assert expired == payload_of(receipts_of([consent], events, NOW + 9 * DAY, maker=maker)[0].jws)


def test_a_consent_that_was_withdrawn_does_not_run_out_as_well(maker: ReceiptMaker) -> None:
    consent = consent_to(PLAIN, expire_time=NOW + DAY).ended(NOW + DAY - TICK)
    events = [granted(consent), noted(Event.CONSENT_REVOKED, NOW + DAY - TICK)]
    receipts = receipts_of([consent], events, NOW + 2 * DAY, maker=maker)
    assert said(receipts) == [(1, REVOKED), (1, GRANTED)]


def test_a_refusal_does_not_run_out(maker: ReceiptMaker) -> None:
    refusal = replace(refusal_of(PLAIN), expire_time=NOW + DAY)
    events = [noted(Event.CONSENT_REFUSED, NOW)]
    assert said(receipts_of([refusal], events, NOW + DAY, maker=maker)) == [(1, REFUSED)]


def test_a_consent_ends_with_its_notice_and_the_receipt_says_so(maker: ReceiptMaker) -> None:
    consent = consent_to(PLAIN).ended(NOW + DAY, EndKind.NOTICE_CHANGED)
    ended = noted(
        Event.CONSENT_EXPIRED, NOW + DAY, actor="services/identity", cause="the notice changed"
    )
    receipts = receipts_of([consent], [granted(consent), ended], NOW + DAY, maker=maker)
    assert said(receipts) == [(1, EXPIRED), (1, GRANTED)]
    event = payload_of(receipts[0].jws)["event"]
    assert (event["entity_id"], event["cause"]) == ("services/identity", "the notice changed")


def test_a_new_grant_at_the_moment_of_expiry_comes_after_it(maker: ReceiptMaker) -> None:
    consents = [consent_to(PLAIN, expire_time=NOW + DAY), consent_to(PLAIN, 2, NOW + DAY)]
    events = [granted(consent) for consent in consents]
    receipts = receipts_of(consents, events, NOW + DAY, maker=maker)
    assert said(receipts) == [(2, GRANTED), (1, EXPIRED), (1, GRANTED)]
    newest, expired = (payload_of(receipt.jws) for receipt in receipts[:2])
    assert newest["supersedes"] == expired["receipt_id"]


def test_a_clock_that_is_behind_takes_nothing_back(maker: ReceiptMaker) -> None:
    consents = [consent_to(PLAIN, expire_time=NOW + DAY), consent_to(PLAIN, 2, NOW + 2 * DAY)]
    events = [granted(consent) for consent in consents]
    receipts = receipts_of(consents, events, NOW, maker=maker)
    assert said(receipts) == [(2, GRANTED), (1, EXPIRED), (1, GRANTED)]


def test_what_else_happened_to_an_account_has_no_receipt(maker: ReceiptMaker) -> None:
    consent = consent_to(PLAIN)
    others = [noted(kind, NOW, 1) for kind in Event if "CONSENT" not in kind.name]
    receipts = receipts_of([consent], [granted(consent), *others], NOW, maker=maker)
    assert said(receipts) == [(1, GRANTED)]
    assert receipts_of([], others, NOW, maker=maker) == []


def test_a_signed_receipt_is_the_canonical_text_under_a_type_of_its_own(
    maker: ReceiptMaker, signer: Signer
) -> None:
    consent = consent_to(SENSITIVE)
    receipt = receipts_of([consent], [granted(consent)], NOW, maker=maker)[0]
    opened = jws.deserialize_compact(receipt.jws, signer.key, algorithms=["ES256"])
    assert opened.headers() == {"alg": "ES256", "kid": signer.key_id, "typ": RECEIPT_TYP}
    happened = ConsentEvent(consent, GRANTED, NOW, "customer")
    assert opened.payload == canonical_json(build_receipt(happened, SENSITIVE, SECRET))


def test_a_notice_that_nobody_remembers_is_a_fault(signer: Signer) -> None:
    consent = consent_to(PLAIN)
    with pytest.raises(KeyError):
        receipts_of([consent], [granted(consent)], NOW, maker=ReceiptMaker({}, SECRET, signer))


# One receipt, and pages of them


def test_the_receipt_of_a_call_is_the_newest_of_its_kinds(maker: ReceiptMaker) -> None:
    consent = consent_to(PLAIN).ended(NOW + DAY)
    events = [granted(consent), noted(Event.CONSENT_REVOKED, NOW + DAY)]

    def newest(number: int, *kinds: ReceiptEvent) -> Receipt | None:
        return receipt_of(number, kinds, [consent], events, NOW + DAY, maker=maker)

    of_grant, of_end = newest(1, GRANTED), newest(1, REVOKED, EXPIRED)
    assert of_grant is not None
    assert of_end is not None
    assert (of_grant.event, of_end.event) == (GRANTED, REVOKED)
    assert newest(1, REFUSED) is None
    assert newest(2, GRANTED) is None


def history(seed: int) -> tuple[list[Consent], list[NotedEvent], datetime]:
    """A random life of consents to three scopes, as the service writes it."""
    dice = random.Random(seed)
    now, consents, events = NOW, [], []
    for _ in range(dice.randrange(1, 30)):
        now += timedelta(hours=dice.randrange(0, 48))
        scope = dice.choice((PLAIN, SENSITIVE, TRADE))
        older = [c for c in consents if c.scope == scope.code and c.in_force(now)]
        for one in older:
            consents[one.number - 1] = one.ended(now)
            events.append(noted(Event.CONSENT_REVOKED, now, one.number))
        if dice.random() < 0.2:
            continue  # a plain withdrawal
        number = len(consents) + 1
        if dice.random() < 0.2:
            consents.append(refusal_of(scope, number, now))
            events.append(noted(Event.CONSENT_REFUSED, now, number))
        else:
            ends = now + timedelta(hours=dice.randrange(1, 72)) if dice.random() < 0.4 else None
            consents.append(consent_to(scope, number, now, expire_time=ends))
            events.append(granted(consents[-1]))
    return consents, events, now


@pytest.mark.parametrize("seed", range(40))
def test_receipts_of_a_scope_are_one_chain_from_the_newest_to_the_first(seed: int) -> None:
    consents, events, now = history(seed)
    happened = consent_events(consents, events, now)
    ran_out = [h for h in happened if h.actor == "time"]
    assert len(happened) == len(events) + len(ran_out)
    assert [h.event_time for h in happened] == sorted(
        (h.event_time for h in happened), reverse=True
    )
    for scope in (PLAIN, SENSITIVE, TRADE):
        chain = [h for h in happened if h.consent.scope == scope.code]
        for newer, older in pairwise(chain):
            assert newer.supersedes == (older.consent.number, older.event)
        assert not chain or chain[-1].supersedes is None


@pytest.mark.parametrize("seed", range(10))
def test_what_happened_is_told_the_same_way_ever_after(seed: int) -> None:
    consents, events, now = history(seed)
    then = consent_events(consents, events, now)
    assert consent_events(consents, events, now + 90 * DAY)[-len(then) :] == then


def test_pages_hold_every_receipt_once_also_when_something_happens_in_between(
    maker: ReceiptMaker,
) -> None:
    consents, events, now = history(7)
    whole = receipts_of(consents, events, now, maker=maker)
    assert len(whole) > 6
    pages = receipts_of(consents, events, now, maker=maker, limit=3)
    more = consent_to(LINK, len(consents) + 1, now + TICK)
    consents.append(more)
    events.append(granted(more))
    while page := receipts_of(
        consents, events, now + TICK, maker=maker, before=pages[-1].key, limit=3
    ):
        assert len(page) <= 3
        pages += page
    assert said(pages) == said(whole)


# Over a change of the notice


def test_a_receipt_quotes_the_old_text_after_the_text_has_changed(
    database_url: str, signer: Signer
) -> None:
    new = replace(PLAIN, notice_zh="新", notice_en="new", notice_version="2", recipient="another")
    consents = [consent_to(PLAIN), consent_to(new, 2, NOW + DAY)]
    database = Database(database_url)
    with database.transaction() as connection:
        connection.execute(sa.text(NOTICE_SCHEMA))
        remember_notices(connection, {PLAIN.name: PLAIN}, NOW)
        remember_notices(connection, {new.name: new}, NOW + DAY)
        notices = read_notices(connection, {(c.scope, c.notice_digest) for c in consents})
    database.close()
    receipts = receipts_of(
        consents,
        [granted(consent) for consent in consents],
        NOW + DAY,
        maker=ReceiptMaker(notices, SECRET, signer),
    )
    quoted = [payload_of(receipt.jws)["pii_processing"] for receipt in receipts]
    assert [one["privacy_notice"]["notice_en"] for one in quoted] == ["new", "I agree 1"]
    assert [one["recipients"][0]["party_name"] for one in quoted] == ["another", "银行 (the bank)"]
