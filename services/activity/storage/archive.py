"""Reading activities back: one by its key, an account's page, the feed itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import sqlalchemy as sa

from services.activity.domain.activity import Activity, Fact, TakenBack
from services.activity.domain.catalogue import Catalogue
from services.activity.domain.layout import split_reference
from services.activity.storage import tables
from services.activity.storage.tables import COLUMN_WIDTHS
from shared.ids import shard_of, to_us
from shared.storage.bulk import array
from shared.storage.engine import driver_of

_COLUMNS = ", ".join(f"r.{name}" for name in COLUMN_WIDTHS)
_READ_RUNS = f"""
select r.shard, r.position, r.count, r.record_time, {_COLUMNS}
from unnest(%s::int2[], %s::int8[]) as c (shard, position)
cross join lateral (
    select * from activity_run r
    where r.shard = c.shard and r.position > c.position order by r.position limit %s
) r
"""


@dataclass(frozen=True)
class Run:
    """A run of the feed, its columns still packed as stored and sent."""

    shard: int
    position: int
    count: int
    record_time: datetime
    columns: dict[str, bytes]


@dataclass(frozen=True)
class _Detail:
    """A row of activity_detail."""

    account_id: int
    occur_time: datetime
    ref: int
    civil_day: int
    key: UUID


class Archive:
    """The reading side of activity, on one connection."""

    def __init__(self, connection: sa.Connection, catalogue: Catalogue) -> None:
        self._connection = connection
        self._catalogue = catalogue

    def read_runs(self, cursors: Mapping[int, int], runs_per_shard: int) -> list[Run]:
        """Runs after `cursors`, at most so many for each shard, in order within each."""
        driver: psycopg.Connection[Any] = driver_of(self._connection)
        with driver.cursor(binary=True) as cursor:
            cursor.execute(
                _READ_RUNS,
                (
                    array("int2", np.array(list(cursors), np.int64)),
                    array("int8", np.array(list(cursors.values()), np.int64)),
                    runs_per_shard,
                ),
                prepare=True,
            )
            return [
                Run(row[0], row[1], row[2], row[3], dict(zip(COLUMN_WIDTHS, row[4:], strict=True)))
                for row in cursor
            ]

    def find(self, key: bytes) -> tuple[int, Fact] | None:
        """Reference and fact of the activity that has `key`; None without one."""
        t = tables.event_key
        row = self._connection.execute(
            sa.select(t.c.ref, t.c.account_shard).where(
                t.c.shard == key[0] & 63, t.c.key == UUID(bytes=key)
            )
        ).one_or_none()
        if row is None:
            return None
        fact = facts(self._connection, row.account_shard, [row.ref]).get(row.ref)
        return None if fact is None else (row.ref, fact)

    def read_one(self, key: bytes) -> Activity | None:
        """The activity that has `key`; None without one or after erasure."""
        found = self.find(key)
        if found is None:
            return None
        ref, fact = found
        account_id = fact.columns["account_id"]
        t = tables.activity_detail
        details = self._details(
            sa.select(t).where(
                t.c.account_id == account_id,
                t.c.civil_day == fact.columns["civil_day"],
                t.c.ref == ref,
            )
        )
        activities = self._activities(account_id, details)
        return activities[0] if activities else None

    def read_page(
        self, account_id: int, limit: int, after: tuple[int, ...] | None
    ) -> list[Activity]:
        """Up to `limit` activities after `after` (civil day, occur time, ref), latest first."""
        t = tables.activity_detail
        occur_us = sa.cast(sa.extract("epoch", t.c.occur_time) * 1_000_000, sa.BigInteger)
        query = (
            sa.select(t)
            .where(t.c.account_id == account_id)
            .order_by(t.c.civil_day.desc(), t.c.occur_time.desc(), t.c.ref.desc())
            .limit(limit)
        )
        if after is not None:
            query = query.where(
                sa.tuple_(t.c.civil_day, occur_us, t.c.ref) < sa.tuple_(*map(sa.literal, after))
            ).where(t.c.civil_day <= after[0])
        return self._activities(account_id, self._details(query))

    def _details(self, query: sa.Select[Any]) -> list[_Detail]:
        return [
            _Detail(row.account_id, row.occur_time, row.ref, row.civil_day, row.key)
            for row in self._connection.execute(query)
        ]

    def _activities(self, account_id: int, details: Sequence[_Detail]) -> list[Activity]:
        shard = shard_of(account_id)
        recorded = facts(self._connection, shard, [detail.ref for detail in details])
        t = tables.withdrawal
        rows = self._connection.execute(
            sa.select(t).where(t.c.shard == shard, t.c.key.in_([d.key for d in details]))
        )
        taken_back = {
            row.key: TakenBack(to_us(row.withdraw_time), row.actor, row.cause) for row in rows
        }
        return [
            self._activity(detail, recorded[detail.ref], taken_back.get(detail.key))
            for detail in details
        ]

    def _activity(self, detail: _Detail, fact: Fact, taken_back: TakenBack | None) -> Activity:
        scene = self._catalogue.scene_of_code(fact.columns["scene"])
        values = (fact.columns["measure_1"], fact.columns["measure_2"])
        return Activity(
            account_id=detail.account_id,
            key=detail.key.bytes,
            scene=scene.name,
            source=self._catalogue.source_of_code(fact.columns["source"]).name,
            measures={m.name: value for m, value in zip(scene.measures, values, strict=False)},
            labels=scene.labels_of(fact.columns["label_1"]),
            occur_time_us=to_us(detail.occur_time),
            record_time_us=fact.record_time_us,
            region=fact.columns["region"],
            evidence_grade=fact.columns["evidence_grade"],
            taken_back=taken_back,
            position=fact.position,
            place=(detail.civil_day, to_us(detail.occur_time), detail.ref),
        )


def facts(connection: sa.Connection, shard: int, refs: Iterable[int]) -> dict[int, Fact]:
    """The facts of these references in one shard."""
    places: dict[int, list[tuple[int, int]]] = {}
    for ref in refs:
        batch, place = split_reference(ref)
        places.setdefault(batch, []).append((ref, place))
    t = tables.activity_run
    rows = connection.execute(
        sa.select(t).where(t.c.shard == shard, t.c.batch.in_(list(places)))
    ).mappings()
    found = {}
    for row in rows:
        for ref, place in places[row["batch"]]:
            if place < row["count"]:
                columns = {
                    name: _element(row[name], place, width) for name, width in COLUMN_WIDTHS.items()
                }
                position = row["position"] + place
                found[ref] = Fact(shard, position, to_us(row["record_time"]), columns)
    return found


def _element(packed: bytes, place: int, width: int) -> int:
    """One value of a packed column; an empty one is zero throughout."""
    return int.from_bytes(packed[place * width : (place + 1) * width], "big", signed=True)
