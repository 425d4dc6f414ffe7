"""Codes that people show or type: made from a secret, so that none of them is ever stored."""

from __future__ import annotations

from services.identity.domain.digest import keyed_digest
from shared.ids import encode32

CODE_CHARACTERS = 10
_CODE_BITS = 5 * CODE_CHARACTERS
# Crockford's alphabet has no o, i and l, because people read and write them as 0 and 1.
_AS_TYPED = str.maketrans("oil", "011", " -")


def make_code(secret: bytes, purpose: str, key: bytes) -> str:
    """The code that belongs to `key`, 50 bits as ten characters of base 32; always the same."""
    digest = keyed_digest(secret, f"{purpose} code", key)
    return encode32(int.from_bytes(digest) >> 8 * len(digest) - _CODE_BITS, CODE_CHARACTERS)


def code_digest(secret: bytes, purpose: str, code: str, *parts: str) -> bytes:
    """16 bytes under which a code that belongs to `parts` is kept.

    However it was typed: capitals, spaces, hyphens, and o, i, l for 0 and 1 do not matter.
    """
    return keyed_digest(secret, f"{purpose} code digest", code.lower().translate(_AS_TYPED), *parts)
