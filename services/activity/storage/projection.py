"""Writing the projection: where accounts stand, and whom sources mean by their subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg

from shared.storage.bulk import Array, array

NEVER_US = -62_135_596_800_000_000  # year 1: no moment that is asked about lies before it
FOREVER_US = 253_370_764_800_000_000  # year 9999

# An account moves in the feed for many reasons; most leave what is kept here as it was. Times
# travel as two flat arrays, of which each account takes its slice: every array of every account
# on its own was five times slower, a column for each scope still a fifth.
_ACCOUNTS = """
insert into account_consent as a (account_id, shard, state, cover_from, cover_until)
select account_id, (account_id & 63)::int2, state,
    (%(cover_from)s::timestamptz[])[(row - 1) * %(scopes)s + 1 : row * %(scopes)s],
    (%(cover_until)s::timestamptz[])[(row - 1) * %(scopes)s + 1 : row * %(scopes)s]
from unnest(%(account_id)s::int8[], %(state)s::int2[]) with ordinality
    as r (account_id, state, row)
on conflict (shard, account_id) do update
    set state = excluded.state, cover_from = excluded.cover_from, cover_until = excluded.cover_until
    where (a.state, a.cover_from, a.cover_until)
        is distinct from (excluded.state, excluded.cover_from, excluded.cover_until)
"""
_BOUND = """
select account_id, digest, (extract(epoch from until) * 1000000)::int8
from bound_subject where account_id = any(%s)
"""
_UNBIND = """
delete from bound_subject b using unnest(%s::int2[], %s::uuid[], %s::int8[])
    as gone (shard, digest, account_id)
where b.shard = gone.shard and b.digest = gone.digest and b.account_id = gone.account_id
"""
_BIND = """
insert into bound_subject (shard, digest, account_id, until)
select * from unnest(%s::int2[], %s::uuid[], %s::int8[], %s::timestamptz[])
on conflict (account_id, digest, shard) do update set until = excluded.until
"""

Binding = tuple[int, bytes]
"""Account number and digest of the subject."""


@dataclass(frozen=True)
class Standings:
    """How accounts stand, an element each: number and state, and for each as many times as there
    are scopes, by code from 1: from when on behaviour is covered, and until when the consent is
    in force. `subjects` says until when each binding holds. Times are microseconds since 1970.

    Lists of numbers and not objects of accounts: of those a catch-up makes millions.
    """

    scopes: int
    account_id: list[int]
    state: list[int]
    cover_from_us: list[int]
    cover_until_us: list[int]
    subjects: dict[Binding, int]

    @staticmethod
    def of(accounts: int, scopes: int) -> Standings:
        """Room for so many accounts, of which nothing is covered or bound."""
        nothing = [NEVER_US] * (scopes * accounts)
        return Standings(scopes, [], [], nothing, nothing.copy(), {})

    def cover(self, row: int, code: int, from_us: int, until_us: int) -> None:
        """What is done from `from_us` on is covered, for the account at `row`, until `until_us`."""
        place = self.scopes * row + code - 1
        self.cover_from_us[place], self.cover_until_us[place] = from_us, until_us


def write_projection(connection: psycopg.Connection[Any], standings: Standings) -> None:
    """Makes the projection say what `standings` say of their accounts, and of no other.

    A subject that moves is a row for each of its accounts until the one it left says so.
    Workers follow different shards, so either may come first, or a snapshot of before after
    one of afterwards; a row is only ever touched by what its own account says.
    """
    account_id = np.array(standings.account_id, np.int64)
    order = np.lexsort((account_id, account_id & 63))

    def times(values: list[int]) -> Array:
        rows = np.array(values, np.int64).reshape(-1, standings.scopes)
        return array("timestamptz", rows[order].ravel())

    connection.execute(
        _ACCOUNTS,
        {
            "account_id": array("int8", account_id[order]),
            "state": array("int2", np.array(standings.state, np.int64)[order]),
            "cover_from": times(standings.cover_from_us),
            "cover_until": times(standings.cover_until_us),
            "scopes": standings.scopes,
        },
    )
    rows = connection.execute(_BOUND, (array("int8", account_id),)).fetchall()
    before = {(account, digest.bytes): until_us for account, digest, until_us in rows}
    after = standings.subjects
    gone = sorted(before.keys() - after.keys())
    if gone:
        connection.execute(_UNBIND, _binding_arrays(gone))
    bound = sorted(binding for binding in after if after[binding] != before.get(binding))
    if bound:
        until_us = np.array([after[binding] for binding in bound], np.int64)
        connection.execute(_BIND, (*_binding_arrays(bound), array("timestamptz", until_us)))


def _binding_arrays(bindings: Sequence[Binding]) -> tuple[Any, Any, Any]:
    digests = np.frombuffer(b"".join(digest for _, digest in bindings), np.uint8).reshape(-1, 16)
    return (
        array("int2", digests[:, 0].astype(np.int64) & 63),
        array("uuid", digests),
        array("int8", np.array([account_id for account_id, _ in bindings], np.int64)),
    )
