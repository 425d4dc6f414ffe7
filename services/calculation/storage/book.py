"""Assessments in the database: written as runs, read back as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import postgresql as pg

from services.calculation.domain.assess import Acts, Assessed, SceneCode
from services.calculation.domain.methodology import Credit
from services.calculation.storage.tables import COLUMN_WIDTHS, asset_class, scene_code
from shared.feed.append import ADVANCING
from shared.storage.bulk import array, pack, unpack
from shared.storage.engine import driver_of

Ints = NDArray[np.int64]

_COLUMNS = ", ".join(COLUMN_WIDTHS)
_INSERT = f"""
with run as (
    select * from unnest(%s::int2[], %s::int4[], %s::int8[], %s::int8[], %s::int4[],
            %s::int4[]{", %s::bytea[]" * len(COLUMN_WIDTHS)})
        as r (shard, count, activity_first, activity_last, day_first, day_last, {_COLUMNS})
), {ADVANCING}
insert into assessment_run (shard, position, activity_first, activity_last, assess_time, count,
    day_first, day_last, superseding, {_COLUMNS})
select shard, head.first, activity_first, activity_last, now(), count, day_first, day_last, %s,
    {_COLUMNS}
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

    def write(self, assessed: Assessed, delta: Ints | None) -> None:
        """One run for each shard, in the order of `assessed` within it.

        `delta` is given for runs that supersede; otherwise an assessment is the first of its
        activity and its delta is its amount.
        """
        if not len(assessed.acts):
            return
        order = np.argsort(assessed.acts.shard, kind="stable")
        assessed = assessed.take(order)
        columns = _columns(assessed)
        columns["delta"] = np.zeros(len(order), np.int64) if delta is None else delta[order]
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
                delta is not None,
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

    def read_days(self, shards: Ints, first_day: int, last_day: int) -> Assessed:
        """The newest assessment of every activity of those shards and days, in record order."""
        with self._driver.cursor(binary=True) as cursor:
            rows = cursor.execute(
                _READ_DAYS, (shards.tolist(), first_day, last_day), prepare=True
            ).fetchall()
        assessed = _assessed([row[2:] for row in rows], [row[1] for row in rows])
        days = assessed.acts.civil_day
        assessed = assessed.take((days >= first_day) & (days <= last_day))
        return newest_of_each(assessed)

    def read_activity(self, shard: int, activity_position: int) -> Found | None:
        """The newest assessment of the activity at that position of its feed."""
        with self._driver.cursor(binary=True) as cursor:
            rows = cursor.execute(
                _READ_ACTIVITY, {"shard": shard, "activity": activity_position}
            ).fetchall()
        for superseding, assess_time, count, _, *values in rows:
            assessed = _assessed([values], [count])
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
                set_={"scene": insert.excluded.scene, "measures": insert.excluded.measures},
            ),
            [
                {"code": code, "scene": scene.scene, "measures": list(scene.measures)}
                for code, scene in scenes.items()
            ],
        )

    def read_scenes(self) -> dict[int, SceneCode]:
        """What scene codes mean, as far as the activity feed has said."""
        rows = self._connection.execute(sa.select(scene_code))
        return {row.code: SceneCode(row.scene, tuple(row.measures)) for row in rows}

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

    def credited_versions(self) -> list[tuple[str, str]]:
        """Name and digest of every version that has ever credited something."""
        columns = (asset_class.c.methodology_version, asset_class.c.methodology_digest)
        return [(name, digest) for name, digest in self._connection.execute(
            sa.select(*columns).distinct())]  # fmt: skip

    def read_class(self, code: int) -> tuple[str, str]:
        """Version and programme of a class."""
        row = self._connection.execute(
            sa.select(asset_class.c.methodology_version, asset_class.c.programme).where(
                asset_class.c.code == code
            )
        ).one()
        return row.methodology_version, row.programme

    def read_classes(self, codes: Sequence[int]) -> list[sa.RowMapping]:
        """The classes of these codes."""
        query = sa.select(asset_class).where(asset_class.c.code.in_(codes))
        return list(self._connection.execute(query).mappings())


def newest_of_each(assessed: Assessed) -> Assessed:
    """The last assessment of each activity (columns are in feed order), in record order."""
    acts = assessed.acts
    order = np.lexsort((np.arange(len(acts)), acts.activity_position, acts.shard))
    key = acts.activity_position[order]
    shard = acts.shard[order]
    last = np.append((key[1:] != key[:-1]) | (shard[1:] != shard[:-1]), True)[: len(order)]
    return assessed.take(order[last])


def _columns(assessed: Assessed) -> dict[str, Ints]:
    own = {name: value for name, value in vars(assessed).items() if name != "acts"}
    return {**vars(assessed.acts), **own}


def _assessed(rows: Sequence[Sequence[bytes]], counts: Sequence[int]) -> Assessed:
    """Packed rows (columns in the order of COLUMN_WIDTHS) as one set of columns."""
    values = {
        name: unpack([row[place] for row in rows], counts, width)
        for place, (name, width) in enumerate(COLUMN_WIDTHS.items())
    }
    values.pop("delta")
    own = {
        name: values.pop(name) for name in ("amount", "asset_class", "verdict", "cap_used_before")
    }
    return Assessed(acts=Acts(shard=values["account_id"] & 63, **values), **own)
