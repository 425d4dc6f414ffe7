"""Reading the state feed: accounts with all that followers need, at their newest position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import psycopg
import sqlalchemy as sa

from services.identity.domain.account import Consent, Kind, State
from services.identity.storage.bindings import subjects_of
from services.identity.storage.communities import communities_of
from services.identity.storage.consents import CONSENT_COLUMNS, consent_of
from services.identity.storage.households import share_periods_of
from shared.storage.bulk import array
from shared.storage.engine import driver_of

# The heads tell cheaply that nothing is new; one statement sees heads and accounts at one moment.
_ACCOUNTS = """
select a.account_id, a.shard, a.position, a.state, a.kind
from unnest(%s::int2[], %s::int8[]) as c (shard, position)
join feed_head h on h.shard = c.shard and h.position > c.position
cross join lateral (
    select * from account a where a.shard = c.shard and a.position > c.position
    order by a.position limit %s
) a
order by a.shard, a.position
"""
_COLUMNS = ", ".join(f"c.{name}" for name in CONSENT_COLUMNS.split(", "))
_NEWEST_CONSENTS = f"""
select distinct on (c.shard, c.account_id, c.scope) {_COLUMNS}
from unnest(%s::int2[], %s::int8[]) as a (shard, account_id)
join consent c on c.shard = a.shard and c.account_id = a.account_id
order by c.shard, c.account_id, c.scope, c.number desc
"""


Subject = tuple[str, bytes, datetime | None]
"""A partner's name, the keyed hash of its subject, and when the binding runs out."""
Period = tuple[int, Mapping[int, int]]
"""First civil day of a period, and parts per million by the account of each member."""


@dataclass(frozen=True)
class Snapshot:
    """One account at the position of its newest change: the newest decision about each scope, the
    subjects and communities of now, and for a household whose its grams are."""

    account_id: int
    shard: int
    position: int
    state: State
    kind: Kind
    consents: tuple[Consent, ...]
    subjects: tuple[Subject, ...]
    communities: tuple[str, ...]
    share_periods: tuple[Period, ...]


def read_snapshots(
    connection: sa.Connection, cursors: Mapping[int, int], per_shard: int
) -> list[Snapshot]:
    """Accounts changed after `cursors`, in order of position within each shard."""
    driver = driver_of(connection)
    parameters = (
        array("int2", np.array(list(cursors), np.int64)),
        array("int8", np.array(list(cursors.values()), np.int64)),
        per_shard,
    )
    rows = driver.execute(_ACCOUNTS, parameters, prepare=True).fetchall()
    if not rows:
        return []
    found = np.array(rows, np.int64)
    ids = found[:, 0]
    consents = _consents(driver, found)
    subjects, communities = subjects_of(driver, ids), communities_of(driver, ids)
    households = ids[found[:, 4] == Kind.HOUSEHOLD]
    periods = share_periods_of(driver, households) if len(households) else {}
    return [
        Snapshot(
            account_id, shard, position, State(state), Kind(kind),
            tuple(consents.get(account_id, ())),
            tuple(subjects.get(account_id, ())),
            tuple(communities.get(account_id, ())),
            tuple(periods.get(account_id, ())),
        )
        for account_id, shard, position, state, kind in found.tolist()
    ]  # fmt: skip


def _consents(
    driver: psycopg.Connection[tuple[object, ...]],
    found: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> dict[int, list[Consent]]:
    consents: dict[int, list[Consent]] = {}
    parameters = (array("int2", found[:, 1]), array("int8", found[:, 0]))
    for row in driver.execute(_NEWEST_CONSENTS, parameters, prepare=True):
        consent = consent_of(row)
        consents.setdefault(consent.account_id, []).append(consent)
    return consents
