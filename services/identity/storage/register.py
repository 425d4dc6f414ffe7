"""Accounts and consents in the database; every change takes its place in the state feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.identity.domain.account import Account, Consent, State
from services.identity.storage import tables as t
from shared.feed.append import advance_heads
from shared.ids import shard_of
from shared.storage.bulk import array
from shared.storage.engine import driver_of

# The heads tell cheaply that nothing is new; one statement sees heads and accounts at one moment.
_SNAPSHOTS = """
select a.account_id, a.shard, a.position, a.state
from unnest(%s::int2[], %s::int8[]) as c (shard, position)
join feed_head h on h.shard = c.shard and h.position > c.position
cross join lateral (
    select * from account a where a.shard = c.shard and a.position > c.position
    order by a.position limit %s
) a
order by a.shard, a.position
"""
_NEWEST_CONSENTS = """
select distinct on (c.shard, c.account_id, c.scope)
    c.account_id, c.number, c.scope, c.notice_digest, c.grant_time, c.cover_from_time,
    c.revoke_time, c.expire_time
from unnest(%s::int2[], %s::int8[]) as a (shard, account_id)
join consent c on c.shard = a.shard and c.account_id = a.account_id
order by c.shard, c.account_id, c.scope, c.number desc
"""
_CHECK = """
select i.row, a.state, c.number
from unnest(%s::int4[], %s::int2[], %s::int8[], %s::int2[], %s::timestamptz[])
    as i (row, shard, account_id, scope, occur_time)
left join account a on a.shard = i.shard and a.account_id = i.account_id
left join consent c on c.shard = i.shard and c.account_id = i.account_id and c.scope = i.scope
    and c.cover_from_time <= i.occur_time and c.revoke_time is null
    and (c.expire_time is null or %s < c.expire_time)
"""


@dataclass(frozen=True)
class Snapshot:
    """One account with its newest consent of each scope, at the position of its newest change."""

    account_id: int
    shard: int
    position: int
    state: State
    consents: tuple[Consent, ...]


class Register:
    """Identity's storage on one connection, inside one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def claim_customer(self, key: bytes, account_id: int) -> int:
        """The account of this customer: `account_id` when there was none before.

        A caller that loses the race waits for the winner and gets the winner's account.
        """
        shard = key[0] & 63
        insert = pg.insert(t.customer_key).values(
            shard=shard, key=UUID(bytes=key), account_id=account_id
        )
        self._connection.execute(insert.on_conflict_do_nothing())
        return int(self.customer_account(key) or account_id)

    def customer_account(self, key: bytes) -> int | None:
        """The account of this customer, or None."""
        query = sa.select(t.customer_key.c.account_id).where(
            t.customer_key.c.shard == key[0] & 63, t.customer_key.c.key == UUID(bytes=key)
        )
        return self._connection.execute(query).scalar()

    def claim_request(
        self, key: bytes, content: bytes, account_id: int
    ) -> tuple[bytes, int] | None:
        """Notes a request id; None when it is new, else its content and consent number."""
        shard, row = key[0] & 63, UUID(bytes=key)
        insert = pg.insert(t.request).values(
            shard=shard, key=row, content=UUID(bytes=content), account_id=account_id,
            consent_number=0,
        )  # fmt: skip
        claimed = self._connection.execute(
            insert.on_conflict_do_nothing().returning(t.request.c.shard)
        )
        if claimed.one_or_none() is not None:
            return None
        query = sa.select(t.request).where(t.request.c.shard == shard, t.request.c.key == row)
        known = self._connection.execute(query).one()
        return known.content.bytes, known.consent_number

    def answer_request(self, key: bytes, consent_number: int) -> None:
        """Notes which consent a request made."""
        self._connection.execute(
            sa.update(t.request)
            .where(t.request.c.shard == key[0] & 63, t.request.c.key == UUID(bytes=key))
            .values(consent_number=consent_number)
        )

    def add_account(self, account: Account, position: int) -> None:
        """Writes a new account at the position that `note` gave for its opening."""
        shard = shard_of(account.account_id)
        self._connection.execute(
            sa.insert(t.account).values(
                account_id=account.account_id, shard=shard, state=account.state.value,
                open_time=account.open_time, update_time=account.update_time,
                position=position,
            )
        )  # fmt: skip
        self._connection.execute(
            sa.insert(t.account_person).values(
                account_id=account.account_id, shard=shard, region=account.region,
                display_name=account.display_name,
            )
        )  # fmt: skip

    def read_account(self, account_id: int, *, lock: bool = False) -> Account | None:
        """The account as it stands; `lock` holds it until the commit."""
        query = (
            sa.select(t.account, t.account_person.c.display_name, t.account_person.c.region)
            .join(
                t.account_person,
                sa.and_(
                    t.account_person.c.shard == t.account.c.shard,
                    t.account_person.c.account_id == t.account.c.account_id,
                ),
            )
            .where(t.account.c.shard == shard_of(account_id), t.account.c.account_id == account_id)
        )
        if lock:
            query = query.with_for_update(of=t.account)
        row = self._connection.execute(query).one_or_none()
        if row is None:
            return None
        return Account(
            account_id, State(row.state), row.display_name, row.region, row.open_time,
            row.update_time,
        )  # fmt: skip

    def set_state(self, account_id: int, state: State) -> None:
        """Moves an account on in its life."""
        self._connection.execute(
            sa.update(t.account)
            .where(t.account.c.shard == shard_of(account_id), t.account.c.account_id == account_id)
            .values(state=state.value)
        )

    def read_consents(
        self, account_id: int, *, before: int | None = None, limit: int | None = None
    ) -> list[Consent]:
        """Every consent of the account, newest first; numbers below `before`, at most `limit`."""
        query = (
            sa.select(t.consent)
            .where(t.consent.c.shard == shard_of(account_id), t.consent.c.account_id == account_id)
            .order_by(t.consent.c.number.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(t.consent.c.number < before)
        return [_consent(row) for row in self._connection.execute(query)]

    def put_consent(self, consent: Consent) -> None:
        """Writes a consent as it stands."""
        values = {
            "shard": shard_of(consent.account_id),
            **{k: v for k, v in vars(consent).items()},
        }
        insert = pg.insert(t.consent).values(**values)
        self._connection.execute(
            insert.on_conflict_do_update(
                index_elements=["shard", "account_id", "number"],
                set_={"revoke_time": insert.excluded.revoke_time},
            )
        )

    def note(
        self, account_id: int, happened: Sequence[tuple[int, int]], actor: str, now: datetime
    ) -> int:
        """Writes what happened (kind, consent number), moves the account to the end of the feed,
        and returns that position."""
        shard = shard_of(account_id)
        first = advance_heads(
            driver_of(self._connection), np.array([shard]), np.array([len(happened)])
        )[0]
        self._connection.execute(
            sa.insert(t.event),
            [
                {
                    "position": int(first) + place, "account_id": account_id, "event_time": now,
                    "consent_number": number, "shard": shard, "kind": kind, "actor": actor,
                }
                for place, (kind, number) in enumerate(happened)
            ],
        )  # fmt: skip
        self._connection.execute(
            sa.update(t.account)
            .where(t.account.c.shard == shard, t.account.c.account_id == account_id)
            .values(position=int(first) + len(happened) - 1, update_time=now)
        )
        return int(first) + len(happened) - 1

    def read_snapshots(self, cursors: Mapping[int, int], per_shard: int) -> list[Snapshot]:
        """Accounts changed after `cursors`, in order of position within each shard."""
        driver = driver_of(self._connection)
        parameters = (
            array("int2", np.array(list(cursors), np.int64)),
            array("int8", np.array(list(cursors.values()), np.int64)),
            per_shard,
        )
        rows = driver.execute(_SNAPSHOTS, parameters, prepare=True).fetchall()
        if not rows:
            return []
        found = np.array(rows, np.int64)
        consents: dict[int, list[Consent]] = {}
        for consent in driver.execute(
            _NEWEST_CONSENTS, (array("int2", found[:, 1]), array("int8", found[:, 0])), prepare=True
        ):
            consents.setdefault(consent[0], []).append(Consent(*consent))  # type: ignore[arg-type]  # the columns are in the order of the fields
        return [
            Snapshot(row[0], row[1], row[2], State(row[3]), tuple(consents.get(row[0], ())))  # type: ignore[arg-type, call-overload]  # four integers a row
            for row in rows
        ]

    def check(
        self, accounts: Sequence[int], scopes: Sequence[int], occur_us: Sequence[int], now: datetime
    ) -> dict[int, tuple[int | None, int | None]]:
        """For each row: state of the account and number of the covering consent, None without."""
        ids = np.array(accounts, np.int64)
        rows = driver_of(self._connection).execute(
            _CHECK,
            (
                array("int4", np.arange(len(ids))),
                array("int2", ids & 63),
                array("int8", ids),
                array("int2", np.array(scopes, np.int64)),
                array("timestamptz", np.array(occur_us, np.int64)),
                now,
            ),
            prepare=True,
        )
        return {row: (state, number) for row, state, number in rows}  # type: ignore[misc]  # integers


def _consent(row: sa.Row[tuple[object, ...]]) -> Consent:
    return Consent(
        row.account_id, row.number, row.scope, row.notice_digest, row.grant_time,
        row.cover_from_time, row.revoke_time, row.expire_time,
    )  # fmt: skip
