"""A worker restates between runs of new acts: piece by piece, resumed by others, never twice."""

from __future__ import annotations

from typing import Any

import pytest
from carbonaccount.calculation.v1 import methodology_service_pb2 as pb

from services.calculation.followers.activity_follower import FEED, ActivityApplier
from shared.feed.cursors import CursorMoved, read_cursors
from shared.ids import shard_of
from tests.calculation.life_files import BIKE_FILE, WALK, WALK_FILE, corrected, walk
from tests.calculation.life_world import (
    REASON,
    Doing,
    Life,
    new_shelf,
    told,
)
from tests.suite import eventually

MINE, OTHER_SHARD = 64, 65
MONTHS = ("2026-03-10", "2026-04-10", "2026-05-10")
PAST = corrected("2026-03-01", "30")


def rides(*days: str) -> list[Doing]:
    """A kilometre on each day, by two accounts of two shards."""
    return [Doing(account, on=on) for on in days for account in (MINE, OTHER_SHARD)]


def amounts(life: Life, account: int = MINE) -> list[int]:
    return [amount for _, amount in life.amounts(account).values()]


def waiting(life: Life) -> int:
    """How many shards still wait."""
    query = "select count(*) from restatement_shard join restatement r using (restatement)"
    return int(life.sql(f"{query} where month <= r.last_month")[0][0])


def gone_over(life: Life) -> tuple[int, int]:
    """Acts gone over, and those that changed, of all restatements."""
    ((acts, changed),) = life.sql("select sum(acts), sum(changed) from restatement_shard")
    return int(acts), int(changed)


def superseding(life: Life) -> dict[tuple[int, int], int]:
    """How many superseding assessments each act has, by shard and position."""
    rows = life.sql(
        "select shard, activity_position, count(*) from assessment where superseding"
        " group by shard, activity_position"
    )
    return {(shard, position): count for shard, position, count in rows}


def unlike_the_library(life: Life) -> int:
    """Acts that do not come to what the library in force says."""
    request = pb.BacktestLibraryFileRequest(
        first_date=told("2026-01-01"), last_date=told("2026-05-20")
    )
    *_, report = life.operator("ann").BacktestLibraryFile(request)
    return sum(one.changed for one in report.totals if one.by == "all")


def begun_in_the_middle(life: Life) -> tuple[ActivityApplier, int]:
    """Three months are recorded and wait; a worker has done one piece of several."""
    life.record(*rides(*MONTHS))
    life.into_force(BIKE_FILE, PAST, REASON)
    worker = life.worker()
    assert worker.work_between()
    left = waiting(life)
    assert left > 0
    return worker, left


def test_what_was_published_between_two_runs_holds_for_the_second(life: Life) -> None:
    elsewhere = life.worker(new_shelf())
    life.record(Doing(MINE), worker=elsewhere)
    life.into_force(BIKE_FILE, PAST, REASON)
    life.record(Doing(MINE), Doing(MINE, on="2026-02-28"), worker=elsewhere)
    assert amounts(life) == [33_880, 30_000, 33_880]


def test_a_worker_that_found_nothing_to_do_finds_what_is_begun_after(life: Life) -> None:
    worker = life.worker()
    life.record(Doing(MINE), worker=worker)
    assert not worker.work_between()
    life.into_force(BIKE_FILE, PAST, REASON)
    assert eventually(worker.work_between, seconds=5)
    assert amounts(life) == [30_000]


def test_a_worker_that_was_told_of_no_scenes_restates_nothing_yet(life: Life) -> None:
    life.record(Doing(MINE))
    life.into_force(BIKE_FILE, PAST, REASON)
    blank = ActivityApplier(life.database, life.shelf, lambda: None)
    with life.database.transaction() as connection:
        blank.begin(read_cursors(connection, FEED, range(64)))
    assert not blank.work_between()
    assert waiting(life) == 64


def test_acts_go_on_coming_while_months_are_restated_one_after_another(life: Life) -> None:
    worker, left = begun_in_the_middle(life)
    pieces = 1
    while left:
        life.record(*rides("2026-02-28", *MONTHS), worker=worker)
        assert worker.work_between()
        pieces += 1
        assert waiting(life) <= left
        left = waiting(life)
    assert not worker.work_between()
    assert pieces == 3, "a piece is a month here"
    for account in (MINE, OTHER_SHARD):
        assert amounts(life, account) == [30_000] * 3 + [33_880, *[30_000] * 3] * 2
    assert superseding(life) == {(shard, n): 1 for shard in (0, 1) for n in (1, 2, 3)}
    assert unlike_the_library(life) == 0


def test_another_worker_goes_on_where_the_first_was_dropped(life: Life) -> None:
    dropped, left = begun_in_the_middle(life)
    del dropped
    another = life.worker(new_shelf())
    life.record(*rides(*MONTHS), worker=another)
    pieces = 1
    while another.work_between():
        pieces += 1
    assert (waiting(life), pieces) == (0, 3)
    assert left < 65
    # Six were gone over in the first place; of those that came since, the two of March had passed.
    assert gone_over(life) == (10, 6)
    assert set(superseding(life).values()) == {1}
    assert amounts(life) == [30_000] * 6


def test_a_worker_that_another_one_overtook_writes_nothing(life: Life) -> None:
    life.record(*rides(*MONTHS))
    overtaken = life.worker()
    newer = life.worker()
    life.record(Doing(MINE), worker=newer)
    life.into_force(BIKE_FILE, PAST, REASON)
    before = life.rows(), life.sql("select * from restatement_shard order by shard")
    heads = life.sql("select * from feed_head order by 1, 2")
    with pytest.raises(CursorMoved):
        overtaken.work_between()
    with pytest.raises(CursorMoved):
        life.record(Doing(MINE), worker=overtaken)
    life.heads[0] -= 1
    assert (life.rows(), life.sql("select * from restatement_shard order by shard")) == before
    assert life.sql("select * from feed_head order by 1, 2") == heads
    while newer.work_between():
        pass
    assert amounts(life) == [30_000] * 4
    assert set(superseding(life).values()) == {1}
    life.record(Doing(MINE), worker=newer)
    assert unlike_the_library(life) == 0


def test_a_worker_restates_its_own_shards_and_leaves_the_others(life: Life) -> None:
    life.record(*rides(*MONTHS))
    life.into_force(BIKE_FILE, PAST, REASON)
    one_shard = life.worker()
    with life.database.transaction() as connection:
        one_shard.begin(read_cursors(connection, FEED, [shard_of(MINE)]))
    while one_shard.work_between():
        pass
    assert (amounts(life, MINE), amounts(life, OTHER_SHARD)) == ([30_000] * 3, [33_880] * 3)
    assert waiting(life) == 63


# The worker forgets what was used only when it is the first of its process to look at an edition.
FIRST_TO_LOOK = pytest.param(True, id="own shelf")
LATE = pytest.param(
    False,
    id="shelf of its process",
)


@pytest.mark.parametrize("own_shelf", [FIRST_TO_LOOK, LATE])
def test_what_was_used_of_a_cap_is_what_the_new_text_says(life: Life, own_shelf: bool) -> None:
    worker = life.worker(new_shelf() if own_shelf else None)
    life.record(*[Doing(MINE, WALK, measure=1)] * 3, worker=worker)
    assert amounts(life) == [10, 10, 5]
    before = walk("10", 25).replace('"floor"', '"floor"\nend_date = 2026-03-01')
    later = walk("10", 35).partition("[[version]]")[2].replace('id = "1"', 'id = "2"', 1)
    text = f"{before}\n[[version]]{later.replace('2025-01-01', '2026-03-01')}"
    life.into_force(WALK_FILE, text, REASON)
    # The third walk will come to 10, so of 35 there are 5 left, though 25 were used so far.
    life.record(*[Doing(MINE, WALK, measure=1)] * 2, worker=worker)
    assert amounts(life) == [10, 10, 5, 5, 0]
    while worker.work_between():
        pass
    assert amounts(life) == [10, 10, 10, 5, 0]
    life.withdraw(MINE, 1)
    assert amounts(life) == [0, 10, 10, 10, 5]
    assert unlike_the_library(life) == 0


def test_a_second_restatement_finds_nothing_left_and_says_so(life: Life) -> None:
    life.record(*rides(*MONTHS))
    life.into_force(BIKE_FILE, PAST, REASON)
    assert life.restate() == 3
    life.sql(
        "insert into restatement (create_time, first_month, last_month, requester, reason_zh,"
        " reason_en, request_id) select now(), first_month, last_month, 'operators/x', 'a', 'b',"
        " gen_random_uuid() from restatement returning 1"
    )
    shards: Any = (
        "select 2, shard, 24314, 0, 1, 0, 0, 0, 0, now() from generate_series(0, 63) shard"
    )
    life.sql(f"insert into restatement_shard {shards} returning 1")
    life.restate()
    rows = life.sql("select restatement, sum(acts), sum(changed) from restatement_shard group by 1")
    assert sorted(map(tuple, rows)) == [(1, 6, 6), (2, 6, 0)]
