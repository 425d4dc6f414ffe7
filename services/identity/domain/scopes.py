"""Scopes: what a customer can agree to, and the exact words of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Scope:
    """One thing to agree to; `notice_digest` binds a consent to these words and no others."""

    code: int
    name: str
    title: str
    category: str
    purpose: str
    recipient: str
    sensitive: bool
    notice_zh: str
    notice_en: str
    notice_digest: bytes
    cover_from_earliest: datetime | None


def read_scopes(data: Mapping[str, Any]) -> dict[str, Scope]:
    """Scopes by name, of a parsed catalogue file."""
    scopes = {}
    for row in data["scope"]:
        words = f"{row['notice_zh']}\n{row['notice_en']}".encode()
        more = {"cover_from_earliest": None, **row}
        scopes[row["name"]] = Scope(**more, notice_digest=hashlib.sha256(words).digest())
    if len({scope.code for scope in scopes.values()}) != len(data["scope"]):
        raise ValueError("two scopes share a name or a code; each needs its own")
    return scopes
