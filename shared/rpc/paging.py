"""Pages: the size rule, and tokens that only the same query opens again."""

from __future__ import annotations

import base64
import hmac
import json
from hashlib import sha256
from typing import Any

from shared.refusal import FieldInvalid, PageTokenInvalid

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 500
_MAC_BYTES = 16


def page_size_of(asked: int) -> int:
    """0 means 50, above 500 is cut to 500, below 0 is refused."""
    if asked < 0:
        raise FieldInvalid("page_size", f"page_size is {asked}; it must be 0 to {PAGE_SIZE_MAX}")
    return min(asked or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


class PageTokens:
    """Seals the key of a page's last row together with the query it belongs to.

    A token can be read but not made or changed without the secret. It is text for a URL.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def seal(self, last: tuple[Any, ...], *query: str) -> str:
        """The token of the page after `last`, whole numbers and texts, of this query: its method,
        parent and filters."""
        body = json.dumps(last, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._mac(body, query) + body).decode().rstrip("=")

    def open(self, token: str, *query: str) -> tuple[Any, ...] | None:
        """The key that was sealed, None for the first page; PageTokenInvalid otherwise."""
        if not token:
            return None
        try:
            data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            data = b""
        body = data[_MAC_BYTES:]
        if not hmac.compare_digest(data[:_MAC_BYTES], self._mac(body, query)):
            raise PageTokenInvalid(
                "page_token is not of this query; start again without one", field="page_token"
            )
        return tuple(json.loads(body))

    def _mac(self, body: bytes, query: tuple[str, ...]) -> bytes:
        text = json.dumps(query).encode() + b"\0" + body
        return hmac.digest(self._secret, text, sha256)[:_MAC_BYTES]
