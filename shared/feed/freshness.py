"""Freshness tokens: which change a copy must have followed to be fresh enough.

A token names a place in the feed of one service; it is no secret and needs no check beyond its
shape. A reader that keeps a copy is as fresh as the token once its cursor is there.
"""

from __future__ import annotations

import base64
import binascii
import re

from shared.ids import SHARDS
from shared.refusal import FieldInvalid

_SHAPE = re.compile(r"([a-z]{1,16}):([0-9]{1,2}):([0-9]{1,18})")


def freshness_token(feed: str, shard: int, position: int) -> str:
    """The token of a change at `position` of `shard` of `feed`; "" when nothing was changed (0)."""
    if not position:
        return ""
    return base64.urlsafe_b64encode(f"{feed}:{shard}:{position}".encode()).decode().rstrip("=")


def read_freshness_token(token: str) -> tuple[str, int, int]:
    """Feed, shard and position of a token; FieldInvalid when it is none."""
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        text = b""
    found = _SHAPE.fullmatch(text.decode("ascii", "replace"))
    if found is None or int(found[2]) >= SHARDS:
        raise FieldInvalid(
            "freshness_token", "freshness_token is none that a change returned; send it as it came"
        )
    return found[1], int(found[2]), int(found[3])
