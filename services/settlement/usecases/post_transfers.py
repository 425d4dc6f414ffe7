"""Posting transfers that siblings ask for: judged in order, replayed safely, one commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.settlement.domain.judge import Judged, Known, Post, judge
from services.settlement.domain.pockets import Pocket
from shared.refusal import Refusal, RetryLater

ATTEMPTS_MAX = 8


class Raced(Exception):
    """Another transaction was first; roll back and look again."""


class PocketsNew(Exception):
    """A transfer moves into pockets that nobody has made; nothing can be locked of them."""

    def __init__(self, pockets: Sequence[Pocket]) -> None:
        super().__init__(f"{len(pockets)} pockets")
        self.pockets = pockets


class Ledger(Protocol):
    """What posting needs of storage; see `storage.ledger.Ledger`."""

    def check_not_halted(self) -> None: ...
    def make(self, pockets: Sequence[Pocket]) -> None: ...
    def known(self, posts: Sequence[Post]) -> dict[bytes, Known]: ...
    def lock(self, pockets: Sequence[Pocket]) -> dict[Pocket, int]: ...
    def write_moves(
        self, posts: Sequence[Post], changes: dict[Pocket, int]
    ) -> NDArray[np.int64]: ...


@dataclass(frozen=True)
class Order:
    """One caller's posts; `refused` holds those that were malformed, by index."""

    posts: Sequence[tuple[int, Post]]
    size: int
    refused: dict[int, Refusal]
    all_or_none: bool


@dataclass(frozen=True)
class Posted:
    """Where a transfer stands in the book, and whether it stood there before."""

    shard: int
    position: int
    repeated: bool


def post_transfers(
    orders: Sequence[Order], *, work: Callable[[], AbstractContextManager[Ledger]]
) -> list[list[Posted | Refusal]]:
    """One transaction for all orders, in order; an answer for each post of each order."""
    new: Sequence[Pocket] = ()
    for _ in range(ATTEMPTS_MAX):
        try:
            with work() as ledger:
                if new:
                    ledger.make(new)
                return _post(orders, ledger)
        except PocketsNew as found:
            new = found.pockets
        except Raced:
            continue
    raise RetryLater(
        f"the same pockets kept moving under us, {ATTEMPTS_MAX} times; send the same again",
        cause="race for pockets",
    )


def _post(orders: Sequence[Order], ledger: Ledger) -> list[list[Posted | Refusal]]:
    ledger.check_not_halted()
    posts = [post for order in orders for _, post in order.posts]
    known = ledger.known(posts) if posts else {}
    wanted = [pocket for post in posts for pocket in (post.from_pocket, post.to_pocket)]
    held = ledger.lock(wanted) if posts else {}
    balances = dict(held)
    outcomes: list[Judged] = []
    accepted: list[Post] = []
    changes: dict[Pocket, int] = {}
    placed: dict[bytes, int] = {}
    for order in orders:
        mine = [post for _, post in order.posts]
        # What earlier orders of this transaction posted counts as known, by its place.
        mixed = {
            **known,
            **{k: Known(accepted[i].body, -1, i) for k, i in placed.items()},
        }
        whole = not (order.all_or_none and order.refused)
        judged = judge(mine if whole else [], mixed, balances, all_or_none=order.all_or_none)
        outcomes.append(judged)
        for index in judged.accepted:
            placed[mine[index].key] = len(accepted)
            accepted.append(mine[index])
        for pocket, change in judged.changes.items():
            balances[pocket] = balances.get(pocket, 0) + change
            changes[pocket] = changes.get(pocket, 0) + change
    if not changes.keys() <= held.keys():
        raise PocketsNew([pocket for pocket in changes if pocket not in held])
    positions = ledger.write_moves(accepted, changes) if accepted else np.zeros(0, np.int64)
    return [
        _answers(order, judged, accepted, placed, positions)
        for order, judged in zip(orders, outcomes, strict=True)
    ]


def _answers(
    order: Order,
    judged: Judged,
    accepted: Sequence[Post],
    placed: dict[bytes, int],
    positions: NDArray[np.int64],
) -> list[Posted | Refusal]:
    """The answer to each post of `order`, malformed ones included."""
    answers: list[Posted | Refusal | None] = [None] * order.size
    for index, refusal in order.refused.items():
        answers[index] = refusal
    for place, (index, post) in enumerate(order.posts):
        if place in judged.refused:
            answers[index] = judged.refused[place]
            continue
        earlier = judged.repeated.get(place)
        if isinstance(earlier, Known) and earlier.shard >= 0:
            answers[index] = Posted(earlier.shard, earlier.position, True)
        elif post.key in placed:
            at = placed[post.key]
            shard = accepted[at].from_pocket.shard
            answers[index] = Posted(shard, int(positions[at]), earlier is not None)
        else:
            answers[index] = next(iter(order.refused.values()))
    return [answer for answer in answers if answer is not None]
