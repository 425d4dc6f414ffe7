"""The vault: personal values sealed under a key of each account, and the end of such a key.

Without the row in `data_key` nobody opens what was sealed, the operator included. Copies of the
row in backups and in the database's journal are as good as gone once the wrapping key that they
were wrapped under is retired: rotate and retire as often as backups have to forget.

No opened key is remembered between calls: a key that another worker destroyed must not live on
here, so the row is read each time, and that is nearly all of the cost (50 of 750 us measured are
the unwrapping).
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects import postgresql as pg

from services.identity.domain.sealing import (
    CIPHERS,
    KEY_BYTES,
    NONCE_BYTES,
    KeyDestroyed,
    open_sealed,
    seal,
)
from services.identity.storage.vault_tables import data_key
from services.identity.upstream.key_management import KeyManagement, KeyMissing
from shared.ids import account_name, shard_of

_log = structlog.get_logger()


class Vault:
    """Seals and opens inside the caller's transaction; safe to share between threads.

    `cipher` ("aes-256-gcm" or "sm4-gcm") is for what is sealed from now on; what was sealed
    under the other one stays readable.
    """

    def __init__(self, keys: KeyManagement, cipher: str = "aes-256-gcm") -> None:
        if cipher not in CIPHERS:
            raise ValueError(f"cipher is {cipher!r}; it must be one of {', '.join(CIPHERS)}")
        self._keys = keys
        self._cipher = cipher

    def new_key(self, connection: sa.Connection, account_id: int) -> None:
        """Gives the account a data key; one that it has stays."""
        key = secrets.token_bytes(KEY_BYTES)
        kek, wrapped = self._keys.wrap(key, account_id)
        insert = pg.insert(data_key).values(
            account_id=account_id, shard=shard_of(account_id), kek=kek, wrapped=wrapped
        )
        made = connection.execute(insert.on_conflict_do_nothing().returning(data_key.c.shard))
        if made.one_or_none() is not None:
            # Whoever retires a wrapping key waits for this row or was quicker; then this fails,
            # and with it the transaction, before anything is sealed under a key that is gone.
            self._keys.unwrap(kek, wrapped, account_id)

    def seal(self, connection: sa.Connection, account_id: int, purpose: str, plain: bytes) -> bytes:
        """`plain`, sealed for this account and purpose; KeyDestroyed when it has no data key."""
        key, nonce = self._key(connection, account_id), secrets.token_bytes(NONCE_BYTES)
        return seal(key, self._cipher, account_id, purpose, plain, nonce)

    def open(
        self, connection: sa.Connection, account_id: int, purpose: str, sealed: bytes
    ) -> bytes:
        """What was sealed for this account and purpose.

        KeyDestroyed when the account has no data key, SealBroken when the value was changed or
        sealed for something else, KeyMissing while the wrapping key is not at hand.
        """
        return open_sealed(self._key(connection, account_id), account_id, purpose, sealed)

    def open_beside(
        self,
        connection: sa.Connection,
        account_id: int,
        purpose: str,
        sealed: bytes,
        wrapped_key: tuple[str, bytes] | None,
    ) -> bytes:
        """As `open`, with wrapping key and data key (`kek`, `wrapped`) that the statement which
        read `sealed` read beside it; None where it found no data key."""
        key = self._key(connection, account_id, wrapped_key or _destroyed(account_id))
        return open_sealed(key, account_id, purpose, sealed)

    def destroy(self, connection: sa.Connection, account_id: int) -> None:
        """Deletes the data key; from the commit on nothing of the account opens, for ever."""
        connection.execute(
            sa.delete(data_key).where(
                data_key.c.shard == shard_of(account_id), data_key.c.account_id == account_id
            )
        )

    def _key(
        self,
        connection: sa.Connection,
        account_id: int,
        wrapped_key: tuple[str, bytes] | None = None,
    ) -> bytes:
        kek, wrapped = wrapped_key or self._row(connection, account_id)
        try:
            return self._keys.unwrap(kek, wrapped, account_id)
        except KeyMissing:
            # It may have been re-wrapped, and the old wrapping key retired, since it was read.
            newer, wrapped = self._row(connection, account_id)
            if newer == kek:
                _log.error("wrapping_key.missing", kek=kek)
                raise
            return self._keys.unwrap(newer, wrapped, account_id)

    def _row(self, connection: sa.Connection, account_id: int) -> tuple[str, bytes]:
        query = sa.select(data_key.c.kek, data_key.c.wrapped).where(
            data_key.c.shard == shard_of(account_id), data_key.c.account_id == account_id
        )
        row = connection.execute(query).one_or_none()
        return (row.kek, row.wrapped) if row is not None else _destroyed(account_id)


def _destroyed(account_id: int) -> tuple[str, bytes]:
    raise KeyDestroyed(f"{account_name(account_id)} has no data key; what was sealed is gone")
