"""A writer that had to wait judges by what is known, and by what time it is, after the wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from services.activity.domain.batch import Batch, Judged, Outcome
from services.activity.storage.journal import RECORDING_LOCK, open_journal
from services.activity.storage.lanes import Lanes
from services.activity.usecases.commit_submissions import (
    Append,
    LaneKey,
    Receipt,
    Submission,
    commit_submissions,
)
from shared.refusal import RetryLater
from shared.storage.engine import driver_of
from tests.activity.world import Store, by_subject, open_store, read, read_partner, report, snapshot

A = 64
LANE: LaneKey = (1, "lane")
BOUND_MS = 500
WAIT_S = 0.8  # more than the bound

ALONE = f"select pg_advisory_xact_lock({RECORDING_LOCK})"
LANES = "select * from lane for update"
either = pytest.mark.parametrize("lock", [ALONE, LANES], ids=["erasure", "lane"])
WRITTEN = ("activity_run", "event_key", "activity_detail", "claim")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with open_store(database_url) as store:
        with store.database.transaction() as connection:
            Lanes(driver_of(connection)).open_lane(*LANE)
        yield store


def complete(store: Store, ago_s: float) -> None:
    """The projection is complete up to so long ago; below 0 it stays fresh for a while."""
    store.sql(
        "update cursor set complete_time = clock_timestamp() - make_interval(secs => %s)", ago_s
    )


class Appending:
    """An append through the lane, on a thread of its own."""

    def __init__(self, store: Store, batch: Batch) -> None:
        self._store = store
        self._batch = batch
        self._answer: Receipt | Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def judged(self) -> Judged:
        """What became of the batch; raises what the append was refused for."""
        self._thread.join(10)
        if isinstance(self._answer, Exception):
            raise self._answer
        assert self._answer is not None
        return self._answer.judged

    def outcomes(self) -> list[Outcome]:
        return self.judged().outcomes.tolist()

    def _run(self) -> None:
        try:
            (self._answer,) = commit_submissions(
                [Submission(self._batch, Append(LANE, 1, 0))],
                work=partial(open_journal, self._store.database),
                catalogue=self._store.catalogue,
                staleness_max_ms=BOUND_MS,
            )
        except RetryLater as error:
            self._answer = error


@contextmanager
def waiting(store: Store, batch: Batch, lock: str) -> Iterator[Appending]:
    """An append that finds the lock taken, which is let go at the end of the block."""
    with store.database.transaction() as connection:
        connection.execute(sa.text(lock))
        appending = Appending(store, batch)
        until_waited(store)
        yield appending


def until_waited(store: Store) -> None:
    """Until some statement waits for a lock of another transaction."""
    query = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    deadline = time.monotonic() + 5
    while store.sql(query) == [(0,)]:
        assert time.monotonic() < deadline, "nobody waits"
        time.sleep(0.01)


def rows(store: Store) -> list[Any]:
    """How many rows there are of what an append writes, and how far the lane has come."""
    counts = [store.sql(f"select count(*) from {table}")[0][0] for table in WRITTEN]
    return [*counts, *store.sql("select next_offset from lane")[0]]


@either
@pytest.mark.parametrize("partner", [False, True], ids=["by-account", "by-subject"])
def test_consents_that_grew_too_old_meanwhile_are_not_judged_by(
    store: Store, lock: str, partner: bool
) -> None:
    store.follow(snapshot(A, "u"))
    complete(store, ago_s=0)
    batch = read_partner(by_subject("bus")) if partner else read(report("bus", account_id=A))
    with waiting(store, batch, lock) as appending:
        time.sleep(WAIT_S)
    with pytest.raises(RetryLater, match=f"no fresher than {BOUND_MS} ms"):
        appending.judged()
    assert rows(store) == [0, 0, 0, 0, 0]


@either
def test_consents_that_are_fresh_after_the_wait_are_judged_by(store: Store, lock: str) -> None:
    complete(store, ago_s=10)
    with waiting(store, read(report("bus", account_id=A)), lock) as appending:
        complete(store, ago_s=-60)
    assert appending.outcomes() == [Outcome.RECORDED]
    assert rows(store) == [1, 1, 1, 0, 1]


def test_a_consent_that_ran_out_meanwhile_covers_nothing(store: Store) -> None:
    store.sql(
        "update account_consent set cover_until ="
        " array[clock_timestamp() + make_interval(secs => %s)]",
        WAIT_S / 2,
    )
    with waiting(store, read(report("bus", account_id=A)), ALONE) as appending:
        time.sleep(WAIT_S)
    (refused,) = appending.judged().refusals.values()
    assert refused.reason == "CONSENT_MISSING"
    assert rows(store) == [0, 0, 0, 0, 1], "the lane goes on: it was answered"


def test_a_binding_that_ran_out_meanwhile_is_nobodys(store: Store) -> None:
    store.follow(snapshot(A, "u"))
    store.sql(
        "update bound_subject set until = clock_timestamp() + make_interval(secs => %s)", WAIT_S / 2
    )
    with waiting(store, read_partner(by_subject("bus")), ALONE) as appending:
        time.sleep(WAIT_S)
    (refused,) = appending.judged().refusals.values()
    assert refused.reason == "SUBJECT_NOT_BOUND"


def test_what_is_judged_after_an_act_of_the_same_batch_waited_is_judged_anew(store: Store) -> None:
    """The second act has the claim of the first, which waits for it behind another writer."""
    complete(store, ago_s=-60)
    batch = read(*(report("bill", event, A, claim="c") for event in ("first", "second")))
    key = batch.columns.claims[0].tobytes()
    with store.database.transaction() as connection:
        driver_of(connection).execute(
            "insert into claim (key, event_key, account_shard, shard)"
            " values (encode(%s, 'hex')::uuid, gen_random_uuid(), 0, %s)",
            (key, key[0] & 63),
        )
        appending = Appending(store, batch)
        until_waited(store)
        complete(store, ago_s=10)
        connection.rollback()
    with pytest.raises(RetryLater):
        appending.judged()
    assert rows(store) == [0, 0, 0, 0, 0]


def test_a_projection_of_which_a_shard_was_never_complete_is_never_fresh(store: Store) -> None:
    batch = read(report("bus", account_id=A))
    store.sql("update cursor set complete_time = default where shard = 7")
    with pytest.raises(RetryLater):
        Appending(store, batch).judged()
    store.sql("delete from cursor where shard = 7")
    with pytest.raises(RetryLater):
        Appending(store, batch).judged()
    assert rows(store) == [0, 0, 0, 0, 0]
