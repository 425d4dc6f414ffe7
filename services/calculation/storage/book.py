"""Assessments in the database: written as runs, read back as columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import postgresql as pg

from services.calculation.domain.assess import Assessed, SceneCode
from services.calculation.domain.methodology import Credit
from services.calculation.domain.windows import Restated
from services.calculation.storage.packing import columns_of, joined, newest_of_each, unpacked
from services.calculation.storage.tables import (
    COLUMN_WIDTHS,
    assessment_run,
    asset_class,
    scene_code,
)
from shared.feed.append import ADVANCING
from shared.storage.bulk import array, pack
from shared.storage.engine import driver_of

Ints = NDArray[np.int64]

_COLUMNS = ", ".join(COLUMN_WIDTHS)
_RUNS_AT_ONCE = 256
_SCENE_COLUMNS = ("scene", "measures", "label", "label_values")
_INSERT = f"""
with run as (
    select * from unnest(%s::int2[], %s::int4[], %s::int8[], %s::int8[], %s::int4[],
            %s::int4[]{", %s::bytea[]" * len(COLUMN_WIDTHS)})
        as r (shard, count, activity_first, activity_last, day_first, day_last, {_COLUMNS})
), {ADVANCING}
insert into assessment_run (shard, position, activity_first, activity_last, assess_time, count,
    day_first, day_last, superseding, restatement, {_COLUMNS})
select shard, head.first, activity_first, activity_last, now(), count, day_first, day_last, %s,
    %s, {_COLUMNS}
from run join head using (shard)
"""
_READ_RUNS = f"""
select r.shard, r.position, r.count, r.assess_time, r.superseding, {_COLUMNS}
from unnest(%s::int2[], %s::int8[]) as c (shard, position)
cross join lateral (
    select * from assessment_run r
    where r.shard = c.shard and r.position > c.position order by r.position limit %s
) r
"""
_READ_DAYS = f"""
select shard, count, {_COLUMNS} from assessment_run
where shard = any(%s) and day_last >= %s and day_first <= %s order by shard, position
"""
_READ_ACTIVITY = f"""
(select superseding, assess_time, count, position, {_COLUMNS} from assessment_run
 where shard = %(shard)s and not superseding and activity_first <= %(activity)s
 order by activity_first desc limit 1)
union all
(select superseding, assess_time, count, position, {_COLUMNS} from assessment_run
 where shard = %(shard)s and superseding and activity_first <= %(activity)s
   and activity_last >= %(activity)s)
order by position desc
"""


@dataclass(frozen=True)
class Run:
    """A run of the feed, its columns still packed as stored and sent."""

    shard: int
    position: int
    count: int
    assess_time: datetime
    columns: dict[str, bytes]


@dataclass(frozen=True)
class Found:
    """The newest assessment of one activity; all columns have length 1."""

    assessed: Assessed
    assess_time: datetime
    superseding: bool


class Book:
    """Assessments of one database connection, inside one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._driver: psycopg.Connection[Any] = driver_of(connection)

    def write(self, assessed: Assessed) -> None:
        """The first assessments of new activities: one run for each shard, in their order."""
        self._write(assessed, {}, superseding=False, restatement=None)

    def supersede(self, restated: Restated, restatement: int | None = None) -> None:
        """Assessments that take the place of earlier ones; of a restatement, or of a withdrawal."""
        changes = {"delta": restated.delta, "previous_class": restated.previous_class}
        self._write(restated.assessed, changes, superseding=True, restatement=restatement)

    def _write(
        self,
        assessed: Assessed,
        changes: Mapping[str, Ints],
        *,
        superseding: bool,
        restatement: int | None,
    ) -> None:
        if not len(assessed.acts):
            return
        order = np.argsort(assessed.acts.shard, kind="stable")
        assessed = assessed.take(order)
        columns = columns_of(assessed)
        zeros = np.zeros(len(order), np.int64)
        columns |= {"delta": zeros, "previous_class": zeros}
        columns |= {name: change[order] for name, change in changes.items()}
        shards, starts, counts = np.unique(
            assessed.acts.shard, return_index=True, return_counts=True
        )
        positions, days = assessed.acts.activity_position, assessed.acts.civil_day
        packed = [pack(columns[name], width, counts) for name, width in COLUMN_WIDTHS.items()]
        self._driver.execute(
            _INSERT,
            (
                array("int2", shards),
                array("int4", counts),
                array("int8", np.minimum.reduceat(positions, starts)),
                array("int8", np.maximum.reduceat(positions, starts)),
                array("int4", np.minimum.reduceat(days, starts)),
                array("int4", np.maximum.reduceat(days, starts)),
                *(array("bytea", column) for column in packed),
                superseding,
                restatement,
            ),
            prepare=True,
        )

    def read_runs(self, cursors: Mapping[int, int], runs_per_shard: int) -> list[Run]:
        """Runs after `cursors`, at most so many for each shard, in order within each."""
        parameters = (
            array("int2", np.array(list(cursors), np.int64)),
            array("int8", np.array(list(cursors.values()), np.int64)),
            runs_per_shard,
        )
        with self._driver.cursor(binary=True) as cursor:
            rows = cursor.execute(_READ_RUNS, parameters, prepare=True).fetchall()
        runs = []
        for shard, position, count, assess_time, superseding, *values in rows:
            columns = dict(zip(COLUMN_WIDTHS, values, strict=True))
            if not superseding:
                columns["delta"] = columns["amount"]
            runs.append(Run(shard, position, count, assess_time, columns))
        return runs

    def read_days(
        self,
        shards: Ints,
        first_day: int,
        last_day: int,
        among: Callable[[Ints], NDArray[np.bool_]] | None = None,
    ) -> Assessed:
        """The newest assessment of every activity of those shards and days, in record order.

        `among` says which accounts are meant; of the others nothing is held in memory for long.
        """
        parts = []
        with self._driver.cursor(binary=True) as cursor:
            cursor.execute(_READ_DAYS, (shards.tolist(), first_day, last_day), prepare=True)
            while rows := cursor.fetchmany(_RUNS_AT_ONCE):
                part = unpacked([row[2:] for row in rows], [row[1] for row in rows])
                days = part.acts.civil_day
                kept = (days >= first_day) & (days <= last_day)
                if among is not None:
                    kept &= among(part.acts.account_id)
                parts.append(part.take(kept))
        return newest_of_each(joined(parts))

    def count_acts(self, shards: Sequence[int], days: tuple[int, int]) -> dict[int, int]:
        """About how many assessments shards have on those days, never too few; none are absent."""
        runs = assessment_run.c
        query = sa.select(runs.shard, sa.func.sum(runs["count"])).where(
            runs.shard.in_(shards), runs.day_last >= days[0], runs.day_first <= days[1]
        )
        return {
            shard: int(acts) for shard, acts in self._connection.execute(query.group_by(runs.shard))
        }

    def read_activity(self, shard: int, activity_position: int) -> Found | None:
        """The newest assessment of the activity at that position of its feed."""
        with self._driver.cursor(binary=True) as cursor:
            rows = cursor.execute(
                _READ_ACTIVITY, {"shard": shard, "activity": activity_position}
            ).fetchall()
        for superseding, assess_time, count, _, *values in rows:
            assessed = unpacked([values], [count])
            at = np.flatnonzero(assessed.acts.activity_position == activity_position)
            if len(at):
                return Found(assessed.take(at[-1:]), assess_time, superseding)
        return None

    def newest(self, shard: int, activity_position: int) -> Assessed | None:
        """The newest assessment of one activity, as columns of length 1."""
        found = self.read_activity(shard, activity_position)
        return None if found is None else found.assessed

    def note_scenes(self, scenes: Mapping[int, SceneCode]) -> None:
        """Keeps what scene codes mean."""
        insert = pg.insert(scene_code)
        self._connection.execute(
            insert.on_conflict_do_update(
                index_elements=["code"],
                set_={name: insert.excluded[name] for name in _SCENE_COLUMNS},
            ),
            [
                {"code": code, **{name: getattr(scene, name) for name in _SCENE_COLUMNS}}
                for code, scene in scenes.items()
            ],
        )

    def read_scenes(self) -> dict[int, SceneCode]:
        """What scene codes mean, as far as the activity feed has said."""
        rows = self._connection.execute(sa.select(scene_code))
        return {
            row.code: SceneCode(row.scene, tuple(row.measures), row.label, tuple(row.label_values))
            for row in rows
        }

    def class_code(self, credit: Credit, region: int, vintage_month: int) -> int:
        """The code of a class, made when it is new."""
        key = {
            "methodology_version": credit.version.name,
            "methodology_digest": credit.version.digest,
            "programme": credit.programme,
            "scene_approval": credit.scene_approval,
            "region": region,
            "vintage_month": vintage_month,
        }
        more = {"asset": credit.version.asset, "gas_scope": credit.version.gas_scope}
        self._connection.execute(
            pg.insert(asset_class).values(**key, **more).on_conflict_do_nothing()
        )
        query = sa.select(asset_class.c.code).filter_by(**key)
        return int(self._connection.execute(query).scalar_one())

    def read_class(self, code: int) -> tuple[str, str]:
        """Version and programme of a class."""
        row = self._connection.execute(
            sa.select(asset_class.c.methodology_version, asset_class.c.programme).where(
                asset_class.c.code == code
            )
        ).one()
        return row.methodology_version, row.programme

    def assets_of(self, codes: Sequence[int]) -> dict[int, str]:
        """What the classes of these codes count."""
        query = sa.select(asset_class.c.code, asset_class.c.asset)
        rows = self._connection.execute(query.where(asset_class.c.code.in_(codes)))
        return {row.code: row.asset for row in rows}

    def read_classes(self, codes: Sequence[int]) -> list[sa.RowMapping]:
        """The classes of these codes."""
        query = sa.select(asset_class).where(asset_class.c.code.in_(codes))
        return list(self._connection.execute(query).mappings())
