"""The projection of accounts and consents that recording is judged by.

It follows identity's state feed and notes, with every heartbeat, up to which moment it is
complete; recording is refused as retryable when that moment is too long ago.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
import sqlalchemy as sa
from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.identity.v1.consent_pb2 import Consent
from sqlalchemy.dialects import postgresql as pg

from services.activity.domain.catalogue import Catalogue
from services.activity.storage.tables import account_consent
from shared.feed.cursors import move_cursors
from shared.ids import account_id_of
from shared.storage.engine import Database, driver_of

FEED = "identity"
HEARTBEAT_S = 0.2  # how often freshness is written down when nothing else is

_NOTE = "update cursor set complete_time = %s where feed = %s and shard = any(%s)"
_NEVER, _FOREVER = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class ConsentProjection:
    """Applies identity's snapshots; see shared.feed.follow.Applier."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database = database
        self._scope_codes = catalogue.scope_codes
        self._cursors: dict[int, int] = {}
        self._written_s = 0.0

    def begin(self, cursors: Mapping[int, int]) -> None:
        """Remembers where the stream starts."""
        self._cursors = dict(cursors)

    def apply(self, responses: Sequence[pb.WatchAccountsResponse]) -> None:
        """Newest state of each account, cursors and freshness, in one transaction."""
        newest = {s.account: s for response in responses for s in response.snapshots}
        after = {c.shard: c.position for response in responses for c in response.cursors}
        steps = {
            shard: (self._cursors[shard], position)
            for shard, position in after.items()
            if position != self._cursors[shard]
        }
        if not newest and not steps and time.monotonic() - self._written_s < HEARTBEAT_S:
            return
        # Unset until the first catch-up is whole: then the projection is not fresh yet.
        said = [r.complete_time.ToDatetime(UTC) for r in responses if r.HasField("complete_time")]
        with self._database.transaction() as connection:
            if newest:
                self._write(connection, list(newest.values()))
            if steps:
                move_cursors(connection, FEED, steps)
            if said:
                self._note_freshness(driver_of(connection), max(said), lossy=not newest)
        self._written_s = time.monotonic()
        self._cursors.update(after)

    def _note_freshness(
        self, driver: psycopg.Connection[Any], complete_time: datetime, lossy: bool
    ) -> None:
        with driver.pipeline():
            if lossy:
                # Losing a heartbeat in a crash only makes the projection look older than it is.
                driver.execute("set local synchronous_commit = off")
            driver.execute(_NOTE, (complete_time, FEED, list(self._cursors)))

    def _write(self, connection: sa.Connection, snapshots: list[pb.AccountSnapshot]) -> None:
        rows = [self._row(snapshot) for snapshot in snapshots]
        insert = pg.insert(account_consent)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["shard", "account_id"],
                set_={
                    name: insert.excluded[name] for name in ("state", "cover_from", "cover_until")
                },
            ),
            sorted(rows, key=lambda row: (row["shard"], row["account_id"])),
        )

    def _row(self, snapshot: pb.AccountSnapshot) -> dict[str, object]:
        size = max(self._scope_codes.values())
        cover_from: list[datetime | None] = [None] * size
        cover_until: list[datetime | None] = [None] * size
        for consent in snapshot.consents:
            code = self._scope_codes.get(consent.scope)
            if code is not None:
                cover_from[code - 1] = consent.cover_from_time.ToDatetime(UTC)
                cover_until[code - 1] = _until(consent)
        return {
            "account_id": account_id_of(snapshot.account),
            "shard": snapshot.shard,
            "state": snapshot.state,
            "cover_from": cover_from,
            "cover_until": cover_until,
        }


def _until(consent: Consent) -> datetime:
    """First moment at which the consent is no longer in force.

    Once a revocation is known nothing more is collected, whatever moment it names: identity's
    clock may be ahead of this database's.
    """
    if consent.HasField("revoke_time"):
        return _NEVER
    return consent.expire_time.ToDatetime(UTC) if consent.HasField("expire_time") else _FOREVER
