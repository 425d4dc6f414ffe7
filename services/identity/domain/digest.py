"""Keyed digests: what identity remembers of a customer or a request without knowing it."""

from __future__ import annotations

import hashlib
import hmac

CUSTOMER, PERSON, REQUEST, CONTENT = "customer", "person", "request", "content"


def keyed_digest(secret: bytes, purpose: str, *parts: str | bytes) -> bytes:
    """16 bytes of HMAC-SHA-256 over `parts`; equal only for the same purpose and parts."""
    code = hmac.new(secret, purpose.encode(), hashlib.sha256)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        code.update(len(data).to_bytes(4, "big") + data)
    return code.digest()[:16]
