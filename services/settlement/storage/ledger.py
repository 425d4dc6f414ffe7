"""Writing the book: pockets locked in order, transfers added, heads last, one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
import sqlalchemy as sa
from numpy.typing import NDArray
from psycopg import errors

from services.settlement.domain.judge import Known, Post
from services.settlement.domain.pockets import FLOORS, Pocket, PocketKind
from services.settlement.storage.columns import Changes, Transfers, key_arrays, moves
from services.settlement.usecases.post_transfers import Raced
from shared.feed.append import advance_heads
from shared.refusal import BookHalted, RetryLater
from shared.storage.bulk import array
from shared.storage.engine import Database, driver_of

Ints = NDArray[np.int64]

# "limit 1" makes each look-up a look-up: no plan, however old, can read a whole index instead.
# The pockets come in locking order, and rows that are locked keep their place.
_LOCK = """
select p.shard, p.account_id, p.kind, p.asset, p.balance
from unnest(%s::int2[], %s::int8[], %s::int2[], %s::int2[]) as w (shard, account_id, kind, asset)
cross join lateral (
    select * from pocket p where p.shard = w.shard and p.account_id = w.account_id
        and p.kind = w.kind and p.asset = w.asset limit 1 for update
) p
"""
_MAKE = """
insert into pocket (account_id, balance, floor, version, asset, kind, shard)
select account_id, 0, floor, 0, asset, kind, shard
from unnest(%s::int2[], %s::int8[], %s::int2[], %s::int2[], %s::int8[])
    as c (shard, account_id, kind, asset, floor)
order by shard, account_id, kind, asset
on conflict do nothing
"""
_ADD = """
insert into pocket as p (account_id, balance, floor, version, asset, kind, shard)
select account_id, change, floor, transfers, asset, kind, shard
from unnest(%s::int2[], %s::int8[], %s::int2[], %s::int2[], %s::int8[], %s::int8[], %s::int8[])
    as c (shard, account_id, kind, asset, change, transfers, floor)
order by shard, account_id, kind, asset
on conflict (shard, account_id, kind, asset) do update
    set balance = p.balance + excluded.balance, version = p.version + excluded.version
"""
_TAKE = """
update pocket p
set balance = p.balance + c.change, version = p.version + c.transfers,
    forgiven = p.forgiven + c.forgiven
from unnest(%s::int2[], %s::int8[], %s::int2[], %s::int2[], %s::int8[], %s::int8[], %s::int8[])
    as c (shard, account_id, kind, asset, change, transfers, forgiven)
cross join lateral (
    select ctid as place from pocket o where o.shard = c.shard and o.account_id = c.account_id
        and o.kind = c.kind and o.asset = c.asset limit 1
) found
where p.ctid = found.place
"""
_RUN = """
insert into posting_run
    (shard, first_position, last_position, first_transfer, last_transfer, post_time)
select shard, first_position, last_position, first_transfer, last_transfer, now()
from unnest(%s::int2[], %s::int8[], %s::int8[], %s::int8[], %s::int8[])
    as r (shard, first_position, last_position, first_transfer, last_transfer)
"""
_TRANSFERS = """
insert into transfer (position, from_account, to_account, amount, asset_class, civil_day,
    leaf_count, shard, kind, from_kind, to_kind, asset, leaf_digest)
select * from unnest(%s::int8[], %s::int8[], %s::int8[], %s::int8[], %s::int4[], %s::int4[],
    %s::int4[], %s::int2[], %s::int2[], %s::int2[], %s::int2[], %s::int2[], %s::bytea[])
"""
_KNOWN = """
select k.key, k.body, k.transfer_shard, k.position
from unnest(%s::int2[], %s::uuid[]) as w (shard, key)
cross join lateral (
    select * from transfer_key k where k.shard = w.shard and k.key = w.key limit 1
) k
"""
_KEYS = """
insert into transfer_key (key, body, position, transfer_shard, shard, cause)
select * from unnest(%s::uuid[], %s::int8[], %s::int8[], %s::int2[], %s::int2[], %s::text[])
"""


class Ledger:
    """The writing side of the book, on one connection inside one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._driver: psycopg.Connection[Any] = driver_of(connection)

    def check_not_halted(self) -> None:
        """BookHalted while the auditor's last word on any shard is that it does not add up."""
        row = self._driver.execute(
            "select a.name, u.pockets, u.difference from audit u join asset a on a.code = u.asset"
            " where u.pockets <> 0 or u.difference <> 0 limit 1",
            prepare=True,
        ).fetchone()
        if row is not None:
            raise BookHalted(
                f"the book of {row[0]} does not add up (pockets sum to {row[1]}, largest "
                f"difference {row[2]}); nothing is posted until an operator has mended it",
                metadata={"asset": row[0], "sum": row[1]},
            )

    def make(self, pockets: Sequence[Pocket]) -> None:
        """Makes those of `pockets` that are not there, empty; called before anything is locked.

        A row that another transaction makes just now cannot be locked, only waited for.
        """
        columns = np.array([(*p, p.floor) for p in sorted(set(pockets))], np.int64)
        types = ("int2", "int8", "int2", "int2", "int8")
        rows = [array(kind, column) for kind, column in zip(types, columns.T, strict=True)]
        self._driver.execute(_MAKE, rows, prepare=True)

    def lock(self, pockets: Sequence[Pocket]) -> dict[Pocket, int]:
        """Balances of those of `pockets` that exist, held until the commit."""
        wanted = sorted(set(pockets))
        columns = np.array(wanted, np.int64)
        return {
            Pocket(shard, account_id, PocketKind(kind), asset): balance
            for shard, account_id, kind, asset, balance in self._lock(*columns.reshape(-1, 4).T)
        }

    def balances(self, shard: Ints, account_id: Ints, kind: Ints, asset: Ints) -> Ints:
        """Balances of pockets, distinct and in locking order, held until the commit; 0 for new."""
        rows = self._lock(shard, account_id, kind, asset)
        held = {row[:4]: row[4] for row in rows}
        wanted = zip(
            shard.tolist(), account_id.tolist(), kind.tolist(), asset.tolist(), strict=True
        )
        return np.array([held.get(pocket, 0) for pocket in wanted], np.int64)

    def _lock(
        self, shard: Ints, account_id: Ints, kind: Ints, asset: Ints
    ) -> list[tuple[int, int, int, int, int]]:
        with self._driver.cursor(binary=True) as cursor:
            return cursor.execute(
                _LOCK,
                (
                    array("int2", shard),
                    array("int8", account_id),
                    array("int2", kind),
                    array("int2", asset),
                ),
                prepare=True,
            ).fetchall()

    def change(self, changes: Changes) -> None:
        """Moves balances; the database refuses one below its floor."""
        floored = (changes.kind == PocketKind.AVAILABLE) | (changes.kind == PocketKind.POOL)
        losing = ((changes.change < 0) & floored) | (changes.forgiven > 0)
        for statement, rows in ((_ADD, ~losing), (_TAKE, losing)):
            if not rows.any():
                continue
            part = {name: column[rows] for name, column in vars(changes).items()}
            if statement is _ADD:
                lowest = np.array([FLOORS[PocketKind(kind)] for kind in range(1, 5)], np.int64)
                last = lowest[part["kind"] - 1]
            else:
                last = part["forgiven"]
            moved = self._driver.execute(
                statement,
                (
                    array("int2", part["shard"]),
                    array("int8", part["account_id"]),
                    array("int2", part["kind"]),
                    array("int2", part["asset"]),
                    array("int8", part["change"]),
                    array("int8", part["transfers"]),
                    array("int8", last),
                ),
                prepare=True,
            ).rowcount
            if moved != rows.sum():
                raise RuntimeError(
                    f"{moved} pockets moved of {rows.sum()}; one to take from is gone"
                )

    def add(self, transfers: Transfers, runs: Mapping[int, tuple[int, int]]) -> Ints:
        """Writes transfers and what caused them; their positions, in order.

        `runs` says for each shard which assessments (first, last position) they come from;
        (0, 0) for moves.
        """
        shards, starts, counts = np.unique(transfers.shard, return_index=True, return_counts=True)
        first = advance_heads(self._driver, shards, counts)
        ranks = np.arange(len(transfers.shard)) - np.repeat(starts, counts)
        position = np.repeat(first, counts) + ranks
        self._driver.execute(
            _TRANSFERS,
            (
                array("int8", position),
                array("int8", transfers.from_account),
                array("int8", transfers.to_account),
                array("int8", transfers.amount),
                array("int4", transfers.asset_class),
                array("int4", transfers.civil_day),
                array("int4", transfers.leaf_count),
                array("int2", transfers.shard),
                array("int2", transfers.kind),
                array("int2", transfers.from_kind),
                array("int2", transfers.to_kind),
                array("int2", transfers.asset),
                array("bytea32", transfers.leaf_digest),
            ),
            prepare=True,
        )
        causes = np.array([runs[int(shard)] for shard in shards], np.int64)
        self._driver.execute(
            _RUN,
            (
                array("int2", shards),
                array("int8", causes[:, 0]),
                array("int8", causes[:, 1]),
                array("int8", first),
                array("int8", first + counts - 1),
            ),
            prepare=True,
        )
        return position

    def known(self, posts: Sequence[Post]) -> dict[bytes, Known]:
        """The transfers that were posted before under the causes of `posts`."""
        rows = self._driver.execute(_KNOWN, key_arrays(posts), prepare=True)
        return {key.bytes: Known(body, shard, position) for key, body, shard, position in rows}

    def write_moves(self, posts: Sequence[Post], changes: Mapping[Pocket, int]) -> Ints:
        """Writes accepted posts, what they change, and their causes; positions in their order."""
        order = sorted(range(len(posts)), key=lambda index: posts[index].from_pocket.shard)
        ordered = [posts[index] for index in order]
        touched: dict[Pocket, int] = {}
        for post in posts:
            for pocket in (post.from_pocket, post.to_pocket):
                touched[pocket] = touched.get(pocket, 0) + 1
        pockets = sorted(touched)
        change = np.array([changes[pocket] for pocket in pockets], np.int64)
        transfers = np.array([touched[pocket] for pocket in pockets], np.int64)
        shard, account_id, kind, asset = np.array(pockets, np.int64).T
        none = np.zeros_like(change)
        self.change(Changes(shard, account_id, kind, asset, change, transfers, none))
        shards = {post.from_pocket.shard for post in posts}
        positions = self.add(moves(ordered), dict.fromkeys(shards, (0, 0)))
        self.note_keys(ordered, positions)
        placed = np.empty(len(posts), np.int64)
        placed[order] = positions
        return placed

    def note_keys(self, posts: Sequence[Post], positions: Ints) -> None:
        """Keeps the causes of new transfers; UniqueViolation when one raced us."""
        order = sorted(range(len(posts)), key=lambda i: (posts[i].key[0] & 63, posts[i].key))
        posts = [posts[i] for i in order]
        shards, keys = key_arrays(posts)
        self._driver.execute(
            _KEYS,
            (
                keys,
                array("int8", np.array([post.body for post in posts], np.int64)),
                array("int8", positions[order]),
                array("int2", np.array([post.from_pocket.shard for post in posts], np.int64)),
                shards,
                array("text", [post.cause for post in posts]),
            ),
            prepare=True,
        )


@contextmanager
def open_ledger(database: Database) -> Iterator[Ledger]:
    """A ledger in one transaction, committed at the end of the block.

    Raises Raced when another transaction was first (a cause, a pocket below its floor, a
    deadlock) and RetryLater when the database is away.
    """
    try:
        with database.transaction() as connection:
            yield Ledger(connection)
    except (errors.UniqueViolation, errors.CheckViolation, errors.DeadlockDetected) as error:
        raise Raced from error
    except (psycopg.OperationalError, sa.exc.OperationalError, sa.exc.TimeoutError) as error:
        raise RetryLater(
            "the database does not answer; nothing was acknowledged, send the same again",
            cause="database away",
            retry_after_ms=500,
        ) from error
