"""Recording by subject: whose an act is, what is refused, and that no account is ever told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from carbonaccount.identity.v1.account_service_pb2 import BoundSubject
from carbonaccount.identity.v1.consent_pb2 import Consent
from google.protobuf.timestamp_pb2 import Timestamp

from services.activity.domain.activity import Named
from services.activity.domain.batch import Batch, Outcome
from services.activity.domain.keys import activity_id
from services.activity.usecases.withdraw_activity import Withdrawal
from shared.ids import account_name
from shared.refusal import Refusal
from tests.activity.world import (
    PARTNER,
    Store,
    by_subject,
    digest,
    open_store,
    read,
    read_partner,
    report,
    snapshot,
)

A, B = 64, 129  # of shards 0 and 1


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with open_store(database_url, accounts=()) as store:
        yield store


def refusal(store: Store, batch: Batch) -> Refusal:
    """Why the one report of the batch is refused; nothing that is said names an account."""
    (judged,) = store.record(batch)
    assert judged.outcomes.tolist() == [Outcome.REFUSED]
    (refused,) = judged.refusals.values()
    for account in (A, B):
        assert account_name(account) not in f"{refused.message} {refused.metadata}"
    assert "accounts/" not in f"{refused.message} {refused.metadata}"
    return refused


def accounts_of_acts(store: Store) -> dict[int, int]:
    """How many acts each account has in the feed."""
    rows = store.sql("select account_id, count(*) from activity where kind = 1 group by 1")
    return dict(rows)


def test_an_act_goes_to_the_account_that_the_subject_is_bound_to(store: Store) -> None:
    store.follow(snapshot(A, "u"), snapshot(B, "v"))
    (judged,) = store.record(read_partner(by_subject("bus", "a", "v"), by_subject("bus", "b", "u")))
    assert judged.outcomes.tolist() == [Outcome.RECORDED, Outcome.RECORDED]
    of_v, of_u = (key.tobytes() for key in judged.keys)
    assert store.activity(B, of_v)
    assert store.activity(A, of_u)
    assert accounts_of_acts(store) == {A: 1, B: 1}


def test_a_subject_that_is_bound_to_nobody_is_refused_and_not_repeated(store: Store) -> None:
    store.follow(snapshot(A, "u"))
    refused = refusal(store, read_partner(by_subject("bus", subject="stranger")))
    assert (refused.reason, refused.field) == ("SUBJECT_NOT_BOUND", "subject")
    assert refused.metadata == {"partner": PARTNER}
    assert "stranger" not in refused.message


def test_reports_by_account_and_by_subject_meet_in_one_transaction(store: Store) -> None:
    store.follow(snapshot(A, "u"))
    by_account, partners = store.record(
        read(report("bus", "a", A), report("bus", "b", B)),
        read_partner(by_subject("bus", "a"), by_subject("bus", "b", "stranger")),
    )
    assert by_account.outcomes.tolist() == [Outcome.RECORDED, Outcome.REFUSED]
    assert by_account.refusals[1].metadata == {"resource": account_name(B)}
    assert partners.outcomes.tolist() == [Outcome.RECORDED, Outcome.REFUSED]
    assert partners.refusals[1].reason == "SUBJECT_NOT_BOUND"


def test_a_binding_ends_at_its_moment_without_anybodys_doing(store: Store) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=1.5)
    bound = BoundSubject(partner=PARTNER, subject_digest=digest("u"))
    bound.expire_time.FromDatetime(ends)
    store.follow(snapshot(A, bound))
    (judged,) = store.record(read_partner(by_subject("bus", "before")))
    assert judged.outcomes.tolist() == [Outcome.RECORDED]
    time.sleep(max(0, (ends - datetime.now(UTC)).total_seconds()) + 0.05)
    assert refusal(store, read_partner(by_subject("bus", "after"))).reason == "SUBJECT_NOT_BOUND"


def test_a_link_that_was_taken_back_stops_new_acts_and_keeps_old_ones(store: Store) -> None:
    store.follow(snapshot(A, "u"))
    (judged,) = store.record(read_partner(by_subject("bus", "old")))
    store.follow(snapshot(A))
    assert refusal(store, read_partner(by_subject("bus", "new"))).reason == "SUBJECT_NOT_BOUND"
    assert store.activity(A, judged.keys[0].tobytes())
    (again,) = store.record(read_partner(by_subject("bus", "old")))
    assert again.outcomes.tolist() == [Outcome.REPEATED], "it was recorded, whatever holds now"


def test_rebinding_never_moves_an_old_act_and_a_retry_of_it_is_known(store: Store) -> None:
    store.follow(snapshot(A, "u"), snapshot(B))
    (judged,) = store.record(read_partner(by_subject("bus", "old")))
    store.follow(snapshot(A))
    store.follow(snapshot(B, "u"))
    (again,) = store.record(
        read_partner(
            by_subject("bus", "old"),
            by_subject("bus", "new"),
            by_subject("bus", "old", measures={"count": 2}),
        )
    )
    assert again.outcomes.tolist() == [Outcome.REPEATED, Outcome.RECORDED, Outcome.REFUSED]
    assert store.activity(A, judged.keys[0].tobytes())
    assert store.activity(B, again.keys[1].tobytes())
    assert accounts_of_acts(store) == {A: 1, B: 1}


def test_other_content_of_a_known_event_is_refused_by_the_name_it_was_recorded_under(
    store: Store,
) -> None:
    store.follow(snapshot(A, "u"))
    (judged,) = store.record(read_partner(by_subject("bus", "secret-event")))
    refused = refusal(store, read_partner(by_subject("bus", "secret-event", "other")))
    name = f"{PARTNER}/activities/{activity_id(judged.keys[0].tobytes())}"
    assert (refused.reason, refused.metadata) == ("RESOURCE_EXISTS", {"resource": name})
    assert name in refused.message
    assert "secret-event" not in refused.message


@pytest.mark.parametrize(("state", "word"), [(2, "suspended"), (3, "closed")])
def test_an_account_that_is_not_open_is_not_named_to_a_partner(
    store: Store, state: int, word: str
) -> None:
    store.follow(snapshot(A, "u", state=state))
    refused = refusal(store, read_partner(by_subject("bus")))
    assert (refused.reason, refused.field) == ("ACCOUNT_NOT_OPEN", "subject")
    assert refused.metadata == {"account": "", "state": word}
    (judged,) = store.record(read(report("bus", "by-account", A)))
    assert judged.refusals[0].metadata == {"account": account_name(A), "state": word}


def test_an_account_without_consent_is_not_named_to_a_partner(store: Store) -> None:
    store.follow(snapshot(A, "u", consent={"state": Consent.STATE_REVOKED}))
    refused = refusal(store, read_partner(by_subject("bus")))
    assert refused.reason == "CONSENT_MISSING"
    assert refused.metadata["account"] == ""
    assert refused.metadata["scope"] == "scopes/any"
    (judged,) = store.record(read(report("bus", "by-account", A)))
    assert judged.refusals[0].metadata["account"] == account_name(A)


def test_a_consent_covers_what_a_partner_reports_from_its_first_moment_on(store: Store) -> None:
    store.follow(snapshot(A, "u", consent={"cover_from_time": Timestamp(seconds=1_780_000_000)}))
    (judged,) = store.record(read_partner(by_subject("bus", "covered")))
    assert judged.outcomes.tolist() == [Outcome.RECORDED]
    earlier = by_subject("bus", "earlier", occur_time=Timestamp(seconds=1_779_999_999))
    assert refusal(store, read_partner(earlier)).reason == "CONSENT_MISSING"


def test_what_an_account_claims_once_it_claims_once_whoever_reports_it(store: Store) -> None:
    store.follow(snapshot(A, "u", "u-too"), snapshot(B, "v"))
    day = {"claim": "2026-05-01"}
    partners, banks = store.record(
        read_partner(
            by_subject("meter", "a", "u", **day),
            by_subject("meter", "b", "u-too", **day),
            by_subject("meter", "c", "v", **day),
            by_subject("meter", "d", "stranger", **day),
        ),
        read(report("meter", "e", A, **day), report("meter", "f", A, claim="2026-05-02")),
    )
    recorded, refused = Outcome.RECORDED, Outcome.REFUSED
    assert partners.outcomes.tolist() == [recorded, refused, recorded, refused]
    assert [partners.refusals[item].reason for item in (1, 3)] == [
        "ACT_ALREADY_CLAIMED",
        "SUBJECT_NOT_BOUND",
    ]
    assert banks.outcomes.tolist() == [refused, recorded]


def test_a_batch_that_is_judged_twice_is_judged_by_what_is_bound_then(store: Store) -> None:
    """As after a race for keys, when the same batch goes through another transaction."""
    store.follow(snapshot(A, "u"))
    batch = read_partner(by_subject("meter", claim="2026-05-01"))
    before = batch.columns.account_id.copy(), batch.columns.claims.copy()
    store.record(batch)
    assert batch.columns.account_id.tolist() == before[0].tolist() == [0]
    assert batch.columns.claims.tolist() == before[1].tolist()


def test_while_bindings_may_be_stale_nothing_is_called_unbound(store: Store) -> None:
    store.sql("update cursor set complete_time = now() - interval '1 day'")
    with pytest.raises(Refusal) as caught:
        store.record(read_partner(by_subject("bus", subject="stranger")), staleness_max_ms=1500)
    assert caught.value.reason == "RETRY_LATER"


def test_a_source_takes_back_its_own_act_by_the_name_it_was_told(store: Store) -> None:
    store.follow(snapshot(A, "u"))
    (judged,) = store.record(read_partner(by_subject("bus")))
    key, partner = judged.keys[0].tobytes(), store.catalogue.sources[PARTNER]
    bank = store.catalogue.sources["sources/any"]
    below_account, below_source = Named(key, A), Named(key, source=PARTNER)

    def refused(named: Named, **more: object) -> str:
        given = {"actor": PARTNER, "cause": "mistake", "source": partner, **more}
        with pytest.raises(Refusal) as caught:
            store.take_back(Withdrawal(named, **given))  # type: ignore[arg-type]  # as the test says
        return caught.value.reason

    # An answer to this would say whose the act is.
    assert refused(below_account) == "CALLER_NOT_ALLOWED"
    assert refused(Named(key, B)) == "CALLER_NOT_ALLOWED"
    assert refused(below_source, actor=bank.name, source=bank) == "CALLER_NOT_ALLOWED"
    assert refused(Named(key, source="sources/any"), source=None) == "RESOURCE_NOT_FOUND"
    assert refused(Named(bytes(16), source=PARTNER)) == "RESOURCE_NOT_FOUND"
    assert refused(below_source, cause="call 13812345678") == "FIELD_INVALID"
    assert not store.activity(A, key).withdrawn  # type: ignore[union-attr]  # it is there
    taken = store.take_back(Withdrawal(below_source, PARTNER, "mistake", partner))
    assert taken.withdrawn
    assert taken.taken_back is not None
    assert (taken.taken_back.actor, taken.taken_back.cause) == (PARTNER, "mistake")
