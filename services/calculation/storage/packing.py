"""Assessments as columns: out of packed rows, joined, the newest of each activity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.assess import Acts, Assessed
from services.calculation.storage.tables import COLUMN_WIDTHS
from shared.storage.bulk import unpack

Ints = NDArray[np.int64]


def joined(parts: Sequence[Assessed]) -> Assessed:
    """All of `parts`, one after the other; the empty one of no parts."""
    parts = parts or [unpacked([], [])]
    acts = Acts(
        **{
            name: np.concatenate([getattr(part.acts, name) for part in parts])
            for name in vars(parts[0].acts)
        }
    )
    own = [field.name for field in fields(Assessed) if field.name != "acts"]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in own}
    return Assessed(acts=acts, **columns)


def newest_of_each(assessed: Assessed) -> Assessed:
    """The last assessment of each activity (columns are in feed order), in record order."""
    acts = assessed.acts
    order = np.lexsort((np.arange(len(acts)), acts.activity_position, acts.shard))
    key = acts.activity_position[order]
    shard = acts.shard[order]
    last = np.append((key[1:] != key[:-1]) | (shard[1:] != shard[:-1]), True)[: len(order)]
    return assessed.take(order[last])


def columns_of(assessed: Assessed) -> dict[str, Ints]:
    """Every column by name."""
    own = {name: value for name, value in vars(assessed).items() if name != "acts"}
    return {**vars(assessed.acts), **own}


def unpacked(rows: Sequence[Sequence[bytes]], counts: Sequence[int]) -> Assessed:
    """Packed rows (columns in the order of COLUMN_WIDTHS) as one set of columns."""
    values = {
        name: unpack([row[place] for row in rows], counts, width)
        for place, (name, width) in enumerate(COLUMN_WIDTHS.items())
    }
    for name in ("delta", "previous_class"):
        values.pop(name)
    own = {field.name: values.pop(field.name) for field in fields(Assessed) if field.name != "acts"}
    return Assessed(acts=Acts(shard=values["account_id"] & 63, **values), **own)
