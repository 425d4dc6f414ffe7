"""A book of before this format is read, restated and shown as it stands."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from services.calculation.domain.assess import Verdict
from services.calculation.storage.book import Book
from services.calculation.wiring import MIGRATIONS
from shared.storage.bulk import pack
from shared.storage.engine import Database
from shared.storage.migrate import migrate

# One run of two rides of one account, as the code of before wrote it.
OLD_ROW = """
insert into assessment_run (position, activity_first, activity_last, assess_time, count, day_first,
    day_last, shard, superseding, account_id, activity_position, asset_class, civil_day, amount,
    delta, verdict, scene, region, evidence_grade, measure_1, measure_2, cap_used_before)
values (1, 1, 2, now(), 2, 20600, 20600, 0, false, :account_id, :activity_position, :asset_class,
    :civil_day, :amount, '', :verdict, :scene, :region, :evidence_grade, :measure_1, '', '')
"""
COLUMNS = {
    "account_id": ([64, 64], 8),
    "activity_position": ([1, 2], 8),
    "asset_class": ([1, 1], 4),
    "civil_day": ([20_600, 20_600], 4),
    "amount": ([33_880, 67_760], 8),
    "verdict": ([1, 1], 1),
    "scene": ([3, 3], 2),
    "region": ([440_300, 440_300], 4),
    "evidence_grade": ([1, 1], 1),
    "measure_1": ([1_000, 2_000], 8),
}


def test_rows_of_before_have_no_label_no_past_and_no_second_cap(
    database_url: str, tmp_path: Path
) -> None:
    shutil.copy(MIGRATIONS / "0001_spine.py", tmp_path)
    migrate(database_url, tmp_path)
    with closing(Database(database_url)) as database:
        with database.transaction() as connection:
            packed = {
                name: pack(np.array(values), width, np.array([2]))[0]
                for name, (values, width) in COLUMNS.items()
            }
            connection.execute(sa.text(OLD_ROW), packed)
            connection.execute(sa.text("insert into scene_code values (3, 's', '{distance}')"))
        migrate(database_url, MIGRATIONS)
        with database.transaction() as connection:
            book = Book(connection)
            stored = book.read_days(np.array([0]), 20_600, 20_600)
            (run,) = book.read_runs({0: 0}, 8)
            scene = book.read_scenes()[3]
            shown = connection.execute(sa.text("select * from assessment order by position")).all()
    assert stored.amount.tolist() == [33_880, 67_760]
    assert stored.verdict.tolist() == [Verdict.GRANTED] * 2
    for column in (stored.acts.label_1, stored.history_1, stored.cap_used_before_2):
        assert column.tolist() == [0, 0]
    assert run.columns["previous_class"] == b""
    assert (scene.label, scene.label_values) == ("", ())
    assert [(row.amount, row.delta, row.previous_class) for row in shown] == [
        (33_880, 33_880, 0),
        (67_760, 67_760, 0),
    ]
