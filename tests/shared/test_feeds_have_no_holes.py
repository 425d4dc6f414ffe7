"""Heads, cursors, leases, gathering: the ways in which feeds could lose or double."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import pytest
import sqlalchemy as sa

from services.calculation.wiring import MIGRATIONS
from shared.feed.append import advance_heads
from shared.feed.cursors import CursorMoved, move_cursors, read_cursors
from shared.feed.leases import LeaseKeeper
from shared.gather import Gatherer
from shared.refusal import LimitReached
from shared.storage.engine import Database, driver_of
from shared.storage.migrate import migrate


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    migrate(database_url, MIGRATIONS)
    with closing(Database(database_url, connections_max=16)) as database:
        yield database


def test_positions_are_dense_and_never_visible_before_lower_ones(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(sa.text("create table fact (shard int, position bigint)"))
    stop = threading.Event()
    broken: list[str] = []

    def write(seed: int) -> None:
        chance = np.random.default_rng(seed)
        for _ in range(60):
            shards = np.unique(chance.integers(0, 4, 3))
            counts = chance.integers(1, 4, len(shards))
            with database.transaction() as connection:
                first = advance_heads(driver_of(connection), shards, counts)
                for shard, start, count in zip(shards, first, counts, strict=True):
                    for position in range(int(start), int(start + count)):
                        connection.execute(
                            sa.text("insert into fact values (:s, :p)"),
                            {"s": int(shard), "p": position},
                        )

    def read() -> None:
        while not stop.is_set():
            with database.transaction() as connection:
                rows = connection.execute(
                    sa.text("select shard, count(*), max(position) from fact group by shard")
                )
                broken.extend(f"{row}" for row in rows if row[1] != row[2])

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    reader.join()
    assert broken == []


def test_of_two_workers_with_one_run_the_second_is_told_and_changes_nothing(
    database: Database,
) -> None:
    with database.transaction() as connection:
        assert read_cursors(connection, "up", [3, 5]) == {3: 0, 5: 0}
        move_cursors(connection, "up", {3: (0, 10), 5: (0, 7)})
    with pytest.raises(CursorMoved), database.transaction() as connection:
        move_cursors(connection, "up", {3: (10, 20), 5: (0, 9)})
    with database.transaction() as connection:
        assert read_cursors(connection, "up", [3, 5]) == {3: 10, 5: 7}


def test_two_workers_split_the_shards_and_a_dead_ones_move_within_seconds(
    database: Database,
) -> None:
    async def story() -> None:
        first = LeaseKeeper(database, "up", ttl_s=1)
        second = LeaseKeeper(database, "up", ttl_s=1)
        one, two = asyncio.create_task(first.run()), asyncio.create_task(second.run())
        await _until(lambda: len(first.shards) == len(second.shards) == 32)
        assert not first.shards & second.shards
        one.cancel()  # it dies without a word
        await _until(lambda: len(second.shards) == 64)
        two.cancel()
        await asyncio.gather(one, two, return_exceptions=True)

    asyncio.run(story())


async def _until(true: object) -> None:
    deadline = time.monotonic() + 10
    while not true():  # type: ignore[operator]  # a function
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def test_gathered_calls_share_a_commit_and_get_their_own_answers() -> None:
    sizes: list[int] = []

    def commit(items: Sequence[int]) -> list[int | Exception]:
        sizes.append(len(items))
        time.sleep(0.02)
        return [ValueError(str(item)) if item % 10 == 3 else item * 2 for item in items]

    async def story() -> None:
        gatherer = Gatherer(commit, weight_max=1000, waiting_max=1000)
        answers = await asyncio.gather(
            *(gatherer.submit(item) for item in range(50)), return_exceptions=True
        )
        for item, answer in enumerate(answers):
            assert isinstance(answer, ValueError) if item % 10 == 3 else answer == item * 2
        await gatherer.close()

    asyncio.run(story())
    assert len(sizes) <= 3


def test_callers_who_call_again_meet_in_one_transaction_and_a_lone_one_does_not_wait() -> None:
    sizes: list[int] = []

    def commit(items: Sequence[int]) -> list[int | Exception]:
        sizes.append(len(items))
        time.sleep(0.005)
        return list(items)

    async def story() -> None:
        gatherer = Gatherer(commit, weight_max=1000, waiting_max=1000, linger_ms=1000)
        started = time.monotonic()
        for item in range(5):
            assert await gatherer.submit(item) == item
        assert time.monotonic() - started < 1
        assert sizes == [1] * 5

        async def caller() -> None:
            for item in range(20):
                await gatherer.submit(item)
                await asyncio.sleep(0.002)

        await asyncio.gather(*(caller() for _ in range(8)))
        await gatherer.close()

    asyncio.run(story())
    assert sizes[-10:-1] == [8] * 9


def test_a_cancelled_caller_takes_nothing_back_and_disturbs_nobody() -> None:
    done: list[int] = []

    def commit(items: Sequence[int]) -> list[int | Exception]:
        time.sleep(0.05)
        done.extend(items)
        return list(items)

    async def story() -> None:
        gatherer = Gatherer(commit, weight_max=10, waiting_max=100)
        calls = [asyncio.create_task(gatherer.submit(item)) for item in range(5)]
        await asyncio.sleep(0.01)
        calls[2].cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [a for n, a in enumerate(answers) if n != 2] == [0, 1, 3, 4]
        await gatherer.close()

    asyncio.run(story())
    assert sorted(done) == [0, 1, 2, 3, 4]


def test_more_than_may_wait_is_refused_by_the_named_limit() -> None:
    async def story() -> None:
        gatherer: Gatherer[int, int] = Gatherer(
            lambda items: (time.sleep(0.2), list(items))[1], weight_max=5, waiting_max=5
        )
        waiting = [asyncio.create_task(gatherer.submit(1, 5))]
        await asyncio.sleep(0.05)  # the first is being written, so the next may wait
        waiting.append(asyncio.create_task(gatherer.submit(2, 5)))
        await asyncio.sleep(0.01)
        with pytest.raises(LimitReached):
            await gatherer.submit(3, 1)
        await asyncio.gather(*waiting)
        await gatherer.close()

    asyncio.run(story())
