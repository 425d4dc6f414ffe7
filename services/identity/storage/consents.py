"""Consents in the database: as they stand, as they stood, and whether they cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import postgresql as pg

from services.identity.domain.account import STATE_AFTER, Consent, Decision, EndKind
from services.identity.storage import tables as t
from shared.ids import shard_of
from shared.storage.bulk import array
from shared.storage.engine import driver_of

CONSENT_COLUMNS = (
    "account_id, number, scope, notice_digest, grant_time, cover_from_time, revoke_time, "
    "expire_time, decision, confirm_time, screen, mandate_digest, by_guardian, end_kind"
)
"""The columns of `consent` in the order of the fields of `Consent`."""

# "limit 1" makes each look-up a look-up; see DECISIONS on plans.
_CHECK = """
select i.row, a.state, c.number
from unnest(%s::int4[], %s::int2[], %s::int8[], %s::int2[], %s::timestamptz[])
    as i (row, shard, account_id, scope, occur_time)
left join lateral (
    select state from account where shard = i.shard and account_id = i.account_id limit 1
) a on true
left join lateral (
    select number from consent
    where shard = i.shard and account_id = i.account_id and scope = i.scope
        and decision = 1 and cover_from_time <= i.occur_time and revoke_time is null
        and (expire_time is null or %s < expire_time) limit 1
) c on true
"""
_CHECK_AS_OF = f"""
select i.row, case when a.open_time <= m.moment then case e.kind
    {" ".join(f"when {kind.value} then {state.value}" for kind, state in STATE_AFTER.items())}
    else 1 end end, c.number
from unnest(%s::int4[], %s::int2[], %s::int8[], %s::int2[], %s::timestamptz[])
    as i (row, shard, account_id, scope, occur_time)
cross join (select %s::timestamptz as moment) m
left join account a on a.shard = i.shard and a.account_id = i.account_id
left join lateral (
    select kind from event e
    where e.account_id = i.account_id and e.event_time <= m.moment
        and e.kind = any(array[{", ".join(str(kind.value) for kind in STATE_AFTER)}])
    order by e.position desc limit 1
) e on true
left join consent c on c.shard = i.shard and c.account_id = i.account_id and c.scope = i.scope
    and c.decision = 1 and c.grant_time <= m.moment and c.cover_from_time <= i.occur_time
    and (c.revoke_time is null or m.moment < c.revoke_time)
    and (c.expire_time is null or m.moment < c.expire_time)
"""


class ConsentRows:
    """Consents on one connection, inside one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def read_consents(
        self,
        account_id: int,
        *,
        before: int | None = None,
        limit: int | None = None,
        as_of: datetime | None = None,
    ) -> list[Consent]:
        """Every consent of the account, newest first; numbers below `before`, at most `limit`.

        With `as_of` as they were at that moment.
        """
        query = (
            sa.select(t.consent)
            .where(t.consent.c.shard == shard_of(account_id), t.consent.c.account_id == account_id)
            .order_by(t.consent.c.number.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(t.consent.c.number < before)
        if as_of is not None:
            query = query.where(t.consent.c.grant_time <= as_of)
        consents = [_consent(row) for row in self._connection.execute(query)]
        return consents if as_of is None else [_as_of(consent, as_of) for consent in consents]

    def put_consent(self, consent: Consent) -> None:
        """Writes a consent as it stands."""
        insert = pg.insert(t.consent).values(shard=shard_of(consent.account_id), **vars(consent))
        self._connection.execute(
            insert.on_conflict_do_update(
                index_elements=["shard", "account_id", "number"],
                set_={
                    "revoke_time": insert.excluded.revoke_time,
                    "end_kind": insert.excluded.end_kind,
                },
            )
        )

    def check(
        self,
        accounts: NDArray[np.int64],
        scopes: NDArray[np.int64],
        occur_us: NDArray[np.int64],
        now: datetime,
        *,
        as_of: bool = False,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each row the state of the account and the number of the covering consent; 0 without.

        `now` is the moment of the question; with `as_of` it lies in the past, and what happened
        since is unknown.
        """
        states, numbers = np.zeros(len(accounts), np.int64), np.zeros(len(accounts), np.int64)
        with driver_of(self._connection).cursor(binary=True) as cursor:
            cursor.execute(
                _CHECK_AS_OF if as_of else _CHECK,
                (
                    array("int4", np.arange(len(accounts))),
                    array("int2", accounts & 63),
                    array("int8", accounts),
                    array("int2", scopes),
                    array("timestamptz", occur_us),
                    now,
                ),
                prepare=True,
            )
            rows = cursor.fetchall()
        if rows:
            found = np.array([(row, s or 0, n or 0) for row, s, n in rows], np.int64)
            states[found[:, 0]], numbers[found[:, 0]] = found[:, 1], found[:, 2]
        return states, numbers


def consent_of(row: Sequence[object]) -> Consent:
    """The consent in a row of CONSENT_COLUMNS."""
    return Consent(*row[:8], Decision(row[8]), *row[9:13], EndKind(row[13]))  # type: ignore[arg-type, call-arg]  # the columns are in the order of the fields


def _consent(row: sa.Row[tuple[object, ...]]) -> Consent:
    return Consent(
        row.account_id, row.number, row.scope, row.notice_digest, row.grant_time,
        row.cover_from_time, row.revoke_time, row.expire_time, Decision(row.decision),
        row.confirm_time, row.screen, row.mandate_digest, row.by_guardian, EndKind(row.end_kind),
    )  # fmt: skip


def _as_of(consent: Consent, moment: datetime) -> Consent:
    if consent.revoke_time is None or consent.revoke_time <= moment:
        return consent
    return replace(consent, revoke_time=None, end_kind=EndKind.NOT_ENDED)
