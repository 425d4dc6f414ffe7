"""Re-adding a shard of the book: every pocket against its transfers, and all pockets to zero.

A transfer moves within one shard, so each shard's pockets sum to zero by themselves and one
snapshot of one shard proves it.
"""

from __future__ import annotations

import sqlalchemy as sa

_AUDIT = """
with book as (
    select account_id, kind, asset, sum(amount) as amount, sum(transfers) as transfers from (
        select to_account as account_id, to_kind as kind, asset, sum(amount) as amount,
            count(*) as transfers
        from transfer where shard = :shard group by 1, 2, 3
        union all
        select from_account, from_kind, asset, -sum(amount), 0
        from transfer where shard = :shard group by 1, 2, 3
    ) side group by account_id, kind, asset
), compared as (
    select coalesce(p.asset, b.asset) as asset, coalesce(p.kind, b.kind) as kind,
        coalesce(p.balance, 0) as balance, b.transfers,
        abs(coalesce(p.balance, 0) - coalesce(b.amount, 0)) as difference
    from (select * from pocket where shard = :shard) p
    full join book b using (account_id, kind, asset)
)
insert into audit (shard, asset, pockets, difference, issued, transfer_count, audit_time)
select :shard, asset, sum(balance), max(difference),
    -coalesce(sum(balance) filter (where kind in (2, 3)), 0), coalesce(sum(transfers), 0), now()
from compared group by asset
on conflict (shard, asset) do update set pockets = excluded.pockets,
    difference = excluded.difference, issued = excluded.issued,
    transfer_count = excluded.transfer_count, audit_time = excluded.audit_time
returning pockets, difference
"""


def audit_shard(connection: sa.Connection, shard: int) -> bool:
    """Re-adds one shard in one snapshot and writes down what it found; False on any difference."""
    connection.execute(sa.text("set transaction isolation level repeatable read"))
    rows = connection.execute(sa.text(_AUDIT), {"shard": shard}).all()
    return all(pockets == 0 and difference == 0 for pockets, difference in rows)
