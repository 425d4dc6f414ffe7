"""A backlog is posted in two halves at once; either half may fail alone and loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
import sqlalchemy as sa
from carbonaccount.calculation.v1 import assessment_service_pb2 as pb

from services.settlement.followers import assessment_follower
from services.settlement.followers.assessment_follower import FEED, AssessmentApplier, _halved
from services.settlement.wiring import MIGRATIONS
from shared.feed.cursors import CursorMoved, read_cursors
from shared.storage.bulk import pack
from shared.storage.engine import Database
from shared.storage.migrate import migrate

CLASS = pb.AssetClass(code=7, asset="reduction", methodology_version="m/1", programme="p")
SHARDS = (1, 2, 3)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    migrate(database_url, MIGRATIONS)
    with closing(Database(database_url)) as database:
        yield database


@pytest.fixture
def applier(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[AssessmentApplier]:
    monkeypatch.setattr(assessment_follower, "SPLIT_ACTS", 4)
    with closing(AssessmentApplier(database, lambda: None)) as applier:
        applier.begin(cursors(database))
        yield applier


def cursors(database: Database) -> dict[int, int]:
    with database.transaction() as connection:
        return read_cursors(connection, FEED, SHARDS)


def run(shard: int, position: int, amounts: list[int]) -> pb.AssessmentRun:
    """Assessments of one account of that shard, on one day."""
    size = np.array([len(amounts)])

    def column(values: list[int], width: int) -> bytes:
        return pack(np.array(values, np.int64), width, size)[0]

    same = [1] * len(amounts)
    return pb.AssessmentRun(
        shard=shard, position=position, count=len(amounts),
        account_id=column([64 * 5 + shard for _ in same], 8),
        activity_position=column(list(range(position, position + len(amounts))), 8),
        asset_class=column([7 for _ in same], 4), civil_day=column([20_600 for _ in same], 4),
        amount=column(amounts, 8), delta=column(amounts, 8),
    )  # fmt: skip


def response(*runs: pb.AssessmentRun) -> pb.WatchAssessmentsResponse:
    return pb.WatchAssessmentsResponse(runs=runs, asset_classes=[CLASS])


def balances(database: Database) -> dict[int, int]:
    with database.transaction() as connection:
        rows = connection.execute(sa.text("select shard, balance from pocket where kind = 1"))
        return {shard: balance for shard, balance in rows}


BACKLOG = (run(1, 1, [10, 20]), run(2, 1, [30, 40]), run(1, 3, [50]), run(3, 1, [60]))


def test_halves_share_no_shard_and_few_acts_or_one_shard_stay_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assessment_follower, "SPLIT_ACTS", 6)
    halves = _halved(list(BACKLOG))
    assert sorted({r.shard for r in half} for half in halves) == sorted([{1}, {2, 3}])
    assert [r.position for r in halves[0]] == [1, 3]
    assert len(_halved(list(BACKLOG[:3]))) == 1  # five acts
    assert len(_halved([BACKLOG[0]] * 9)) == 1  # one shard


def test_a_backlog_in_halves_comes_to_the_same_balances_and_cursors(
    database: Database, applier: AssessmentApplier
) -> None:
    applier.apply([response(*BACKLOG)])
    assert balances(database) == {1: 80, 2: 70, 3: 60}
    assert cursors(database) == {1: 3, 2: 2, 3: 1}
    applier.apply([response(run(1, 4, [1]))])
    assert balances(database)[1] == 81


def test_a_half_whose_cursor_moved_is_undone_alone_and_read_again_from_its_cursor(
    database: Database, applier: AssessmentApplier
) -> None:
    with database.transaction() as connection:  # another worker has shard 1 by now
        connection.execute(sa.text("update cursor set position = 2 where shard = 1"))
    with pytest.raises(CursorMoved):
        applier.apply([response(*BACKLOG)])
    assert balances(database) == {2: 70, 3: 60}
    applier.begin(cursors(database))
    applier.apply([response(run(1, 3, [50]))])
    assert balances(database) == {1: 50, 2: 70, 3: 60}
    assert cursors(database) == {1: 3, 2: 2, 3: 1}
