"""What sources called their events, in rows of before: only a digest of it is kept.

Recording writes the digest alone. Rows that code of before wrote hold the text; they are
rewritten here, some at a time, before the service answers anybody.
"""

from __future__ import annotations

import numpy as np
import sqlalchemy as sa

from services.activity.domain.keys import KEY_BYTES, Keyring
from services.activity.storage.archive import facts
from shared.storage.bulk import array
from shared.storage.engine import Database, driver_of

ROWS_MAX = 2_000

_SHARDS = "select distinct shard from activity_detail where source_event_id is not null"
_FIND = """
select account_id, civil_day, ref, source_event_id from activity_detail
where shard = %s and source_event_id is not null limit %s for update
"""
_DIGEST = """
update activity_detail d set key = n.key, source_event_id = null
from unnest(%s::int8[], %s::int4[], %s::int8[], %s::uuid[]) as n (account_id, civil_day, ref, key)
where d.account_id = n.account_id and d.civil_day = n.civil_day and d.ref = n.ref
"""
_PLACE = """
update event_key k set account_shard = %s
from unnest(%s::int2[], %s::uuid[]) as n (shard, key)
where k.shard = n.shard and k.key = n.key
"""


def digest_event_ids(database: Database, keyring: Keyring, *, rows_max: int = ROWS_MAX) -> int:
    """How many texts became digests; afterwards there is none. A run that is cut short is
    resumed by the next, and two at once share the work."""
    with database.transaction() as connection:
        shards = connection.scalars(sa.text(_SHARDS)).all()
    total = 0
    for shard in shards:
        while True:
            with database.transaction() as connection:
                count = _digest_some(connection, keyring, shard, rows_max)
            total += count
            if count == 0:
                break
    return total


def _digest_some(connection: sa.Connection, keyring: Keyring, shard: int, limit: int) -> int:
    driver = driver_of(connection)
    rows = driver.execute(_FIND, (shard, limit)).fetchall()
    if not rows:
        return 0
    account_id, civil_day, ref, event_ids = zip(*rows, strict=True)
    # The source that an id belongs to stands in the fact.
    recorded = facts(connection, shard, ref)
    digests = [
        keyring.event_key(recorded[of].columns["source"], event_id)
        for of, event_id in zip(ref, event_ids, strict=True)
    ]
    keys = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, KEY_BYTES)
    driver.execute(
        _DIGEST,
        (
            array("int8", np.array(account_id)),
            array("int4", np.array(civil_day)),
            array("int8", np.array(ref)),
            array("uuid", keys),
        ),
    )
    key_shard = keys[:, 0].astype(np.int64) & 63
    driver.execute(_PLACE, (shard, array("int2", key_shard), array("uuid", keys)))
    return len(rows)
