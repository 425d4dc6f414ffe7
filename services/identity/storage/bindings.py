"""Bindings in the database: whose a subject is, the codes that wait, and what followers need."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import sqlalchemy as sa
from numpy.typing import NDArray

from services.identity.domain.binding import Binding, Code
from shared.ids import account_name, shard_of
from shared.storage.bulk import array

# A binding rests on the newest decision about its link: a renewed consent prolongs it, and
# without any decision, or with a refusal, it never holds.
_RUNS_OUT = """
left join lateral (
    select case when c.decision = 1 then least(c.revoke_time, c.expire_time)
        else b.bind_time end as expire_time, true as decided
    from consent c where c.shard = b.shard and c.account_id = b.account_id and c.scope = b.scope
    order by c.number desc limit 1
) newest on true
"""
_EXPIRE_TIME = "case when newest.decided then newest.expire_time else b.bind_time end"
_READ = f"""
select b.number, b.partner, b.digest, b.scope, b.bind_time, b.end_time,
    case when b.end_time is null then {_EXPIRE_TIME} end as expire_time
from binding b {_RUNS_OUT}
where b.shard = :shard and b.account_id = :account
"""
_SUBJECTS = f"""
select b.account_id, b.partner, b.digest, {_EXPIRE_TIME}
from unnest(%s::int2[], %s::int8[]) as a (shard, account_id)
join binding b on b.shard = a.shard and b.account_id = a.account_id and b.end_time is null
{_RUNS_OUT}
order by b.account_id, b.number
"""
_CLAIM = """
insert into subject (account_id, digest, number, shard)
values (:account, :digest, :number, :key_shard) on conflict do nothing
"""
_HOLDER = "select account_id, number from subject where shard = :key_shard and digest = :digest"
_ADD = """
insert into binding (account_id, bind_time, digest, number, scope, shard, partner)
values (:account, :now, :digest, :number, :scope, :shard, :partner)
"""
_END = """
with ended as (
    update binding set end_time = :now
    where shard = :shard and account_id = :account and end_time is null
        and (cast(:number as int4) is null or number = :number)
        and (cast(:scope as int2) is null or scope = :scope)
    returning digest, number
), freed as (
    delete from subject s using ended e
    where s.shard = get_byte(uuid_send(e.digest), 0) & 63 and s.digest = e.digest
        and s.account_id = :account
)
select number from ended order by number
"""
_DROP_CODES = """
delete from binding_code where account_id = :account
    and (cast(:scope as int2) is null or scope = :scope)
    and (cast(:before as timestamptz) is null or expire_time <= :before)
"""


class BindingStore:
    """Bindings on one connection, inside one transaction that holds the account it writes to."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add_code(self, code: Code) -> None:
        """Lets a code wait."""
        self._run(
            "insert into binding_code (account_id, expire_time, digest, scope, shard) "
            "values (:account, :expire_time, :digest, :scope, :key_shard)",
            account=code.account_id, expire_time=code.expire_time, scope=code.scope,
            **_key(code.digest),
        )  # fmt: skip

    def read_code(self, digest: bytes) -> Code | None:
        """The code that waits under this digest, also one that has run out."""
        row = self._run(
            "select account_id, scope, expire_time from binding_code "
            "where shard = :key_shard and digest = :digest",
            **_key(digest),
        ).one_or_none()
        return None if row is None else Code(digest, row.account_id, row.scope, row.expire_time)

    def count_codes(self, account_id: int, scope: int) -> int:
        """How many codes of the account and scope wait, with those that have run out."""
        counted = self._run(
            "select count(*) from binding_code where account_id = :account and scope = :scope",
            account=account_id, scope=scope,
        )  # fmt: skip
        return int(counted.scalar_one())

    def drop_code(self, digest: bytes) -> None:
        """Uses a code up."""
        self._run(
            "delete from binding_code where shard = :key_shard and digest = :digest", **_key(digest)
        )

    def drop_codes(
        self, account_id: int, *, scope: int | None = None, before: datetime | None = None
    ) -> None:
        """Drops the account's codes: of one scope if given, those that end by `before` if given."""
        self._run(_DROP_CODES, account=account_id, scope=scope, before=before)

    def holder(self, digest: bytes) -> tuple[int, int] | None:
        """Account and number of the binding that holds the subject, None when nobody's does."""
        row = self._run(_HOLDER, **_key(digest)).one_or_none()
        return None if row is None else (row.account_id, row.number)

    def claim_subject(self, digest: bytes, account_id: int, number: int) -> tuple[int, int] | None:
        """Takes a free subject; account and number of whose it is then.

        A caller that loses the race waits for the winner; None when the winner has just let go.
        """
        self._run(_CLAIM, account=account_id, number=number, **_key(digest))
        return self.holder(digest)

    def add(self, binding: Binding) -> None:
        """Writes a binding that holds from its bind_time on."""
        self._run(
            _ADD,
            account=binding.account_id, now=binding.bind_time, digest=UUID(bytes=binding.digest),
            number=binding.number, scope=binding.scope, shard=shard_of(binding.account_id),
            partner=binding.partner,
        )  # fmt: skip

    def end(
        self, account_id: int, now: datetime, *, number: int | None = None, scope: int | None = None
    ) -> list[int]:
        """Ends bindings of the account that have not ended and frees their subjects: the one of
        `number`, those of `scope`, or all. The numbers that it ended, ascending."""
        ended = self._run(
            _END,
            account=account_id, shard=shard_of(account_id), now=now, number=number, scope=scope,
        )  # fmt: skip
        return list(ended.scalars())

    def count(self, account_id: int) -> int:
        """How many bindings of the account have not ended."""
        counted = self._run(
            "select count(*) from binding "
            "where shard = :shard and account_id = :account and end_time is null",
            **_of(account_id),
        )
        return int(counted.scalar_one())

    def next_number(self, account_id: int) -> int:
        """The number that the account's next binding gets."""
        newest = self._run(
            "select max(number) from binding where shard = :shard and account_id = :account",
            **_of(account_id),
        )
        return (newest.scalar() or 0) + 1

    def read(self, account_id: int, number: int) -> Binding | None:
        """One binding, as it stands."""
        row = self._run(f"{_READ} and b.number = :number", number=number, **_of(account_id))
        return next((_binding(account_id, found) for found in row), None)

    def read_page(self, account_id: int, before: int | None, limit: int) -> list[Binding]:
        """At most `limit` bindings, newest first, numbered below `before` when it is given."""
        rows = self._run(
            f"{_READ} and (cast(:before as int4) is null or b.number < :before) "
            "order by b.number desc limit :limit",
            before=before, limit=limit, **_of(account_id),
        )  # fmt: skip
        return [_binding(account_id, row) for row in rows]

    def _run(self, statement: str, **parameters: Any) -> sa.CursorResult[Any]:
        return self._connection.execute(sa.text(statement), parameters)


def subjects_of(
    driver: psycopg.Connection[tuple[object, ...]], account_ids: NDArray[np.int64]
) -> dict[int, list[tuple[str, bytes, datetime | None]]]:
    """Partner, digest of the subject, and when it runs out, of every binding that has not ended,
    by account in the order of binding; accounts without any are absent."""
    subjects: dict[int, list[tuple[str, bytes, datetime | None]]] = {}
    parameters = (array("int2", account_ids & 63), array("int8", account_ids))
    for account_id, partner, digest, expire_time in driver.execute(
        _SUBJECTS, parameters, prepare=True
    ):
        subjects.setdefault(account_id, []).append((partner, digest.bytes, expire_time))  # type: ignore[arg-type, attr-defined]  # as the statement selects
    return subjects


def erase_bindings(connection: sa.Connection, account_id: int) -> dict[str, int]:
    """Deletes all that is kept of the account's bindings; rows by table."""
    statements = {
        "subject": "delete from subject s using binding b "
        "where b.shard = :shard and b.account_id = :account and s.digest = b.digest "
        "and s.shard = get_byte(uuid_send(b.digest), 0) & 63 and s.account_id = :account",
        "binding": "delete from binding where shard = :shard and account_id = :account",
        "binding_code": "delete from binding_code where account_id = :account",
    }
    return {
        table: connection.execute(sa.text(statement), _of(account_id)).rowcount
        for table, statement in statements.items()
    }


def export_bindings(connection: sa.Connection, account_id: int) -> list[dict[str, str]]:
    """The account's bindings in order, as the customer's archive holds them: times in ISO 8601,
    "" where there is none. The partner's own name of its user is not known here."""
    rows = connection.execute(sa.text(f"{_READ} order by b.number"), _of(account_id))
    return [
        {
            "name": f"{account_name(account_id)}/bindings/{row.number}",
            "partner": row.partner,
            "bind_time": row.bind_time.isoformat(),
            "end_time": row.end_time.isoformat() if row.end_time else "",
            "expire_time": row.expire_time.isoformat() if row.expire_time else "",
        }
        for row in rows
    ]


def _binding(account_id: int, row: Any) -> Binding:
    return Binding(
        account_id, row.number, row.partner, row.digest.bytes, row.scope, row.bind_time,
        row.end_time, row.expire_time,
    )  # fmt: skip


def _of(account_id: int) -> dict[str, int]:
    return {"account": account_id, "shard": shard_of(account_id)}


def _key(digest: bytes) -> dict[str, Any]:
    return {"digest": UUID(bytes=digest), "key_shard": digest[0] & 63}
