"""Everything that was computed for one account, for a copy: all of it, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import date

import numpy as np
import pytest
import sqlalchemy as sa

from services.calculation.domain.assess import Verdict
from services.calculation.storage.privacy import Past
from services.calculation.storage.tables import COLUMN_WIDTHS
from services.calculation.usecases.privacy import erase_account, export_account
from services.calculation.wiring import MIGRATIONS
from shared.ids import account_name
from shared.privacy import Table
from shared.storage.bulk import pack
from shared.storage.engine import Database
from shared.storage.migrate import migrate

ME = 0x0102_0304_0506_0740  # of shard 0
OTHER = 64
_SCENE = "insert into scene_code values (3, 's', '{distance_metre}', 'mode', '{bus,metro}')"
_CLASS = """
insert into asset_class (asset, methodology_version, methodology_digest, programme, scene_approval,
    region, gas_scope, vintage_month) values ('reduction', 'm/v1', 'd', 'demo', '', 0, 'CO2', 24316)
"""


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    migrate(database_url, MIGRATIONS)
    with closing(Database(database_url)) as database:
        with database.transaction() as connection:
            connection.execute(sa.text(_SCENE))
            connection.execute(sa.text(_CLASS))
        yield database


def add_run(
    database: Database, position: int, accounts: Sequence[int], *, superseding: bool = False
) -> None:
    """A run of assessments at that position, one for each account; amounts are their positions."""
    places = np.arange(position, position + len(accounts))
    ones = np.ones(len(accounts), np.int64)
    columns = {name: 0 * ones for name in COLUMN_WIDTHS} | {
        "account_id": np.array(accounts), "activity_position": places, "asset_class": ones,
        "civil_day": 20_600 * ones, "amount": places, "delta": -places if superseding else 0 * ones,
        "verdict": ones, "scene": 3 * ones, "region": 440_300 * ones, "evidence_grade": ones,
        "measure_1": 1_000 * ones, "label_1": 2 * ones,
    }  # fmt: skip
    packed = {
        name: pack(columns[name], width, np.array([len(accounts)]))[0]
        for name, width in COLUMN_WIDTHS.items()
    }
    row = {
        "position": position, "activity_first": position, "activity_last": int(places[-1]),
        "count": len(accounts), "day_first": 20_600, "day_last": 20_600, "shard": 0,
        "superseding": superseding, **packed,
    }  # fmt: skip
    with database.transaction() as connection:
        connection.execute(
            sa.text(
                f"insert into assessment_run (assess_time, {', '.join(row)}) "
                f"values (now(), {', '.join(f':{name}' for name in row)})"
            ),
            row,
        )


def copied(database: Database, account_id: int) -> list[dict[str, object]]:
    """The assessments of a copy."""
    with database.transaction() as connection:
        assessments, changes = export_account(account_id, past=Past(connection))
        assert isinstance(assessments, Table)
        assert isinstance(changes, Table)
        assert list(changes.rows) == []
        return [dict(zip(assessments.columns, row, strict=True)) for row in assessments.rows]


@pytest.mark.parametrize("runs", [0, 1, 15, 16, 17, 33])
def test_every_assessment_is_there_once_however_many_runs_hold_it(
    database: Database, runs: int
) -> None:
    for run in range(runs):
        add_run(database, 1 + 4 * run, [OTHER, ME, OTHER, ME])
    found = copied(database, ME)
    positions = [1 + 4 * run + place for run in range(runs) for place in (1, 3)]
    assert [one["assessment"] for one in found] == [
        f"{account_name(ME)}/assessments/{position}" for position in positions
    ]
    assert [one["delta"] for one in found] == positions
    assert len(copied(database, OTHER)) == 2 * runs


def test_an_assessment_is_told_in_words(database: Database) -> None:
    add_run(database, 1, [ME])
    (one,) = copied(database, ME)
    assert one["civil_date"] == date(2026, 5, 27)
    assert (one["scene"], one["measures"], one["label"]) == (
        "s", {"distance_metre": 1_000}, {"mode": "metro"}
    )  # fmt: skip
    assert (one["region_code"], one["verdict"]) == ("440300", Verdict.GRANTED.name.lower())
    assert (one["asset"], one["methodology_version"]) == ("reduction", "m/v1")
    assert (one["superseding"], one["restatement"]) == (False, "")


def test_what_took_the_place_of_an_earlier_one_says_by_how_much(database: Database) -> None:
    add_run(database, 1, [ME])
    add_run(database, 2, [ME], superseding=True)
    found = copied(database, ME)
    assert [(one["superseding"], one["delta"]) for one in found] == [(False, 1), (True, -2)]


def test_numbers_of_others_that_hold_its_bytes_are_not_taken_for_it(database: Database) -> None:
    """The bytes of ME lie across the numbers of two others, which the database cannot tell."""
    data = (b"\x01" * 4 + ME.to_bytes(8, "big") + b"\x40" * 4)[:16]
    others = [int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")]
    assert ME not in others
    add_run(database, 1, others)
    assert copied(database, ME) == []
    add_run(database, 3, [*others, ME])
    assert [one["amount"] for one in copied(database, ME)] == [5]


def test_an_erasure_deletes_nothing_and_says_what_is_kept_and_why() -> None:
    erased = erase_account(ME)
    assert dict(erased.counts) == {}
    assert len(erased.kept) == 2
    assert all(kept.what and kept.why and kept.until_time is None for kept in erased.kept)
