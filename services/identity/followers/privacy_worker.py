"""Identity's own part of copies: when the other services have done theirs, it packs the archive.

It follows tasks in its own database as the others follow them over WatchPrivacyTasks. An archive
is packed in one transaction; whoever dies in the middle leaves the pieces, and the next one
packs them anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import structlog

from services.identity.domain.archive import MANIFEST_TYP, README, manifest_of
from services.identity.domain.operation import ARCHIVE_KEPT, IDENTITY, State, Task
from services.identity.storage.archive import ArchiveWriter, Copy, expire_archives
from services.identity.storage.own_data import OwnData
from services.identity.storage.privacy import Operations
from services.identity.storage.vault import Vault
from services.identity.usecases.receipts import Signer
from shared.clock import ClockUs
from shared.feed.watch import Signal
from shared.ids import from_us
from shared.privacy import Item, pieces_of
from shared.storage.engine import Database

RETRY_AFTER = timedelta(seconds=60)
"""An archive that could not be packed is tried again after so long, for ever."""
EXPIRED_AT_ONCE_MAX = 20
_LOOK_S = 1.0
_log = structlog.get_logger()


class ArchivePacker:
    """Packs finished copies and deletes those whose time is over.

    `published_keys()` is the JSON Web Key Set that verifies what `signer` signs; `tasks` wakes
    the packer.
    """

    def __init__(
        self,
        database: Database,
        *,
        vault: Vault,
        own_data: OwnData,
        signer: Signer,
        published_keys: Callable[[], bytes],
        clock: ClockUs,
        tasks: Signal,
    ) -> None:
        self._database = database
        self._vault = vault
        self._own_data = own_data
        self._signer = signer
        self._published_keys = published_keys
        self._clock = clock
        self._tasks = tasks
        # A thread of its own: packing takes seconds and must not hold up a reader.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pack")

    async def run(self) -> None:
        """Packs for ever; ends only by cancellation, after the transaction under way."""
        try:
            while True:
                something_new = self._tasks.next()
                if not await self._in_thread(self.work):
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_S):
                            await something_new.wait()
        finally:
            self._thread.shutdown(wait=True)

    def work(self) -> bool:
        """Packs one copy and deletes a few old ones; whether there was anything to do."""
        try:
            now = from_us(self._clock())
            with self._database.transaction() as connection:
                expired = expire_archives(connection, now, EXPIRED_AT_ONCE_MAX)
            with self._database.transaction() as connection:
                ready = Operations(connection).claim_ready(now, now + RETRY_AFTER)
            if ready is None:
                return expired > 0
            self._pack(ready)
        except Exception as error:
            # Its text may quote rows; a copy that fails waits, and the next one gets its turn.
            _log.warning("privacy.pack_failed", error=type(error).__name__)
            return False
        return True

    def _pack(self, task: Task) -> None:
        key = task.account_id, task.number
        with self._database.transaction() as connection:
            operations = Operations(connection)
            operation = operations.read(*key, lock=True)
            if operation is None or operation.state is not State.RUNNING:
                return  # erased, or packed by another worker
            began = from_us(self._clock())
            copy = Copy(connection, self._vault, *key)
            writer, counts = ArchiveWriter(copy), dict[str, int]()
            writer.add("README.txt", [README.encode()])
            own = self._own_data.items(connection, task.account_id)
            for name, contents in _files_of(own, counts):
                writer.add(f"identity/{name}", contents)
            for service, name in copy.files():
                writer.add(f"{service.removeprefix('services/')}/{name}", copy.read(service, name))
            manifest = manifest_of(operation, writer.listed, began)
            writer.add("manifest.json", [manifest])
            writer.add("manifest.jws", [self._signer.sign(manifest, MANIFEST_TYP).encode()])
            writer.add("keys.jwks", [self._published_keys()])
            archive = writer.close()
            copy.drop()
            now = max(from_us(self._clock()), operation.create_time)
            operations.finish_task(*key, IDENTITY, now, counts, ())
            operations.complete_copy(*key, now, now + ARCHIVE_KEPT, archive)

    async def _in_thread(self, function: Callable[[], bool]) -> bool:
        work = asyncio.get_running_loop().run_in_executor(self._thread, function)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait({work})  # a transaction under way is finished, not torn
            raise


def _files_of(items: Iterable[Item], counts: dict[str, int]) -> Iterator[tuple[str, list[bytes]]]:
    """Each file whole, one after the other: what identity holds of one account is small."""
    for item in items:
        files: dict[str, list[bytes]] = {}
        for piece in pieces_of([item], counts):
            files.setdefault(piece.file_name, []).append(piece.content)
        yield from files.items()
