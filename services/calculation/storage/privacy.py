"""Everything that was ever computed for one account, read page by page.

The feed has no index by account, because an index entry an act would cost more than the act's
columns. So a copy looks through the shard's runs: the database compares the packed account
numbers as bytes, and only runs that may hold the account leave it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import psycopg
import sqlalchemy as sa

from services.calculation.domain.assess import SceneCode
from services.calculation.storage.book import Book
from services.calculation.storage.packing import unpacked
from services.calculation.storage.restatements import AccountChange, Restatements
from services.calculation.storage.tables import COLUMN_WIDTHS
from services.calculation.usecases.privacy import PastAssessment
from shared.ids import shard_of
from shared.storage.bulk import unpack
from shared.storage.engine import driver_of

_RUNS_AT_ONCE = 16  # each has at most some 16,000 acts of 80 bytes
_COLUMNS = ", ".join(f"r.{name}" for name in COLUMN_WIDTHS)
_RUNS = f"""
select r.position, r.assess_time, r.count, r.superseding, coalesce(r.restatement, 0), {_COLUMNS}
from assessment_run r
where r.shard = %(shard)s and r.position > %(after)s and position(%(packed)s in r.account_id) > 0
order by r.position limit {_RUNS_AT_ONCE}
"""


class Past:
    """The assessments of one database connection, account by account."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._driver: psycopg.Connection[Any] = driver_of(connection)

    def assessments(self, account_id: int) -> Iterator[PastAssessment]:
        """Every assessment of the account in feed order, also those that newer ones replaced."""
        parameters = {
            "shard": shard_of(account_id), "after": 0, "packed": account_id.to_bytes(8, "big"),
        }  # fmt: skip
        while True:
            with self._driver.cursor(binary=True) as cursor:
                rows = cursor.execute(_RUNS, parameters).fetchall()
            for position, assess_time, count, superseding, restatement, *columns in rows:
                found = _unpacked(account_id, count, columns, superseding)
                for place, told in found:
                    yield PastAssessment(
                        position + place, assess_time, superseding, restatement, *told
                    )
            if len(rows) < _RUNS_AT_ONCE:
                return
            parameters["after"] = rows[-1][0]

    def scenes(self) -> dict[int, SceneCode]:
        """What scene codes mean."""
        return Book(self._connection).read_scenes()

    def class_of(self, code: int) -> dict[str, object]:
        """What a class code means."""
        (row,) = Book(self._connection).read_classes([code])
        return dict(row)

    def changes(self, account_id: int) -> list[AccountChange]:
        """What restatements changed for the account, the newest first."""
        return Restatements(self._connection).of_account(shard_of(account_id), account_id)


def _unpacked(
    account_id: int, count: int, columns: Sequence[bytes], superseding: bool
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Place within the run, and what was computed, of every assessment of the account."""
    assessed, packed = unpacked([columns], [count]), dict(zip(COLUMN_WIDTHS, columns, strict=True))
    acts = assessed.acts
    delta = unpack([packed["delta"]], [count], 8) if superseding else assessed.amount
    told = (
        acts.activity_position, acts.civil_day, acts.scene, acts.region, acts.evidence_grade,
        acts.measure_1, acts.measure_2, acts.label_1, assessed.verdict, assessed.amount, delta,
        assessed.asset_class, assessed.cap_used_before, assessed.cap_used_before_2,
        assessed.history_1,
    )  # fmt: skip
    for place in np.flatnonzero(acts.account_id == account_id).tolist():
        yield place, tuple(int(column[place]) for column in told)
