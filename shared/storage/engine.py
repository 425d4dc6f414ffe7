"""One service's database: transactions in threads, from one colour of code.

Servicers are coroutines; database work is synchronous and runs in a small pool of
threads (`call`), so that one transaction is one straight function. Writers that gather
hold a connection of their own thread by using the same `transaction`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa

from shared.storage.bulk import register

Result = TypeVar("Result")

# A plan that was made on an empty table may serve for ever: measured 872 acts/s instead of
# 40,000 when a feed was read by one. Readers plan anew; it costs about a millisecond.
_SESSION = "-c jit=off -c timezone=UTC"
_READERS = " -c plan_cache_mode=force_custom_plan"
# A batch looks up thousands of keys in tables of any size. Statistics of a table that grew
# since its last analysis make the planner read all of it; an index look-up a key never
# surprises. With nothing else to choose from, one plan serves for ever and planning anew
# (a millisecond a statement, most of the cost of a small transaction) is saved.
_LOOK_UPS = (
    " -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off"
    " -c plan_cache_mode=force_generic_plan"
)


class Database:
    """A pool of connections to one database; safe to share between threads.

    `url` is a SQLAlchemy address (`postgresql+psycopg://...`; plain `postgresql://` is read
    as the same). Every transaction is READ COMMITTED and commits durably. `look_ups` is for
    writers of batches: every join goes by index.
    """

    def __init__(
        self, url: str, *, connections_max: int = 8, threads: int = 4, look_ups: bool = False
    ) -> None:
        options = _SESSION + (_LOOK_UPS if look_ups else _READERS)

        def pool(**more: Any) -> sa.Engine:
            engine = sa.create_engine(
                with_driver(url),
                pool_size=connections_max,
                max_overflow=0,
                pool_timeout=10,
                connect_args={"options": options, "connect_timeout": 5},
                **more,
            )
            sa.event.listen(engine, "connect", lambda driver, _: register(_psycopg(driver)))
            return engine

        # A writer of batches notices by its first statement, and whoever sent it sends again.
        self._engine = pool(pool_pre_ping=not look_ups)
        # Asking before each read whether the server is there took half of a read in a profile.
        self._reads = pool(isolation_level="AUTOCOMMIT")
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="database")

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction: committed at the end of the block, rolled back by any exception."""
        with self._engine.begin() as connection:
            yield connection

    async def call(self, function: Callable[[sa.Connection], Result]) -> Result:
        """The result of `function(connection)` in one transaction of a pool thread."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._in_transaction, function
        )

    async def read(self, function: Callable[[sa.Connection], Result]) -> Result:
        """The result of `function(connection)`, which only reads, in a pool thread.

        Each statement sees what is committed when it begins, as in `transaction`, and saves
        the journeys that begin and end one. When the server went away since the last read,
        `function` runs once more.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._reading, function
        )

    def _reading(self, function: Callable[[sa.Connection], Result]) -> Result:
        try:
            with self._reads.connect() as connection:
                return function(connection)
        except (psycopg.OperationalError, sa.exc.OperationalError):
            # Connections of before a restart fail at their next use, and all of them at once.
            self._reads.dispose()
            with self._reads.connect() as connection:
                return function(connection)

    def _in_transaction(self, function: Callable[[sa.Connection], Result]) -> Result:
        with self.transaction() as connection:
            return function(connection)

    def close(self) -> None:
        """Ends threads and connections; running work finishes first."""
        self._threads.shutdown(wait=True)
        self._engine.dispose()
        self._reads.dispose()


def driver_of(connection: sa.Connection) -> psycopg.Connection[tuple[object, ...]]:
    """The psycopg connection beneath, inside the same transaction, for bulk statements."""
    return _psycopg(connection.connection.driver_connection)


def _psycopg(driver: object) -> psycopg.Connection[tuple[object, ...]]:
    # SQLAlchemy wraps the driver's connection of a "connect" event and not that of a checkout.
    driver = getattr(driver, "_connection", driver)
    assert isinstance(driver, psycopg.Connection)
    return driver


def with_driver(url: str) -> sa.URL:
    """The address with the driver we use; `postgresql://` means psycopg here."""
    address = sa.make_url(url)
    if address.drivername in {"postgres", "postgresql"}:
        address = address.set(drivername="postgresql+psycopg")
    return address
