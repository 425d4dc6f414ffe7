"""Postings from one hot pool, beside bare SQL that does the same."""

from __future__ import annotations

import statistics
import time
from functools import partial
from hashlib import blake2b

import numpy as np
import sqlalchemy as sa

from services.settlement.domain.judge import Post
from services.settlement.domain.pockets import Pocket, PocketKind
from services.settlement.storage.columns import key_arrays
from services.settlement.storage.ledger import open_ledger
from services.settlement.usecases.post_transfers import Order, post_transfers
from services.settlement.wiring import MIGRATIONS
from shared.storage.bulk import array
from shared.storage.engine import Database, driver_of
from shared.storage.migrate import migrate

BATCH = 500
REDUCTION = 1
POOL = Pocket(0, 0, PocketKind.POOL, REDUCTION)
HOT_BALANCE = 10**15
_BARE = """
with t as (
    select * from unnest(%s::int2[], %s::uuid[], %s::int8[], %s::int8[])
        as t (shard, key, account_id, amount)
), keys as (
    insert into bare_key select key, shard, amount from t on conflict do nothing returning key
), transfers as (
    insert into bare_transfer (account_id, amount, digest)
    select account_id, amount, sha256(uuid_send(key)) from t join keys using (key)
), pool as (
    update bare_pocket set balance = balance - (select sum(amount) from t) where account_id = 0
)
insert into bare_pocket as p (account_id, balance) select account_id, sum(amount) from t
group by account_id order by account_id
on conflict (account_id) do update set balance = p.balance + excluded.balance
"""
_BARE_SCHEMA = """
create table bare_key (key uuid primary key, shard smallint, amount bigint);
create table bare_transfer (position bigserial primary key, account_id bigint, amount bigint,
    digest bytea);
create index on bare_transfer (account_id);
create table bare_pocket (account_id bigint primary key, balance bigint check (balance >= 0));
insert into bare_pocket values (0, 1000000000000000);
"""


def run(url: str, *, quick: bool = False) -> dict[str, float]:
    """`ledger_hot_pool_per_s` and `ledger_ratio_to_sql` on an empty database."""
    migrate(url, MIGRATIONS)
    database = Database(url, look_ups=True)
    with database.transaction() as connection:
        driver_of(connection).execute(_BARE_SCHEMA.encode())
        _fund(connection, POOL, HOT_BALANCE)
    rounds, batches = (2, 20) if quick else (5, 60)
    ours, bare = [], []
    for number in range(rounds):
        ours.append(_ours(database, number, batches))
        bare.append(_bare(database, number, batches))
    with database.transaction() as connection:
        driver_of(connection).execute(b"drop table bare_key, bare_transfer, bare_pocket")
    rate, plain = statistics.median(ours), statistics.median(bare)
    database.close()
    return {
        "ledger_hot_pool_per_s": round(rate),
        "ledger_bare_sql_per_s": round(plain),
        "ledger_ratio_to_sql": round(rate / plain, 3),
    }


def _ours(database: Database, number: int, batches: int) -> float:
    """Postings a second through the code that PostTransfers commits with."""
    orders = [
        [_post(f"o{number}-{b}-{n}", POOL, _account(n * 7 + b)) for n in range(BATCH)]
        for b in range(batches)
    ]
    started = time.monotonic()
    for posts in orders:
        _commit(database, posts)
    return batches * BATCH / (time.monotonic() - started)


def _bare(database: Database, number: int, batches: int) -> float:
    """The same by one set-based statement: key, transfer with digest, both balances."""
    orders = [
        [_post(f"b{number}-{b}-{n}", POOL, _account(n * 7 + b)) for n in range(BATCH)]
        for b in range(batches)
    ]
    started = time.monotonic()
    for posts in orders:
        accounts = np.array([post.to_pocket.account_id for post in posts])
        amounts = np.array([post.amount for post in posts])
        with database.transaction() as connection:
            driver_of(connection).execute(
                _BARE, (*key_arrays(posts), array("int8", accounts), array("int8", amounts))
            )
    return batches * BATCH / (time.monotonic() - started)


def _commit(database: Database, posts: list[Post]) -> list[object]:
    order = Order(list(enumerate(posts)), len(posts), {}, False)
    return list(post_transfers([order], work=partial(open_ledger, database))[0])


def _post(cause: str, source: Pocket, target: Pocket) -> Post:
    key = blake2b(cause.encode(), digest_size=16).digest()
    return Post(cause, key, 1, source, target, 1, 20_600)


def _account(number: int) -> Pocket:
    return Pocket(0, 64 * (1000 + number % 20_000), PocketKind.AVAILABLE, REDUCTION)


def _fund(connection: sa.Connection, pocket: Pocket, amount: int) -> None:
    connection.execute(
        sa.text(
            "insert into pocket (account_id, balance, floor, version, asset, kind, shard)"
            " values (:account, :amount, 0, 0, 1, :kind, 0)"
        ),
        {"account": pocket.account_id, "amount": amount, "kind": int(pocket.kind)},
    )
