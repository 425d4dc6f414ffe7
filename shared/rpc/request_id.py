"""The key by which a caller makes its retries safe."""

from __future__ import annotations

from uuid import UUID

from shared.refusal import FieldInvalid


def read_request_id(text: str) -> UUID:
    """The key as it was given; FieldInvalid when it is no UUID written with its hyphens."""
    try:
        key = UUID(text)
    except ValueError:
        key = None
    if key is None or str(key) != text.lower():
        raise FieldInvalid(
            "request_id", f"request_id is {text[:36]!r}; it must be a UUID, 8-4-4-4-12 hex digits"
        )
    return key
