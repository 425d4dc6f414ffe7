"""Writing activities: judge, claim, key, detail, run. One transaction, columns all the way.

Every statement takes its rows in (shard, key) order and heads come last in shard order, so
two writers cannot wait on each other in a circle. A key that another transaction wrote
between judging and inserting breaks the unique constraint: the caller rolls back and judges
again, and then sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
import sqlalchemy as sa
from numpy.typing import NDArray
from psycopg import errors

from services.activity.domain.batch import Columns, Kind
from services.activity.domain.layout import Layout
from services.activity.storage.lanes import Lanes
from services.activity.storage.tables import COLUMN_WIDTHS
from services.activity.usecases.commit_submissions import KeyRaced
from services.activity.usecases.withdraw_activity import Withdrawal
from shared.feed.append import ADVANCING
from shared.ids import SHARDS
from shared.refusal import RetryLater
from shared.storage.bulk import Array, array, pack
from shared.storage.engine import Database, driver_of

RECORDING_LOCK = 0x61637473
"""Advisory lock that every writer here shares; whoever has it alone knows of none under way."""

_BEGIN = f"select nextval('batch_number'), pg_advisory_xact_lock_shared({RECORDING_LOCK})"
# now() is when the transaction began, before all that it waited for. Age and judgement are of
# when their own statement began, as is what it sees. Of moments that may be infinite only the
# seconds can be subtracted in every version of PostgreSQL.
_AGE = f"""
select case count(*) when {SHARDS} then extract(epoch from statement_timestamp()) * 1000
    - extract(epoch from min(complete_time)) * 1000 else 'infinity' end
from cursor where feed = 'identity'
"""
# "limit 1" makes each look-up a look-up: no plan, however old, can read a whole index instead.
# Two statements, because each index is quickest in its own order: 9.5 us an act against 11.5.
_RECORDED = """
select i.row, k.content from unnest(%s::int4[], %s::int2[], %s::uuid[]) as i (row, shard, key)
cross join lateral (
    select content from event_key where shard = i.shard and key = i.key limit 1
) k
"""
# Numbers come back packed, as they go: a row for each took 0.5 us an act more.
_SUBJECTS = """
select string_agg(int4send(i.row), ''), string_agg(int8send(s.account_id), '')
from unnest(%s::int4[], %s::int2[], %s::uuid[]) as i (row, shard, digest)
cross join lateral (
    select account_id from bound_subject
    where shard = i.shard and digest = i.digest and statement_timestamp() < until
    order by known_time desc limit 1
) s
"""
_UNCOVERED = """
select i.row, a.state, a.state is not null
from unnest(%s::int4[], %s::int2[], %s::int8[], %s::int2[], %s::timestamptz[])
    as i (row, shard, account_id, scope, occur_time)
left join lateral (
    select state, cover_from, cover_until from account_consent
    where shard = i.shard and account_id = i.account_id limit 1
) a on true
where a.state is distinct from 1
   or not coalesce(a.cover_from[i.scope] <= i.occur_time
        and statement_timestamp() < a.cover_until[i.scope], false)
"""
_CLAIM = """
insert into claim as c (key, event_key, account_shard, shard)
select key, event_key, account_shard, shard
from unnest(%s::uuid[], %s::uuid[], %s::int2[], %s::int2[])
    as n (key, event_key, account_shard, shard)
order by shard, key
on conflict (shard, key) do update
    set event_key = excluded.event_key, account_shard = excluded.account_shard
    where exists (
        select from withdrawal w where w.shard = c.account_shard and w.key = c.event_key
    )
returning c.event_key
"""
_KEYS = """
insert into event_key (key, content, ref, shard, account_shard)
select * from unnest(%s::uuid[], %s::int8[], %s::int8[], %s::int2[], %s::int2[])
"""
_DETAIL = """
insert into activity_detail (account_id, occur_time, ref, civil_day, shard, key)
select * from unnest(%s::int8[], %s::timestamptz[], %s::int8[], %s::int4[], %s::int2[], %s::uuid[])
"""
_NOTE_WITHDRAWAL = """
insert into withdrawal (key, ref, withdraw_time, shard, actor, cause)
values (encode(%s, 'hex')::uuid, %s, now(), %s, %s, %s) on conflict do nothing
"""
_COLUMNS = ", ".join(COLUMN_WIDTHS)
_RUN = f"""
with run as (
    select * from unnest(%s::int2[], %s::int4[]{", %s::bytea[]" * len(COLUMN_WIDTHS)})
        as r (shard, count, {_COLUMNS})
), {ADVANCING}
insert into activity_run (shard, position, batch, record_time, count, {_COLUMNS})
select shard, head.first, %s, now(), count, {_COLUMNS} from run join head using (shard)
"""

Judgement = dict[int, tuple[int | None, int | None, bool]]
"""Row -> (content already recorded under the key, state of the account, account is known)."""


class Journal(Lanes):
    """The writing side of activity, on one connection inside one transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection)
        # Travels with what is asked first.
        self._batch = connection.execute(_BEGIN, prepare=True)
        self._ages: list[psycopg.Cursor[Any]] = []

    def projection_age_ms(self) -> float:
        """How long ago every shard of the consent projection was complete when it was read; of
        the readings since this was last asked the oldest, or now when there was none."""
        if not self._ages:
            self._ask_age()
        ages, self._ages = self._ages, []
        return max(float(age_ms) for asked in ages for (age_ms,) in asked)

    def next_batch(self) -> int:
        """A number that no other transaction has; read it once."""
        row = self._batch.fetchone()
        assert row is not None
        return int(row[0])

    def resolve(self, reports: Columns) -> NDArray[np.int64]:
        """The account that each report's subject is bound to now; 0 where there is none.

        Of two accounts that seem to have a subject, while it moves, the one known later has it.
        """
        self._ask_age()
        with self._connection.cursor(binary=True) as cursor:
            cursor.execute(_SUBJECTS, _asked(reports.subject_shard, reports.subjects), prepare=True)
            found = cursor.fetchone()
        assert found is not None
        rows, accounts = found[0] or b"", found[1] or b""
        account_id = np.zeros(len(reports), np.int64)
        account_id[np.frombuffer(rows, ">i4")] = np.frombuffer(accounts, ">i8")
        return account_id

    def judge(self, reports: Columns) -> Judgement:
        """Every report that cannot simply be recorded; a key already recorded goes first."""
        recorded = self._connection.execute(
            _RECORDED, _asked(reports.key_shard, reports.keys), prepare=True
        )
        order = np.lexsort((reports.account_id, reports.shard))
        self._ask_age()
        uncovered = self._connection.execute(
            _UNCOVERED,
            (
                array("int4", order),
                array("int2", reports.shard[order]),
                array("int8", reports.account_id[order]),
                array("int2", reports.scope[order]),
                array("timestamptz", reports.occur_time_us[order]),
            ),
            prepare=True,
        )
        held_back: Judgement = {row: (None, state, known) for row, state, known in uncovered}
        return held_back | {row: (content, None, True) for row, content in recorded}

    def take_claims(self, reports: Columns) -> NDArray[np.bool_]:
        """Which of `reports` (with distinct claims) hold their claim now.

        A claim is taken over from an activity that was withdrawn, and from no other.
        """
        rows = self._connection.execute(
            _CLAIM,
            (
                array("uuid", reports.claims),
                array("uuid", reports.keys),
                array("int2", reports.shard),
                array("int2", reports.claim_shard),
            ),
        ).fetchall()
        held = {row[0].bytes for row in rows}
        return np.array([key.tobytes() in held for key in reports.keys], np.bool_)

    def write_keys(self, reports: Columns, refs: NDArray[np.int64]) -> None:
        """The duplicate index; raises UniqueViolation when a key is there already."""
        order = _key_order(reports.keys)
        self._connection.execute(
            _KEYS,
            (
                array("uuid", reports.keys[order]),
                array("int8", reports.contents[order]),
                array("int8", refs[order]),
                array("int2", reports.key_shard[order]),
                array("int2", reports.shard[order]),
            ),
            prepare=True,
        )

    def write_details(self, reports: Columns, refs: NDArray[np.int64]) -> None:
        """What is personal, in account order, so that the index grows from few pages."""
        order = np.argsort(reports.account_id, kind="stable")
        self._connection.execute(
            _DETAIL,
            (
                array("int8", reports.account_id[order]),
                array("timestamptz", reports.occur_time_us[order]),
                array("int8", refs[order]),
                array("int4", reports.civil_day[order]),
                array("int2", reports.shard[order]),
                array("uuid", reports.keys[order]),
            ),
            prepare=True,
        )

    def write_runs(self, batch: int, reports: Columns) -> None:
        """The feed: one run for each shard, in the order of `reports` within it."""
        columns = {name: getattr(reports, name) for name in COLUMN_WIDTHS if hasattr(reports, name)}
        zeros = np.zeros(len(reports), np.int64)
        self._write(
            batch, reports.shard, {**columns, "kind": zeros + Kind.RECORDED, "target": zeros}
        )

    def note_withdrawal(self, withdrawal: Withdrawal, shard: int, ref: int) -> bool:
        """Writes down who and why; False when it was withdrawn before."""
        parameters = (withdrawal.named.key, ref, shard, withdrawal.actor, withdrawal.cause)
        return self._connection.execute(_NOTE_WITHDRAWAL, parameters).rowcount == 1

    def write_withdrawal(self, batch: int, taken_back: dict[str, int], target: int) -> None:
        """The feed: one withdrawal of the activity at position `target`, with its own columns."""
        columns = {name: np.array([value], np.int64) for name, value in taken_back.items()}
        columns |= {"kind": np.array([Kind.WITHDRAWN]), "target": np.array([target])}
        self._write(batch, columns["account_id"] & 63, columns)

    def _ask_age(self) -> None:
        # Before each reading: whatever could be waited for has been, and what is read is no older.
        self._ages.append(self._connection.execute(_AGE, prepare=True))

    def _write(
        self, batch: int, shard: NDArray[np.int64], columns: dict[str, NDArray[np.int64]]
    ) -> None:
        layout = Layout.of(shard)
        packed = [
            pack(columns[name][layout.order], width, layout.counts)
            for name, width in COLUMN_WIDTHS.items()
        ]
        self._connection.execute(
            _RUN,
            (
                array("int2", layout.shards),
                array("int4", layout.counts),
                *(array("bytea", column) for column in packed),
                batch,
            ),
            prepare=True,
        )


@contextmanager
def open_journal(database: Database) -> Iterator[Journal]:
    """A journal in one transaction, committed at the end of the block.

    Statements travel together until one's answer is read: on a busy machine each wait for
    the server costs milliseconds, whatever is asked. So a statement's error may appear at a
    later one, or at the end of the block.

    Raises KeyRaced when another writer was first, RetryLater when the database is away; a
    commit whose answer was lost may have happened, and the keys make a retry safe.
    """
    try:
        with database.transaction() as connection:
            driver = driver_of(connection)
            with driver.pipeline():
                yield Journal(driver)
                driver.commit()
    except (errors.UniqueViolation, errors.DeadlockDetected) as error:
        raise KeyRaced from error
    except (psycopg.OperationalError, sa.exc.OperationalError, sa.exc.TimeoutError) as error:
        raise RetryLater(
            "the database does not answer; nothing was acknowledged, send the same again",
            cause="database away",
            retry_after_ms=500,
        ) from error


def _asked(shard: NDArray[np.int64], digests: NDArray[np.uint8]) -> tuple[Array, Array, Array]:
    """Rows to look up by (shard, digest), in the order of the index."""
    order = _key_order(digests)
    return array("int4", order), array("int2", shard[order]), array("uuid", digests[order])


def _key_order(digests: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The order of an index on (shard, digest)."""
    halves = np.ascontiguousarray(digests).view(">u8")
    return np.lexsort((halves[:, 1], halves[:, 0], digests[:, 0] & 63))
