"""Files of copies in the database, sealed: pieces as services send them, and the packed archive.

All of it lies under the data key of the account, so an erasure ends it twice: the rows go, and
what a backup still has of them opens no more.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from services.identity.domain.archive import Listed
from services.identity.domain.operation import SentFile
from services.identity.storage.vault import Vault
from shared.ids import shard_of
from shared.privacy import PIECE_BYTES_MAX, Piece

# The same content gives the same archive, so files are of no moment: the first that ZIP knows.
_MOMENT = (1980, 1, 1, 0, 0, 0)
_PUT = """
insert into privacy_piece (shard, account_id, number, service, file_name, piece, sealed)
values (:shard, :account, :number, :service, :file_name, :piece, :sealed)
on conflict (shard, account_id, number, service, file_name, piece)
do update set sealed = excluded.sealed
"""
_DROP_OTHERS = """
delete from privacy_piece p
where p.shard = :shard and p.account_id = :account and p.number = :number
    and p.service = :service and not exists (
        select from unnest(cast(:names as text[]), cast(:pieces as int4[])) as f (name, pieces)
        where f.name = p.file_name and p.piece < f.pieces
    )
"""
_FILES = """
select service, file_name, count(*) as pieces from privacy_piece
where shard = :shard and account_id = :account and number = :number
group by service, file_name order by service, file_name
"""
_PIECE = """
select sealed from privacy_piece where shard = :shard and account_id = :account
    and number = :number and service = :service and file_name = :file_name and piece = :piece
"""
_PUT_ARCHIVE = """
insert into archive_piece (shard, account_id, number, piece, sealed)
values (:shard, :account, :number, :piece, :sealed)
"""
_ARCHIVE_PIECE = """
select sealed from archive_piece
where shard = :shard and account_id = :account and number = :number and piece = :piece
"""
_EXPIRE = """
with expired as (
    update operation o set state = 3 from (
        select shard, account_id, number from operation
        where state = 2 and kind = 1 and expire_time <= :now
        order by expire_time limit :limit for update skip locked
    ) old
    where (o.shard, o.account_id, o.number) = (old.shard, old.account_id, old.number)
    returning o.shard, o.account_id, o.number
), deleted as (
    delete from archive_piece p using expired e
    where (p.shard, p.account_id, p.number) = (e.shard, e.account_id, e.number)
)
select count(*) from expired
"""


class Copy:
    """The files of one copy on one connection, inside one transaction that holds its operation."""

    def __init__(
        self, connection: sa.Connection, vault: Vault, account_id: int, number: int
    ) -> None:
        self._connection = connection
        self._vault = vault
        self._account_id = account_id
        self._key = {"account": account_id, "shard": shard_of(account_id), "number": number}

    def put(self, service: str, piece: Piece) -> None:
        """Keeps a piece of a file; one that is sent again takes the place of the first."""
        at = {"service": service, "file_name": piece.file_name, "piece": piece.piece}
        self._run(_PUT, **at, sealed=self._seal(self._purpose(at), piece.content))

    def fault(self, service: str, files: Sequence[SentFile]) -> str:
        """What is wrong with a service's part, "" when it is whole: each file of `files` with
        every piece and its digest. Pieces of anything else are dropped."""
        self._run(
            _DROP_OTHERS,
            service=service, names=[f.name for f in files], pieces=[f.pieces for f in files],
        )  # fmt: skip
        for file in files:
            found, digest = 0, hashlib.sha256()
            for content in self.read(service, file.name):
                digest.update(content)
                found += 1
            if found != file.pieces:
                return f"piece {found} of {file.name} is missing"
            if digest.digest() != file.digest:
                return f"{file.name} has not the digest that was told"
        return ""

    def files(self) -> list[tuple[str, str]]:
        """Service and name of every file, in order."""
        return [(row.service, row.file_name) for row in self._run(_FILES)]

    def read(self, service: str, file_name: str) -> Iterator[bytes]:
        """The pieces of a file in order, up to the first that is not there."""
        at: dict[str, Any] = {"service": service, "file_name": file_name, "piece": 0}
        while (sealed := self._run(_PIECE, **at).scalar()) is not None:
            yield self._open(self._purpose(at), sealed)
            at["piece"] += 1

    def drop(self) -> None:
        """Deletes every piece."""
        self._run(
            "delete from privacy_piece "
            "where shard = :shard and account_id = :account and number = :number"
        )

    def put_archive(self, piece: int, content: bytes) -> None:
        """Keeps a piece of the archive."""
        self._run(
            _PUT_ARCHIVE, piece=piece, sealed=self._seal(self._archive_purpose(piece), content)
        )

    def read_archive(self, piece: int) -> bytes | None:
        """A piece of the archive; None after the last, and when the archive is deleted."""
        sealed = self._run(_ARCHIVE_PIECE, piece=piece).scalar()
        return None if sealed is None else self._open(self._archive_purpose(piece), sealed)

    def _purpose(self, at: dict[str, Any]) -> str:
        number, place = self._key["number"], f"{at['file_name']}/{at['piece']}"
        return f"copy/{number}/{at['service']}/{place}"

    def _archive_purpose(self, piece: int) -> str:
        return f"archive/{self._key['number']}/{piece}"

    def _seal(self, purpose: str, content: bytes) -> bytes:
        return self._vault.seal(self._connection, self._account_id, purpose, content)

    def _open(self, purpose: str, sealed: bytes) -> bytes:
        return self._vault.open(self._connection, self._account_id, purpose, sealed)

    def _run(self, statement: str, **parameters: Any) -> sa.CursorResult[Any]:
        return self._connection.execute(sa.text(statement), {**self._key, **parameters})


class ArchiveWriter:
    """Writes a ZIP file into a copy, piece by piece; close it when everything is added."""

    def __init__(self, copy: Copy) -> None:
        self._pieces = _Pieces(copy)
        self._zip = zipfile.ZipFile(self._pieces, "w", zipfile.ZIP_DEFLATED)
        self.listed: list[Listed] = []

    def add(self, name: str, contents: Iterable[bytes]) -> None:
        """Adds a file and lists it."""
        entry = zipfile.ZipInfo(name, _MOMENT)
        entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
        digest, size = hashlib.sha256(), 0
        with self._zip.open(entry, "w") as member:
            for content in contents:
                member.write(content)
                digest.update(content)
                size += len(content)
        self.listed.append(Listed(name, size, digest.digest()))

    def close(self) -> Listed:
        """The whole archive: its size and digest."""
        self._zip.close()
        return self._pieces.finish()


class _Pieces(io.RawIOBase):
    """A file that ends up as pieces of a copy, of which it holds one."""

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self._data = bytearray()
        self._count = self._size = 0
        self._digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._data += data
        while len(self._data) >= PIECE_BYTES_MAX:
            self._put()
        return len(data)

    def finish(self) -> Listed:
        if self._data:
            self._put()
        return Listed("", self._size, self._digest.digest())

    def _put(self) -> None:
        content = bytes(self._data[:PIECE_BYTES_MAX])
        del self._data[:PIECE_BYTES_MAX]
        self._copy.put_archive(self._count, content)
        self._count += 1
        self._size += len(content)
        self._digest.update(content)


def expire_archives(connection: sa.Connection, now: Any, limit: int) -> int:
    """Deletes at most `limit` archives whose time is over; how many."""
    return int(connection.execute(sa.text(_EXPIRE), {"now": now, "limit": limit}).scalar_one())
