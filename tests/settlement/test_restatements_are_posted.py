"""A restated act leaves what it was and comes into what it is: split, netted, covered, booked."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from hashlib import sha256

import numpy as np
import pytest
import sqlalchemy as sa
from carbonaccount.calculation.v1 import assessment_service_pb2 as pb

from services.settlement.domain.judge import Post
from services.settlement.domain.netting import Leaves, net, split
from services.settlement.domain.pockets import Kind, Pocket, PocketKind
from services.settlement.followers.assessment_follower import FEED, AssessmentApplier
from services.settlement.storage.auditor import audit_shard
from services.settlement.storage.ledger import open_ledger
from services.settlement.storage.reader import Reader
from services.settlement.usecases.post_transfers import Order, Posted, post_transfers
from services.settlement.wiring import MIGRATIONS
from shared.feed.cursors import read_cursors
from shared.storage.bulk import pack
from shared.storage.engine import Database
from shared.storage.migrate import migrate

OLD, NEW, POINTS, NOTHING = 1, 2, 3, 0
ASSETS = {OLD: "reduction", NEW: "reduction", POINTS: "point:steps"}
MINE, THEIRS, DAY = 64, 128, 20_600
Act = tuple[int, int, int, int, int, int]
"""Account, position of the activity, class, amount, delta, previous class."""


def ints(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, np.int64)


def leaves_of(*acts: Act) -> Leaves:
    """The acts as leaves of shard 0 at positions from 1 on, split where their class changed."""
    account, activity, asset_class, amount, delta, previous = (
        ints(*column) for column in zip(*acts, strict=True)
    )
    zeros = np.zeros_like(account)
    places = np.arange(1, len(acts) + 1)
    leaves = Leaves(zeros, places, account, activity, asset_class, zeros + DAY, delta)
    return split(leaves, amount, previous)


def told(leaves: Leaves) -> list[tuple[int, int, int]]:
    """Position, class and delta of each leaf."""
    columns = leaves.position.tolist(), leaves.asset_class.tolist(), leaves.delta.tolist()
    return list(zip(*columns, strict=True))


def digest(*leaves: tuple[int, int, int]) -> bytes:
    """What a transfer of these leaves (position, activity, delta) carries."""
    return sha256(b"".join(struct.pack(">qqq", *leaf) for leaf in leaves)).digest()


def lines(*acts: Act) -> dict[tuple[int, int], tuple[int, int, bytes]]:
    """Amount, leaves and digest that the acts come to, by account and class."""
    netted = net(leaves_of(*acts))
    return {
        (account, asset_class): (amount, count, leaf.tobytes())
        for account, asset_class, amount, count, leaf in zip(
            netted.account_id.tolist(), netted.asset_class.tolist(), netted.amount.tolist(),
            netted.leaf_count.tolist(), netted.leaf_digest, strict=True,
        )
    }  # fmt: skip


def test_an_act_of_the_same_class_is_one_leaf_of_its_difference() -> None:
    acts = (MINE, 7, OLD, 400, -600, 0), (MINE, 8, OLD, 90, 90, 0)
    assert told(leaves_of(*acts)) == [(1, OLD, -600), (2, OLD, 90)]
    assert lines(*acts) == {(MINE, OLD): (-510, 2, digest((1, 7, -600), (2, 8, 90)))}


def test_an_act_of_another_class_comes_whole_and_what_it_was_goes_after_it() -> None:
    acts = (MINE, 6, OLD, 5, 5, 0), (MINE, 7, NEW, 400, -600, OLD), (THEIRS, 8, NEW, 90, 90, 0)
    assert told(leaves_of(*acts)) == [
        (1, OLD, 5), (2, NEW, 400), (2, OLD, -1000), (3, NEW, 90)
    ]  # fmt: skip
    assert lines(*acts) == {
        (MINE, OLD): (-995, 2, digest((1, 6, 5), (2, 7, -1000))),
        (MINE, NEW): (400, 1, digest((2, 7, 400))),
        (THEIRS, NEW): (90, 1, digest((3, 8, 90))),
    }


def test_an_act_that_nothing_credits_any_more_only_goes() -> None:
    assert lines((MINE, 7, NOTHING, 0, -1000, OLD)) == {
        (MINE, OLD): (-1000, 1, digest((1, 7, -1000)))
    }


def test_an_act_that_is_credited_for_the_first_time_only_comes() -> None:
    assert told(leaves_of((MINE, 7, NEW, 400, 400, 0))) == [(1, NEW, 400)]


def test_an_act_restated_twice_in_one_run_passes_through_the_class_between() -> None:
    acts = (MINE, 7, NEW, 400, -600, OLD), (MINE, 7, POINTS, 9, -391, NEW)
    assert lines(*acts) == {
        (MINE, OLD): (-1000, 1, digest((1, 7, -1000))),
        (MINE, POINTS): (9, 1, digest((2, 7, 9))),
    }


def test_an_act_whose_class_alone_changed_moves_its_whole_amount() -> None:
    found = lines((MINE, 7, NEW, 400, 0, OLD))
    assert {key: line[0] for key, line in found.items()} == {(MINE, OLD): -400, (MINE, NEW): 400}


# Through the follower into the book


class Book:
    """The ledger behind its follower, and the feed as it comes."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.applier = AssessmentApplier(database, lambda: None)
        with database.transaction() as connection:
            self.applier.begin(read_cursors(connection, FEED, [0]))
        self._position = 1

    def post(self, *acts: Act) -> None:
        """One run of assessments."""
        account, activity, asset_class, amount, delta, previous = zip(*acts, strict=True)
        size = len(acts)

        def column(values: tuple[int, ...], width: int) -> bytes:
            return pack(ints(*values), width, ints(size))[0]

        run = pb.AssessmentRun(
            shard=0, position=self._position, count=size, account_id=column(account, 8),
            activity_position=column(activity, 8), asset_class=column(asset_class, 4),
            civil_day=column((DAY,) * size, 4), amount=column(amount, 8), delta=column(delta, 8),
            previous_class=column(previous, 4),
        )  # fmt: skip
        self._position += size
        classes = [pb.AssetClass(code=code, asset=asset) for code, asset in ASSETS.items()]
        self.applier.apply([pb.WatchAssessmentsResponse(runs=[run], asset_classes=classes)])

    def spend(self, amount: int) -> None:
        """The account gives so many milligrams to the bank's pool."""
        pool, own = Pocket(0, 0, PocketKind.POOL, 1), Pocket(0, MINE, PocketKind.AVAILABLE, 1)
        cause = f"spend-{amount}"
        post = Post(cause, cause.encode().ljust(16, b"\0"), amount, own, pool, amount, DAY)
        order = Order([(0, post)], 1, {}, False)
        ((answer,),) = post_transfers([order], work=partial(open_ledger, self.database))
        assert isinstance(answer, Posted)

    def holdings(self, account: int = MINE) -> dict[str, tuple[int, int]]:
        """Balance, and what was forgiven, of each asset."""
        with self.database.transaction() as connection:
            held = Reader(connection).holdings(account)
        return {one.asset: (one.balance, one.forgiven) for one in held}

    def house(self, kind: PocketKind) -> dict[int, int]:
        """Balance of a pocket of the shard, by asset."""
        with self.database.transaction() as connection:
            rows = connection.execute(
                sa.text("select asset, balance from pocket where account_id = 0 and kind = :kind"),
                {"kind": kind.value},
            )
            return {asset: balance for asset, balance in rows}

    def transfers(self) -> list[tuple[int, int, int]]:
        """Kind, class and amount of every transfer, in order."""
        with self.database.transaction() as connection:
            feed = Reader(connection).feed({0: 0}, 100)
        return [(one.kind, one.asset_class, one.amount) for one in feed]

    def adds_up(self) -> bool:
        with self.database.transaction() as connection:
            return audit_shard(connection, 0)


@pytest.fixture
def book(database_url: str) -> Iterator[Book]:
    migrate(database_url, MIGRATIONS)
    with closing(Database(database_url)) as database:
        book = Book(database)
        with closing(book.applier):
            yield book


def test_a_restated_act_is_taken_back_and_earned_anew_and_the_balance_is_the_new_amount(
    book: Book,
) -> None:
    book.post((MINE, 7, OLD, 1000, 1000, 0), (THEIRS, 8, OLD, 50, 50, 0))
    book.post((MINE, 7, NEW, 400, -600, OLD))
    assert book.holdings() == {"reduction": (400, 0)}
    assert book.holdings(THEIRS) == {"reduction": (50, 0)}
    assert book.transfers()[2:] == [(Kind.REVERSE, OLD, 1000), (Kind.EARN, NEW, 400)]
    assert book.house(PocketKind.ISSUE) == {1: -450}
    assert book.adds_up()


def test_an_account_that_has_less_than_is_taken_back_is_forgiven_the_rest(book: Book) -> None:
    book.post((MINE, 7, OLD, 1000, 1000, 0))
    book.spend(700)
    book.post((MINE, 7, NEW, 100, -900, OLD))
    assert book.holdings() == {"reduction": (0, 600)}
    assert book.house(PocketKind.BUFFER) == {1: -600}
    assert book.house(PocketKind.POOL) == {1: 700}
    assert book.house(PocketKind.ISSUE) == {1: -100}
    assert book.transfers()[2:] == [
        (Kind.FORGIVE, OLD, 600), (Kind.REVERSE, OLD, 1000), (Kind.EARN, NEW, 100),
    ]  # fmt: skip
    assert book.adds_up()


@pytest.mark.parametrize(("amount", "forgiven"), [(700, 0), (699, 1)])
def test_all_that_is_free_may_be_taken_back_and_one_milligram_more_is_forgiven(
    book: Book, amount: int, forgiven: int
) -> None:
    book.post((MINE, 7, OLD, 1000, 1000, 0))
    book.spend(700)
    book.post((MINE, 7, NEW, amount, amount - 1000, OLD))
    assert book.holdings() == {"reduction": (0, forgiven)}
    assert book.house(PocketKind.BUFFER) == ({1: -forgiven} if forgiven else {})
    assert book.adds_up()


def test_an_act_that_counts_points_now_takes_its_grams_and_brings_its_points(book: Book) -> None:
    book.post((MINE, 7, OLD, 1000, 1000, 0), (MINE, 8, POINTS, 5, 5, 0))
    book.spend(700)
    book.post((MINE, 7, POINTS, 2000, 1000, OLD))
    # The 2,000 points that come pay for no gram of the 700 that are gone.
    assert book.holdings() == {"reduction": (0, 700), "point:steps": (2005, 0)}
    assert book.house(PocketKind.BUFFER) == {1: -700}
    assert book.house(PocketKind.ISSUE) == {1: 0, 2: -2005}
    assert book.adds_up()


def test_points_become_grams_of_an_account_that_never_had_any(book: Book) -> None:
    book.post((MINE, 7, POINTS, 5, 5, 0))
    book.post((MINE, 7, NEW, 400, 395, POINTS))
    assert book.holdings() == {"reduction": (400, 0), "point:steps": (0, 0)}
    assert book.adds_up()


def test_an_act_that_nothing_credits_any_more_leaves_nothing_behind(book: Book) -> None:
    book.post((MINE, 7, OLD, 1000, 1000, 0))
    book.post((MINE, 7, NOTHING, 0, -1000, OLD))
    assert book.holdings() == {"reduction": (0, 0)}
    assert book.transfers()[1:] == [(Kind.REVERSE, OLD, 1000)]
    book.post((MINE, 7, NEW, 30, 30, 0))
    assert book.holdings() == {"reduction": (30, 0)}
    assert book.adds_up()
