"""Judging transfers in order against locked balances: no pocket ends below its floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.settlement.domain.pockets import Pocket
from shared.refusal import BalanceTooLow, Refusal, ResourceExists


@dataclass(frozen=True)
class Post:
    """A transfer to post. `key` (16 bytes) names its cause, `body` digests its content."""

    cause: str
    key: bytes
    body: int
    from_pocket: Pocket
    to_pocket: Pocket
    amount: int
    civil_day: int


@dataclass(frozen=True)
class Known:
    """A transfer that was posted under a key before."""

    body: int
    shard: int
    position: int


@dataclass
class Judged:
    """What each post comes to: `accepted` are indexes in order; `changes` nets the pockets."""

    accepted: list[int]
    repeated: dict[int, int | Known]
    refused: dict[int, Refusal]
    changes: dict[Pocket, int]


def judge(
    posts: Sequence[Post],
    known: Mapping[bytes, Known],
    balances: Mapping[Pocket, int],
    *,
    all_or_none: bool,
) -> Judged:
    """Accepts posts one after another, each against what those before it left.

    A cause met before, here or in the book, is repeated (same body; in `repeated` with the
    index or the known transfer) or refused. With `all_or_none` one refusal accepts nothing.
    """
    judged = Judged([], {}, {}, {})
    seen: dict[bytes, int] = {}
    for index, post in enumerate(posts):
        earlier = known.get(post.key)
        first = seen.get(post.key)
        if earlier is not None or first is not None:
            body = earlier.body if earlier is not None else posts[first or 0].body
            if body != post.body:
                judged.refused[index] = _conflict(post)
            else:
                judged.repeated[index] = earlier if earlier is not None else first or 0
            continue
        available = balances.get(post.from_pocket, 0) + judged.changes.get(post.from_pocket, 0)
        if available - post.amount < post.from_pocket.floor:
            judged.refused[index] = _too_low(post, available)
            continue
        seen[post.key] = index
        judged.accepted.append(index)
        for pocket, change in ((post.from_pocket, -post.amount), (post.to_pocket, post.amount)):
            judged.changes[pocket] = judged.changes.get(pocket, 0) + change
    if all_or_none and judged.refused:
        return _none(posts, judged)
    return judged


def _none(posts: Sequence[Post], judged: Judged) -> Judged:
    """Nothing is accepted: what would have been is refused for the sake of the others."""
    cause = next(iter(judged.refused.values()))
    refused = {**dict.fromkeys(judged.accepted, cause), **judged.refused}
    repeated: dict[int, int | Known] = {
        i: k for i, k in judged.repeated.items() if isinstance(k, Known)
    }
    refused.update({i: cause for i in judged.repeated if i not in repeated})
    return Judged([], repeated, dict(sorted(refused.items())), {})


def _conflict(post: Post) -> Refusal:
    return ResourceExists(
        f"cause {post.cause!r} was posted with other content; a transfer never changes, "
        "name a new cause",
        field="cause",
        metadata={"resource": post.cause},
    )


def _too_low(post: Post, available: int) -> Refusal:
    pocket = post.from_pocket
    return BalanceTooLow(
        f"{pocket.name} has {available} and may not fall below {pocket.floor}; {post.amount} "
        "was asked",
        field="amount",
        metadata={"pocket": pocket.name, "available": available, "asked": post.amount},
    )
