"""The end of everything personal that identity holds of an account, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from services.identity.storage import access_log
from services.identity.storage.people import People
from services.identity.storage.privacy import Operations, forget_requests
from services.identity.storage.vault import Vault
from shared.ids import shard_of

RoomEraser = Callable[[sa.Connection, int], Mapping[str, int]]
"""Deletes what one room keeps of an account, whose row is held; rows by table."""

_OWN = {
    "customer_key": "delete from customer_key where account_id = :account",
    # What a person gave as a reason are that person's own words, sealed, and of releases before
    # in clear; those of staff stay, for auditors.
    "event-causes": "update event set cause = '', words = null where account_id = :account "
    "and (words is not null or cause <> '' and actor in ('customer', 'guardian', 'member'))",
    "guardianship": "delete from guardianship where shard = :shard and ward_id = :account",
}


class Eraser:
    """Erases on one connection, whose transaction holds the account.

    What a guardian decided stays with the ward: only the ward's own erasure ends it.
    """

    def __init__(
        self, connection: sa.Connection, vault: Vault, rooms: Sequence[RoomEraser]
    ) -> None:
        self._connection = connection
        self._vault = vault
        self._rooms = rooms

    def erase(self, account_id: int, now: datetime) -> dict[str, int]:
        """Deletes copies, persons, keys, the holder's own words, and what the rooms keep; rows by
        what they are."""
        counts = Operations(self._connection).cut_off_copies(account_id, now)
        for room in self._rooms:  # while the customer's keys are there, by which they find rows
            counts |= room(self._connection, account_id)
        parameters = {"account": account_id, "shard": shard_of(account_id)}
        for what, statement in _OWN.items():
            counts[what] = self._connection.execute(sa.text(statement), parameters).rowcount
        counts["request"] = self.forget_requests(account_id)
        persons = sa.text(
            "select count(*) from person where shard = :shard and account_id = :account"
        )
        counts["person"] = self._connection.execute(persons, parameters).scalar_one()
        People(self._vault).erase(self._connection, account_id)
        self._vault.destroy(self._connection, account_id)
        return counts | {"data_key": 1}

    def forget_requests(self, account_id: int) -> int:
        """Deletes every request id of the account."""
        return forget_requests(self._connection, account_id)

    def reads_until(self, account_id: int) -> datetime | None:
        """When the last read of the account in the access log is forgotten; None without any."""
        return access_log.kept_until(self._connection, account_id)
