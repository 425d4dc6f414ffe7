"""Operations and tasks in the database: written with the fact that asks, pulled by services."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from services.identity.domain.operation import IDENTITY, Kind, Operation, Part, State, Task
from shared.ids import shard_of
from shared.privacy import Kept

LEASE = timedelta(seconds=15)
"""A service that was told of a task and went away is succeeded after so long."""
LAGGING_MAX = 500

_BEGIN = """
insert into operation (account_id, number, shard, kind, state, create_time, finish_time)
values (:account, :number, :shard, :kind, :state, :create_time, :finish_time)
"""
_BEGIN_TASK = """
insert into privacy_task (account_id, number, shard, service, create_time, finish_time, counts,
    kept)
values (:account, :number, :shard, :service, :create_time, :finish_time, cast(:counts as jsonb),
    cast(:kept as jsonb))
"""
_PARTS = """
select number, service, finish_time, counts, kept from privacy_task
where shard = :shard and account_id = :account and number = any(:numbers) order by service
"""
_CLAIM = """
with due as (
    select shard, account_id, number, service from privacy_task
    where service = :service and finish_time is null and claim_until <= :now
    order by create_time, account_id limit :limit for update skip locked
), claimed as (
    update privacy_task t set owner = :owner, claim_until = :until
    from due d where (t.shard, t.account_id, t.number, t.service)
        = (d.shard, d.account_id, d.number, d.service)
    returning t.shard, t.account_id, t.number, t.service, t.create_time
)
select c.account_id, c.number, o.kind, c.service, c.create_time from claimed c
join operation o using (shard, account_id, number) order by c.create_time, c.account_id
"""
_RENEW = """
update privacy_task set claim_until = :until
where service = :service and finish_time is null and owner = :owner
"""
# Identity does its part of a copy when all others have done theirs, and does not lag before.
_OTHERS_WAIT = """
exists (
    select from privacy_task other
    where (other.shard, other.account_id, other.number) = (t.shard, t.account_id, t.number)
        and other.service <> t.service and other.finish_time is null
)
"""
_CLAIM_READY = f"""
with due as (
    select t.shard, t.account_id, t.number, t.service, t.create_time from privacy_task t
    where t.service = :identity and t.finish_time is null and t.claim_until <= :now
        and not {_OTHERS_WAIT}
    order by t.create_time, t.account_id limit 1 for update skip locked
)
update privacy_task t set claim_until = :until from due d
where (t.shard, t.account_id, t.number, t.service) = (d.shard, d.account_id, d.number, d.service)
returning t.account_id, t.number, {Kind.EXPORT.value} as kind, t.service, t.create_time
"""
_LAGGING = f"""
select t.account_id, t.number, o.kind, t.service, t.create_time
from privacy_task t join operation o using (shard, account_id, number)
where t.finish_time is null and t.create_time <= :before
    and not (t.service = :identity and {_OTHERS_WAIT})
order by t.create_time, t.account_id, t.service limit :limit
"""
_FINISH_TASK = """
update privacy_task set finish_time = :now, owner = null, counts = cast(:counts as jsonb),
    kept = cast(:kept as jsonb)
where shard = :shard and account_id = :account and number = :number and service = :service
"""
_COMPLETE = """
update operation set state = 2, finish_time = :now
where shard = :shard and account_id = :account and number = :number and not exists (
    select from privacy_task t where t.shard = :shard and t.account_id = :account
        and t.number = :number and t.finish_time is null
)
"""
_COMPLETE_COPY = """
update operation set state = 2, finish_time = :now, expire_time = :expire_time,
    archive_bytes = :bytes, archive_digest = :digest
where shard = :shard and account_id = :account and number = :number
"""
_CUT_OFF = """
update operation set state = 3, expire_time = least(expire_time, :now)
where shard = :shard and account_id = :account and kind = 1 and state < 3
"""


class Operations:
    """Operations on one connection, inside one transaction.

    Whoever changes an operation or its pieces locks its row first (`read` with `lock`), and
    holds no task's row before.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    @property
    def connection(self) -> sa.Connection:
        """The connection, for storage that shares the transaction."""
        return self._connection

    def begin(self, operation: Operation) -> None:
        """Writes an operation with a task for each part."""
        key = _key(operation.account_id, operation.number)
        self._run(
            _BEGIN,
            **key, kind=operation.kind, state=operation.state, create_time=operation.create_time,
            finish_time=operation.finish_time,
        )  # fmt: skip
        for part in operation.parts:
            self._run(
                _BEGIN_TASK,
                **key, service=part.service, create_time=operation.create_time,
                finish_time=part.finish_time, **_told(part.counts, part.kept),
            )  # fmt: skip

    def next_number(self, account_id: int) -> int:
        """The number that the next operation of an account gets; the caller holds the account."""
        query = "select max(number) from operation where shard = :shard and account_id = :account"
        return (self._run(query, **_of(account_id)).scalar() or 0) + 1

    def read(self, account_id: int, number: int, *, lock: bool = False) -> Operation | None:
        """An operation with its parts; `lock` holds it until the commit."""
        more = "and number = :only" + (" for update" if lock else "")
        return next(iter(self._page(account_id, more, only=number)), None)

    def read_page(self, account_id: int, before: int | None, limit: int) -> list[Operation]:
        """At most `limit` operations, newest first, numbered below `before` when it is given."""
        more = "and (cast(:before as int4) is null or number < :before)"
        return self._page(account_id, f"{more} order by number desc limit :limit",
                          before=before, limit=limit)  # fmt: skip

    def of_kind(self, account_id: int, kind: Kind, *states: State) -> list[Operation]:
        """The account's operations of a kind and of these states, newest first."""
        return self._page(
            account_id, "and kind = :kind and state = any(:states) order by number desc",
            kind=kind.value, states=[state.value for state in states],
        )  # fmt: skip

    def finish_task(
        self,
        account_id: int,
        number: int,
        service: str,
        now: datetime,
        counts: Mapping[str, int],
        kept: Sequence[Kept],
    ) -> None:
        """Notes a part as done."""
        self._run(
            _FINISH_TASK,
            **_key(account_id, number), service=service, now=now, **_told(counts, kept),
        )  # fmt: skip

    def complete(self, account_id: int, number: int, now: datetime) -> None:
        """Notes the operation as done when every part is."""
        self._run(_COMPLETE, **_key(account_id, number), now=now)

    def complete_copy(
        self, account_id: int, number: int, now: datetime, expire_time: datetime, archive: Any
    ) -> None:
        """Notes a copy as done; `archive` says its `size` in bytes and its `digest`."""
        self._run(
            _COMPLETE_COPY,
            **_key(account_id, number), now=now, expire_time=expire_time, bytes=archive.size,
            digest=archive.digest,
        )  # fmt: skip

    def cut_off_copies(self, account_id: int, now: datetime) -> dict[str, int]:
        """Ends every copy of the account, the one under way too, and deletes what there is of
        them; rows by table. The caller holds the account."""
        copies = self._run(_CUT_OFF, **_of(account_id), now=now).rowcount
        deleted = {
            table: self._run(
                f"delete from {table} where shard = :shard and account_id = :account",
                **_of(account_id),
            ).rowcount
            for table in ("privacy_piece", "archive_piece")
        }
        self._run(
            "delete from privacy_task where shard = :shard and account_id = :account "
            "and finish_time is null",
            **_of(account_id),
        )
        return {"operation": copies, **deleted}

    def claim(self, service: str, owner: UUID, now: datetime, limit: int) -> list[Task]:
        """At most `limit` tasks of the service that nobody else has been told of for a while,
        what waits longest first. They are `owner`'s until the lease runs out."""
        rows = self._run(
            _CLAIM, service=service, owner=owner, now=now, until=now + LEASE, limit=limit
        )
        return [_task(row) for row in rows]

    def claim_ready(self, now: datetime, until: datetime) -> Task | None:
        """A copy of which all but identity's part is done, the oldest; nobody else's `until` then.
        None when there is none."""
        row = self._run(_CLAIM_READY, identity=IDENTITY, now=now, until=until).one_or_none()
        return None if row is None else _task(row)

    def renew(self, service: str, owner: UUID, now: datetime) -> int:
        """Keeps what `owner` was told of and has not finished; how many that are."""
        return self._run(_RENEW, service=service, owner=owner, until=now + LEASE).rowcount

    def release(self, service: str, owner: UUID) -> None:
        """Lets others be told of what `owner` has not finished."""
        self._run(
            "update privacy_task set owner = null, claim_until = '-infinity' "
            "where service = :service and finish_time is null and owner = :owner",
            service=service, owner=owner,
        )  # fmt: skip

    def lagging(self, before: datetime) -> list[Task]:
        """Parts asked for until `before` that are not done and could be, oldest first."""
        rows = self._run(_LAGGING, before=before, identity=IDENTITY, limit=LAGGING_MAX)
        return [_task(row) for row in rows]

    def _page(self, account_id: int, more: str, **parameters: Any) -> list[Operation]:
        where = "select * from operation where shard = :shard and account_id = :account"
        rows = self._run(f"{where} {more}", **_of(account_id), **parameters).all()
        parts: dict[int, list[Part]] = {row.number: [] for row in rows}
        for part in self._run(_PARTS, **_of(account_id), numbers=list(parts)):
            kept = [Kept(k["what"], k["why"], _moment(k["until_time"])) for k in part.kept]
            parts[part.number].append(Part(part.service, part.finish_time, part.counts, kept))
        return [_operation(row, parts[row.number]) for row in rows]

    def _run(self, statement: str, **parameters: Any) -> sa.CursorResult[Any]:
        return self._connection.execute(sa.text(statement), parameters)


def forget_requests(connection: sa.Connection, account_id: int) -> int:
    """Deletes every request id of an account: keyed digests of what its customer sent."""
    return connection.execute(
        sa.text("delete from request where account_id = :account"), {"account": account_id}
    ).rowcount


def _operation(row: Any, parts: Sequence[Part]) -> Operation:
    return Operation(
        row.account_id, row.number, Kind(row.kind), State(row.state), row.create_time, parts,
        row.finish_time, row.expire_time, row.archive_bytes, row.archive_digest,
    )  # fmt: skip


def _task(row: Any) -> Task:
    return Task(row.account_id, row.number, Kind(row.kind), row.service, row.create_time)


def _told(counts: Mapping[str, int], kept: Sequence[Kept]) -> dict[str, str]:
    rows = [
        {
            "what": one.what,
            "why": one.why,
            "until_time": one.until_time.isoformat() if one.until_time else None,
        }
        for one in kept
    ]
    return {"counts": json.dumps(dict(counts)), "kept": json.dumps(rows, ensure_ascii=False)}


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _of(account_id: int) -> dict[str, int]:
    return {"account": account_id, "shard": shard_of(account_id)}


def _key(account_id: int, number: int) -> dict[str, int]:
    return {**_of(account_id), "number": number}
