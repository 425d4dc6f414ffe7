"""Double entry by constraint: netting, floors under races, replay, halts."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa

from services.settlement.domain.judge import Post
from services.settlement.domain.netting import Leaves, net
from services.settlement.domain.pockets import Pocket, PocketKind
from services.settlement.storage.auditor import audit_shard
from services.settlement.storage.columns import Changes, Transfers
from services.settlement.storage.ledger import Ledger, open_ledger
from services.settlement.storage.reader import Reader
from services.settlement.usecases.post_run import changes_of, cover, lines_of
from services.settlement.usecases.post_transfers import Order, Posted, post_transfers
from services.settlement.wiring import MIGRATIONS
from shared.feed.cursors import CursorMoved, move_cursors, read_cursors
from shared.refusal import BookHalted, Refusal
from shared.storage.engine import Database
from shared.storage.migrate import migrate

REDUCTION, CLASS = 1, 7


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    migrate(database_url, MIGRATIONS)
    with closing(Database(database_url, connections_max=20)) as database:
        yield database


def leaves_of(rows: list[tuple[int, int, int]]) -> Leaves:
    """Leaves of shard 0 from (account, day, delta), in feed order."""
    account, day, delta = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    places = np.arange(1, len(rows) + 1)
    zeros = np.zeros(len(rows), np.int64)
    return Leaves(zeros, places, account, places, zeros + CLASS, day, delta)


def post_run(database: Database, rows: list[tuple[int, int, int]]) -> None:
    netted = net(leaves_of(rows))
    if not len(netted):
        return
    with database.transaction() as connection:
        ledger = Ledger(connection)
        assets = np.full(len(netted), REDUCTION)
        lines = lines_of(netted, assets, cover(netted, assets, ledger=ledger))
        ledger.change(Changes(**changes_of(lines)))  # type: ignore[arg-type]  # columns by name
        ledger.add(Transfers(**lines), {0: (1, len(rows))})  # type: ignore[arg-type]  # columns by name


def balances(database: Database) -> dict[tuple[int, int], int]:
    with database.transaction() as connection:
        rows = connection.execute(sa.text("select account_id, kind, balance from pocket"))
        return {(account, kind): balance for account, kind, balance in rows}


def move(source: Pocket, target: Pocket, amount: int, cause: str) -> Post:
    return Post(cause, cause.encode().ljust(16, b"\0")[:16], amount, source, target, amount, 20_600)


def post(database: Database, posts: list[Post], whole: bool = False) -> list[Posted | Refusal]:
    order = Order(list(enumerate(posts)), len(posts), {}, whole)
    return post_transfers([order], work=partial(open_ledger, database))[0]


@pytest.mark.parametrize("seed", range(5))
def test_any_split_of_the_feed_into_runs_ends_in_the_same_pockets(
    database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    totals: dict[int, int] = defaultdict(int)
    rows = []
    for _ in range(60):
        account = 64 * chance.randint(1, 4)
        low = -totals[account]
        delta = chance.randint(max(low, -500), 900)
        totals[account] += delta
        rows.append((account, chance.choice((20_600, 20_601)), delta))
    cuts = sorted(chance.sample(range(1, 60), 6))
    for start, end in zip([0, *cuts], [*cuts, 60], strict=True):
        post_run(database, rows[start:end])
    held = balances(database)
    available = {a: b for (a, kind), b in held.items() if kind == PocketKind.AVAILABLE}
    assert available == {a: t for a, t in totals.items() if a in available}
    assert sum(held.values()) == 0
    with database.transaction() as connection:
        assert audit_shard(connection, 0)


def test_what_is_taken_back_beyond_the_balance_is_forgiven_by_the_buffer(
    database: Database,
) -> None:
    pool = Pocket(0, 0, PocketKind.POOL, REDUCTION)
    account = Pocket(0, 64, PocketKind.AVAILABLE, REDUCTION)
    post_run(database, [(64, 20_600, 1000)])
    assert isinstance(post(database, [move(account, pool, 700, "spend")])[0], Posted)
    post_run(database, [(64, 20_600, -1000)])
    held = balances(database)
    assert held[64, PocketKind.AVAILABLE] == 0
    assert held[0, PocketKind.BUFFER] == -700
    assert held[0, PocketKind.POOL] == 700
    with database.transaction() as connection:
        assert Reader(connection).holdings(64)[0].forgiven == 700
    with database.transaction() as connection:
        assert audit_shard(connection, 0)


def test_a_pocket_may_be_emptied_and_not_one_milligram_more(database: Database) -> None:
    pool = Pocket(0, 0, PocketKind.POOL, REDUCTION)
    account = Pocket(0, 64, PocketKind.AVAILABLE, REDUCTION)
    post_run(database, [(64, 20_600, 1000)])
    too_much, all_of_it, empty = post(
        database,
        [
            move(account, pool, 1001, "a"),
            move(account, pool, 1000, "b"),
            move(account, pool, 1, "c"),
        ],
    )
    assert isinstance(all_of_it, Posted)
    assert [getattr(r, "reason", "") for r in (too_much, empty)] == ["BALANCE_TOO_LOW"] * 2


def test_racing_debits_never_take_a_pocket_below_its_floor(database: Database) -> None:
    pool = Pocket(0, 0, PocketKind.POOL, REDUCTION)
    account = Pocket(0, 64, PocketKind.AVAILABLE, REDUCTION)
    post_run(database, [(64, 20_600, 1000)])
    posted: list[int] = []

    def debit(worker: int) -> None:
        for number in range(20):
            posts = [move(account, pool, 3, f"{worker}-{number}-{n}") for n in range(10)]
            posted.append(sum(isinstance(answer, Posted) for answer in post(database, posts)))

    threads = [threading.Thread(target=debit, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = balances(database)
    assert sum(posted) == 333
    assert held[64, PocketKind.AVAILABLE] == 1
    assert sum(held.values()) == 0


def test_a_cause_posts_once_however_many_race_and_other_content_is_refused(
    database: Database,
) -> None:
    pool = Pocket(0, 0, PocketKind.POOL, REDUCTION)
    account = Pocket(0, 64, PocketKind.AVAILABLE, REDUCTION)
    post_run(database, [(64, 20_600, 1000)])
    answers: list[Posted | Refusal] = []
    threads = [
        threading.Thread(
            target=lambda: answers.extend(post(database, [move(account, pool, 10, "once")]))
        )
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(a, Posted) and not a.repeated for a in answers) == 1
    assert len({(a.shard, a.position) for a in answers if isinstance(a, Posted)}) == 1
    other = post(database, [move(account, pool, 11, "once")])[0]
    assert isinstance(other, Refusal)
    assert other.reason == "RESOURCE_EXISTS"
    assert balances(database)[64, PocketKind.AVAILABLE] == 990


def test_a_pocket_that_comes_while_others_wait_is_locked_in_its_turn(
    database: Database, database_url: str
) -> None:
    pool = Pocket(0, 0, PocketKind.POOL, REDUCTION)
    first, second = (Pocket(0, n, PocketKind.AVAILABLE, REDUCTION) for n in (64, 128))
    post_run(database, [(64, 20_600, 1000), (128, 20_600, 1000)])
    address = database_url.replace("+psycopg", "")
    waiting = (
        "select from pg_stat_activity"
        " where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0"
    )
    with (
        psycopg.connect(address) as holding,
        psycopg.connect(address) as locking,
        psycopg.connect(address, autocommit=True) as looking,
        ThreadPoolExecutor(2) as threads,
    ):

        def wait_for(count: int) -> None:
            while len(looking.execute(waiting).fetchall()) < count:
                time.sleep(0.01)

        hold = "select from pocket where account_id = %s and kind = %s for update"
        holding.execute(hold, (64, PocketKind.AVAILABLE))
        late = threads.submit(post, database, [move(first, pool, 10, "late")])
        wait_for(1)
        assert isinstance(post(database, [move(second, pool, 10, "makes it")])[0], Posted)
        locking.execute(hold, (0, PocketKind.POOL))
        other = threads.submit(locking.execute, hold, (64, PocketKind.AVAILABLE))
        wait_for(2)
        holding.commit()
        other.result(30)
        locking.commit()
        assert isinstance(late.result(30)[0], Posted)
    assert balances(database)[0, PocketKind.POOL] == 20


def test_a_refused_transfer_leaves_no_pocket_behind(database: Database) -> None:
    account, new = (Pocket(0, n, PocketKind.AVAILABLE, REDUCTION) for n in (64, 128))
    post_run(database, [(64, 20_600, 1000)])
    pockets = balances(database).keys()
    assert isinstance(post(database, [move(account, new, 1001, "too much")])[0], Refusal)
    assert balances(database).keys() == pockets
    assert isinstance(post(database, [move(account, new, 1000, "all")])[0], Posted)
    assert balances(database)[128, PocketKind.AVAILABLE] == 1000


def test_all_or_none_posts_nothing_when_one_is_refused(database: Database) -> None:
    pool = Pocket(0, 0, PocketKind.POOL, REDUCTION)
    account = Pocket(0, 64, PocketKind.AVAILABLE, REDUCTION)
    post_run(database, [(64, 20_600, 1000)])
    posts = [move(account, pool, 900, "x"), move(account, pool, 900, "y")]
    answers = post(database, posts, whole=True)
    assert all(isinstance(answer, Refusal) for answer in answers)
    assert balances(database)[64, PocketKind.AVAILABLE] == 1000


def test_a_run_applied_twice_is_rolled_back_by_the_cursor(database: Database) -> None:
    with database.transaction() as connection:
        read_cursors(connection, "calculation", [0])
        move_cursors(connection, "calculation", {0: (0, 5)})

    def apply_again() -> None:
        with database.transaction() as connection:
            netted = net(leaves_of([(64, 20_600, 10)]))
            lines = lines_of(netted, np.array([REDUCTION]), np.zeros(1, np.int64))
            Ledger(connection).change(Changes(**changes_of(lines)))  # type: ignore[arg-type]  # columns by name
            move_cursors(connection, "calculation", {0: (0, 5)})

    with pytest.raises(CursorMoved):
        apply_again()
    assert balances(database) == {}


def test_the_database_itself_refuses_a_balance_below_its_floor(database: Database) -> None:
    post_run(database, [(64, 20_600, 10)])
    with (
        pytest.raises(sa.exc.IntegrityError) as caught,
        database.transaction() as connection,
    ):
        connection.execute(sa.text("update pocket set balance = -1 where account_id = 64"))
    assert isinstance(caught.value.orig, psycopg.errors.CheckViolation)


def test_the_auditor_halts_on_the_first_milligram_and_lets_go_when_it_is_mended(
    database: Database,
) -> None:
    pool = Pocket(0, 0, PocketKind.POOL, REDUCTION)
    account = Pocket(0, 64, PocketKind.AVAILABLE, REDUCTION)
    post_run(database, [(64, 20_600, 1000)])

    def corrupt(by: int) -> bool:
        with database.transaction() as connection:
            change = sa.text("update pocket set balance = balance + :by where account_id = 64")
            connection.execute(change, {"by": by})
        with database.transaction() as connection:
            return audit_shard(connection, 0)

    assert not corrupt(1)
    with pytest.raises(BookHalted):
        post(database, [move(account, pool, 1, "halted")])
    assert corrupt(-1)
    assert isinstance(post(database, [move(account, pool, 1, "again")])[0], Posted)
