"""What identity sends becomes what recording is judged by, in whatever order shards arrive."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from carbonaccount.identity.v1.account_service_pb2 import (
    AccountSnapshot,
    BoundSubject,
    WatchAccountsResponse,
)
from carbonaccount.identity.v1.consent_pb2 import Consent
from carbonaccount.type.v1.cursor_pb2 import ShardCursor
from google.protobuf.timestamp_pb2 import Timestamp

from services.activity.domain.batch import Outcome
from services.activity.followers.consent_follower import ConsentProjection
from shared.feed.cursors import CursorMoved
from shared.ids import account_name
from tests.activity.world import (
    CATALOGUE,
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

A, B, C = 64, 129, 194  # of shards 0, 1 and 2


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with open_store(database_url, accounts=()) as store:
        yield store


def bound(store: Store) -> set[tuple[int, bytes]]:
    """Every binding that is kept."""
    rows = store.sql("select account_id, digest from bound_subject")
    return {(account, kept.bytes) for account, kept in rows}


def holder(store: Store, subject: str, event: str) -> int | None:
    """The account that an act of the subject goes to now; None when it is refused."""
    (judged,) = store.record(read_partner(by_subject("bus", f"{subject}-{event}", subject)))
    if judged.outcomes.tolist() == [Outcome.REFUSED]:
        assert judged.refusals[0].reason == "SUBJECT_NOT_BOUND"
        return None
    key = UUID(bytes=judged.keys[0].tobytes())
    ((account_id,),) = store.sql("select account_id from activity_detail where key = %s", key)
    return int(account_id)


def is_taken(store: Store, account_id: int) -> bool:
    """Whether an act of May 2026 of the account would be recorded."""
    (judged,) = store.record(read(report("bus", f"taken-{uuid4().hex}", account_id)))
    return judged.outcomes.tolist() == [Outcome.RECORDED]


def test_an_accounts_subjects_are_those_of_its_newest_snapshot(store: Store) -> None:
    store.follow(snapshot(A, "a", "b"), snapshot(B, "x"))
    assert bound(store) == {(A, digest("a")), (A, digest("b")), (B, digest("x"))}
    store.follow(snapshot(A, "b", "c"))
    assert bound(store) == {(A, digest("b")), (A, digest("c")), (B, digest("x"))}
    store.follow(snapshot(A))
    assert bound(store) == {(B, digest("x"))}


def test_a_subject_moves_whichever_account_is_heard_of_first(store: Store) -> None:
    store.follow(snapshot(A, "u", "v"), snapshot(B))
    store.follow(snapshot(A))
    assert (holder(store, "u", "1"), holder(store, "v", "1")) == (None, None)
    store.follow(snapshot(B, "u", "v"))
    assert (holder(store, "u", "2"), holder(store, "v", "2")) == (B, B)
    # The other way about: the account that gets it is heard of before the one that lost it.
    store.follow(snapshot(A, "u"))
    assert (holder(store, "u", "3"), holder(store, "v", "3")) == (A, B)
    store.follow(snapshot(B, "v"))
    assert (holder(store, "u", "4"), holder(store, "v", "4")) == (A, B)
    assert bound(store) == {(A, digest("u")), (B, digest("v"))}


def test_a_snapshot_of_before_that_comes_late_takes_nothing_from_the_new_account(
    store: Store,
) -> None:
    """A worker may hold a snapshot in hand while another applies what came after it."""
    late = snapshot(A, "u")
    store.follow(snapshot(B, "u"))
    store.follow(late)
    store.follow(snapshot(A))
    assert bound(store) == {(B, digest("u"))}
    assert holder(store, "u", "1") == B


def test_one_transaction_may_tell_of_both_accounts(store: Store) -> None:
    store.follow(snapshot(A, "u"), snapshot(B, "u"))
    assert bound(store) == {(A, digest("u")), (B, digest("u"))}
    store.follow(snapshot(A), snapshot(B, "u"))
    assert holder(store, "u", "1") == B


@pytest.mark.parametrize("seed", range(12))
def test_any_interleaving_of_three_shards_ends_with_who_has_each_subject(
    store: Store, seed: int
) -> None:
    """Subjects move between accounts of three shards; each shard's snapshots stay in order."""
    dice = random.Random(seed)
    accounts, subjects = (A, B, C), ("u", "v", "w")
    holds: dict[int, set[str]] = {account: set() for account in accounts}
    feeds: dict[int, list[AccountSnapshot]] = {account: [] for account in accounts}
    for _ in range(12):
        subject, target = dice.choice(subjects), dice.choice(accounts)
        for account in accounts:  # what identity promises: gone from one before bound to another
            if subject in holds[account] and account != target:
                holds[account].remove(subject)
                feeds[account].append(snapshot(account, *sorted(holds[account])))
        holds[target].add(subject)
        feeds[target].append(snapshot(target, *sorted(holds[target])))
    while any(feeds.values()):
        feed = feeds[dice.choice([account for account in accounts if feeds[account]])]
        store.follow(feed.pop(0))
    wanted = {(account, digest(subject)) for account in accounts for subject in holds[account]}
    assert bound(store) == wanted


def test_two_workers_move_subjects_at_once_and_neither_waits_for_the_other_for_ever(
    store: Store,
) -> None:
    names = [f"u{n}" for n in range(40)]
    faults: list[BaseException] = []

    def follow(account: int, even: list[str], odd: list[str]) -> None:
        try:
            for turn in range(30):
                store.follow(snapshot(account, *(odd if turn % 2 else even)))
        except BaseException as fault:
            faults.append(fault)

    workers = [
        threading.Thread(target=follow, args=(A, names, [])),
        threading.Thread(target=follow, args=(B, [], list(reversed(names)))),
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not faults
    assert bound(store) == {(B, digest(name)) for name in names}


def test_a_binding_gets_another_end(store: Store) -> None:
    ends = BoundSubject(
        partner=PARTNER, subject_digest=digest("u"), expire_time=Timestamp(seconds=1_600_000_000)
    )
    store.follow(snapshot(A, ends))
    assert holder(store, "u", "1") is None
    store.follow(snapshot(A, "u"))
    assert holder(store, "u", "2") == A


@pytest.mark.parametrize(
    ("consent", "covers"),
    [
        ({}, True),
        ({"state": Consent.STATE_REVOKED, "revoke_time": Timestamp(seconds=1_700_000_000)}, False),
        ({"state": Consent.STATE_REVOKED}, False),
        ({"state": Consent.STATE_REFUSED}, False),
        ({"state": Consent.STATE_EXPIRED, "expire_time": Timestamp(seconds=1_600_000_000)}, False),
        # Known revocations and ends count, whatever identity's clock made of the state.
        ({"revoke_time": Timestamp(seconds=4_000_000_000)}, False),
        ({"expire_time": Timestamp(seconds=1_600_000_000)}, False),
        ({"expire_time": Timestamp(seconds=4_000_000_000)}, True),
        ({"cover_from_time": Timestamp(seconds=1_780_000_000)}, True),
        ({"cover_from_time": Timestamp(seconds=1_780_000_001)}, False),
        ({"scope": "scopes/of-another-service"}, False),
    ],
)
def test_only_a_consent_that_is_granted_and_in_force_covers(
    store: Store, consent: dict[str, object], covers: bool
) -> None:
    store.follow(snapshot(A, consent=consent))
    assert is_taken(store, A) is covers


def test_a_consent_given_again_covers_again(store: Store) -> None:
    for state, covers in (("GRANTED", True), ("REFUSED", False), ("GRANTED", True)):
        store.follow(snapshot(A, consent={"state": Consent.State.Value(f"STATE_{state}")}))
        assert is_taken(store, A) is covers


def test_of_an_erased_account_the_row_stays_and_nothing_else(store: Store) -> None:
    store.follow(snapshot(A, "u"), snapshot(B, "v"))
    store.follow(snapshot(A, "u", state=4))
    assert bound(store) == {(B, digest("v"))}
    (judged,) = store.record(read(report("bus", "late", A)))
    refused = judged.refusals[0]
    assert (refused.reason, refused.metadata["state"]) == ("ACCOUNT_NOT_OPEN", "erased")
    assert refused.metadata["account"] == account_name(A)
    rows = store.sql(
        "select state, now() < any(cover_until) from account_consent where account_id = %s", A
    )
    assert rows == [(4, False)]
    assert is_taken(store, B)


def test_what_changes_nothing_here_writes_nothing(store: Store) -> None:
    """Most of what happens to accounts, such as signing in, is no matter of recording."""
    places = "select ctid, xmin from account_consent union all select ctid, xmin from bound_subject"
    store.follow(snapshot(A, "u"), snapshot(B))
    before = store.sql(places)
    store.follow(snapshot(A, "u"), snapshot(B))
    assert store.sql(places) == before
    store.follow(snapshot(A, "u", state=2), snapshot(B))
    assert store.sql(places) != before


def test_a_worker_that_lost_its_shard_writes_nothing(store: Store) -> None:
    store.follow(snapshot(A, "u"))
    left_behind = ConsentProjection(store.database, CATALOGUE)
    left_behind.begin({0: 0})
    late = WatchAccountsResponse(
        snapshots=[snapshot(A)], cursors=[ShardCursor(shard=0, position=1)]
    )
    with pytest.raises(CursorMoved):
        left_behind.apply([late])
    assert bound(store) == {(A, digest("u"))}
