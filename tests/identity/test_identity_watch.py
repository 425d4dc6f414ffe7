"""The state feed: what followers see, when, and what they can prove from it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from carbonaccount.identity.v1 import account_pb2
from carbonaccount.identity.v1.account_service_pb2 import WatchAccountsRequest
from carbonaccount.identity.v1.consent_pb2 import Consent
from carbonaccount.type.v1.cursor_pb2 import ShardCursor
from identity_house import (
    FINANCE,
    MICROSECOND,
    OFFERED,
    TRAVEL,
    House,
    grant_of,
    refused,
    served,
    settings_for,
)

from services.identity.domain.account import Consent as Recorded
from services.identity.rpc import account_servicer
from services.identity.rpc.consent_messages import write_consent
from services.identity.wiring import load_scopes


class Follower:
    """Reads a stream on a thread of its own and remembers everything."""

    def __init__(self, house: House, cursors: dict[int, int] | None = None) -> None:
        self.responses: list[tuple[float, Any]] = []
        self._stream = house.watch(cursors)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for response in self._stream:
                self.responses.append((time.time(), response))
        except grpc.RpcError:
            return

    @property
    def newest(self) -> dict[str, Any]:
        """The last snapshot of each account."""
        return {s.account: s for _, response in list(self.responses) for s in response.snapshots}

    @property
    def cursors(self) -> dict[int, int]:
        """Where each shard that was moved stands."""
        return {c.shard: c.position for _, r in list(self.responses) for c in r.cursors}

    @property
    def complete(self) -> datetime:
        moments = [
            response.complete_time.ToDatetime(UTC)
            for _, response in list(self.responses)
            if response.HasField("complete_time")
        ]
        return max(moments, default=datetime.min.replace(tzinfo=UTC))

    def until_complete(self) -> None:
        """Waits until everything that is committed now must have been sent."""
        now, deadline = datetime.now(UTC), time.monotonic() + 10
        while self.complete < now:
            assert time.monotonic() < deadline, "no heartbeat"
            time.sleep(0.005)

    def end(self) -> None:
        self._stream.cancel()
        self._thread.join(5)


def test_a_follower_gets_each_account_once_as_it_stands(house: House) -> None:
    person = house.customer()
    first = person.open(grant_of(TRAVEL), grant_of(FINANCE)).consents[0]
    person.grant(grant_of(TRAVEL, cover_from_time={"seconds": int(OFFERED.timestamp())}))
    follower = Follower(house)
    follower.until_complete()
    follower.end()
    sent = [s for _, response in follower.responses for s in response.snapshots]
    assert [s.account for s in sent] == [person.account]
    assert sent[0].state == account_pb2.Account.STATE_OPEN
    # The replaced consent is history; the follower gets the newest of each scope.
    assert {c.scope for c in sent[0].consents} == {TRAVEL, FINANCE}
    assert first.name not in {c.name for c in sent[0].consents}


def test_the_messages_together_say_where_every_shard_stands(house: House) -> None:
    for _ in range(20):
        house.customer().open()
    follower = Follower(house)
    follower.until_complete()
    follower.end()
    heads = dict(house.sql("select shard, position from feed_head"))
    for _, response in follower.responses:
        assert {c.shard for c in response.cursors} == {s.shard for s in response.snapshots}
    assert dict.fromkeys(range(64), 0) | follower.cursors == heads


def test_a_follower_that_comes_back_gets_only_what_changed_since(house: House) -> None:
    people = [house.customer() for _ in range(6)]
    for person in people:
        person.open(grant_of(TRAVEL))
    follower = Follower(house)
    follower.until_complete()
    follower.end()
    cursors = dict.fromkeys(range(64), 0) | follower.cursors
    people[2].close()
    follower = Follower(house, cursors)
    follower.until_complete()
    follower.end()
    (account,) = follower.newest
    assert account == people[2].account
    assert follower.newest[account].state == account_pb2.Account.STATE_CLOSED
    assert [c.state for c in follower.newest[account].consents] == [Consent.STATE_REVOKED]


def test_only_the_named_shards_are_sent(house: House) -> None:
    people = [house.customer() for _ in range(8)]
    for person in people:
        person.open()
    every = Follower(house)
    every.until_complete()
    every.end()
    shard = every.newest[people[0].account].shard
    some = Follower(house, {shard: 0})
    some.until_complete()
    some.end()
    assert set(some.newest) == {a for a, s in every.newest.items() if s.shard == shard}
    assert {c.shard for _, r in some.responses for c in r.cursors} == {shard}


def test_a_cursor_beyond_the_feed_is_out_of_range(house: House) -> None:
    with refused("CURSOR_OUT_OF_RANGE"):
        next(house.watch({5: 1}))


@pytest.mark.parametrize("cursors", [[(64, 0)], [(-1, 0)], [(1, -1)], [(1, 0), (1, 0)], []])
def test_cursors_that_mean_nothing_are_refused(house: House, cursors: list[Any]) -> None:
    request = WatchAccountsRequest(cursors=[ShardCursor(shard=s, position=p) for s, p in cursors])
    with refused("FIELD_INVALID"):
        next(house.accounts.WatchAccounts(request, **house.service))


def test_a_customer_may_not_watch(house: House) -> None:
    person = house.customer()
    person.open()
    request = WatchAccountsRequest(cursors=[ShardCursor(shard=0)])
    with refused("CALLER_NOT_ALLOWED"):
        next(house.accounts.WatchAccounts(request, **person.call))


def test_heartbeats_come_several_times_a_second_and_only_move_forward(house: House) -> None:
    follower = Follower(house)
    time.sleep(1.5)
    follower.end()
    moments = [r.complete_time.ToDatetime(UTC) for _, r in follower.responses]
    assert moments == sorted(moments)
    assert 8 <= len(moments) <= 40


def test_freshness_is_proven_while_changes_never_pause(house: House) -> None:
    follower, ending = Follower(house), threading.Event()

    def busy(_: int) -> None:
        while not ending.is_set():
            house.customer().open(grant_of(TRAVEL))

    with ThreadPoolExecutor(6) as crowd:
        list_of_work = [crowd.submit(busy, n) for n in range(6)]
        time.sleep(2)
        ending.set()
        for work in list_of_work:
            work.result()
    follower.end()
    assert sum(len(r.snapshots) for _, r in follower.responses) > 50
    late = [
        received - r.complete_time.ToDatetime(UTC).timestamp()
        for received, r in follower.responses
        if r.HasField("complete_time")
    ]
    assert len(late) > 10
    assert max(late) < 1.0


def test_what_committed_before_the_complete_time_has_been_sent(house: House) -> None:
    follower = Follower(house)
    for _ in range(25):
        person = house.customer()
        name = person.open(grant_of(TRAVEL)).consents[0].name
        person.revoke(name)
        follower.until_complete()
        assert [c.state for c in follower.newest[person.account].consents] == [
            Consent.STATE_REVOKED
        ]
    follower.end()


def test_changes_of_another_worker_arrive_within_a_moment(
    database_url: str, tmp_path: Path
) -> None:
    with (
        served(settings_for(database_url, tmp_path)) as one,
        served(settings_for(database_url, tmp_path)) as other,
    ):
        follower = Follower(other)
        follower.until_complete()
        for _ in range(5):
            person = one.customer()
            person.open()
            deadline = time.monotonic() + 5
            while person.account not in follower.newest:
                assert time.monotonic() < deadline
                time.sleep(0.002)
        # Both workers know the same customers: they share the secret and the database.
        with refused("RESOURCE_EXISTS"):
            other.customer_like(person).open()
        follower.end()


def test_racing_writers_never_let_a_follower_step_over_a_change(house: House) -> None:
    follower = Follower(house)
    people = [house.customer() for _ in range(40)]

    def live(person: Any) -> None:
        name = person.open(grant_of(TRAVEL)).consents[0].name
        person.grant(grant_of(FINANCE))
        person.revoke(name)

    with ThreadPoolExecutor(16) as crowd:
        list(crowd.map(live, people))
    follower.until_complete()
    follower.end()
    assert set(follower.newest) == {person.account for person in people}
    for snapshot in follower.newest.values():
        states = {c.scope: c.state for c in snapshot.consents}
        assert states == {TRAVEL: Consent.STATE_REVOKED, FINANCE: Consent.STATE_GRANTED}
    positions: dict[int, int] = {}
    for _, response in follower.responses:
        for snapshot in response.snapshots:
            assert snapshot.position > positions.get(snapshot.shard, 0)
            positions[snapshot.shard] = snapshot.position


def test_a_revocation_later_than_the_moment_of_the_read_is_sent_as_one() -> None:
    """The moment is taken before the read, so what is read may be younger."""
    scopes = {scope.code: scope for scope in load_scopes().values()}
    travel = load_scopes()[TRAVEL]
    now = datetime.now(UTC)
    consent = Recorded(
        account_id=1,
        number=1,
        scope=travel.code,
        notice_digest=travel.notice_digest,
        grant_time=now + MICROSECOND,
        cover_from_time=OFFERED,
        revoke_time=None,
        expire_time=now + 3 * MICROSECOND,
    )
    revoked = consent.ended(now + 2 * MICROSECOND)
    for which, at, state in (
        (consent, now, Consent.STATE_GRANTED),
        (revoked, now, Consent.STATE_REVOKED),
        (consent, now + 2 * MICROSECOND, Consent.STATE_GRANTED),
        (consent, now + 3 * MICROSECOND, Consent.STATE_EXPIRED),
        (revoked, now + 3 * MICROSECOND, Consent.STATE_REVOKED),
    ):
        assert write_consent(which, scopes, at).state == state


def test_a_backlog_larger_than_a_message_is_sent_whole_before_it_is_called_complete(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_servicer, "SNAPSHOTS_MAX", 64)
    people = [house.customer() for _ in range(150)]
    with ThreadPoolExecutor(8) as crowd:
        list(crowd.map(lambda person: person.open(), people))
    follower = Follower(house)
    follower.until_complete()
    follower.end()
    seen: set[str] = set()
    for _, response in follower.responses:
        assert len(response.snapshots) <= 64
        seen |= {s.account for s in response.snapshots}
        if response.HasField("complete_time"):
            break
    assert seen == {person.account for person in people}
