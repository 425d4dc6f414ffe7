"""The projection of accounts, consents and subjects that recording is judged by.

It follows identity's state feed and notes, with every heartbeat, up to which moment it is
complete; recording is refused as retryable when that moment is too long ago.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.identity.v1.account_pb2 import Account
from carbonaccount.identity.v1.consent_pb2 import Consent
from google.protobuf.timestamp_pb2 import Timestamp

from services.activity.domain.catalogue import Catalogue
from services.activity.storage.projection import FOREVER_US, Standings, write_projection
from shared.feed.cursors import move_cursors
from shared.ids import account_id_of
from shared.storage.engine import Database, driver_of

FEED = "identity"
HEARTBEAT_S = 0.2  # how often freshness is written down when nothing else is

_NOTE = "update cursor set complete_time = %s where feed = %s and shard = any(%s)"


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
            driver = driver_of(connection)
            if newest:
                write_projection(driver, self._standings(newest.values()))
            if steps:
                move_cursors(connection, FEED, steps)
            if said:
                self._note_freshness(driver, max(said), lossy=not newest)
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

    def _standings(self, snapshots: Collection[pb.AccountSnapshot]) -> Standings:
        """What the snapshots say; nothing of an erased account covers or is bound."""
        standings = Standings.of(len(snapshots), max(self._scope_codes.values()))
        for row, snapshot in enumerate(snapshots):
            account_id = account_id_of(snapshot.account)
            standings.account_id.append(account_id)
            standings.state.append(snapshot.state)
            if snapshot.state == Account.STATE_ERASED:
                continue
            for consent in snapshot.consents:
                code = self._scope_codes.get(consent.scope)
                if code is not None and _is_in_force(consent):
                    standings.cover(row, code, _us(consent.cover_from_time), _end_us(consent))
            for subject in snapshot.subjects:
                standings.subjects[account_id, subject.subject_digest] = _end_us(subject)
        return standings


def _is_in_force(consent: Consent) -> bool:
    """Once a revocation is known nothing more is collected, whatever moment it names:
    identity's clock may be ahead of this database's."""
    return consent.state == Consent.STATE_GRANTED and not consent.HasField("revoke_time")


def _end_us(what: Consent | pb.BoundSubject) -> int:
    """First moment at which a consent or binding no longer holds."""
    return _us(what.expire_time) if what.HasField("expire_time") else FOREVER_US


def _us(moment: Timestamp) -> int:
    return moment.seconds * 1_000_000 + moment.nanos // 1000
