"""Scopes: what a customer can agree to, and the exact words of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from services.identity.domain.strict_rows import (
    ScopesInvalid,
    check_match,
    check_source,
    check_within,
    check_word,
    take_row,
)

CATEGORIES = (
    "UNSPECIFIED",
    "GREEN_FINANCE",
    "GREEN_TRAVEL",
    "GREEN_RECYCLING",
    "GREEN_READING",
    "GREEN_HOME",
)
"""Families of scenes, as carbonaccount.type.v1.Category numbers them; the first means all."""

PURPOSES = ("COLLECT", "SHARE", "TRADE", "LINK")
"""What data may be used for, as Scope.Purpose numbers them from 1."""

_SCOPE_NAME = re.compile(r"(?=.{1,64}\Z)scopes/[a-z0-9]+(?:-[a-z0-9]+)*")
_PARTNER = re.compile(r"(?=.{1,64}\Z)(?:sources|partners)/[a-z0-9]+(?:-[a-z0-9]+)*")
_PROGRAMME = re.compile(r"(?=.{1,64}\Z)programmes/[a-z0-9]+(?:-[a-z0-9]+)*")
_CODE_MAX = 2**15 - 1
_PPM_MAX = 1_000_000
_RETENTION_DAYS_MAX = 36_525  # a hundred years

_CONTROLLER = dict.fromkeys(
    ("party_id", "name_zh", "name_en", "contact", "url", "location", "impact_assessment"), str
)
_MANDATE = {
    "programme": str,
    "venue": str,
    "fee_ppm": int,
    "fee_source": str,
    "sharing_rule_zh": str,
    "sharing_rule_en": str,
    "text_zh": str,
    "text_en": str,
}
_SCOPE = {
    "code": int,
    "name": str,
    "title_zh": str,
    "title_en": str,
    "category": str,
    "purpose": str,
    "recipient": str,
    "sensitive": bool,
    "data_kinds_zh": list[str],
    "data_kinds_en": list[str],
    "retention_days": int,
    "retention_source": str,
    "notice_version": str,
    "notice_zh": str,
    "notice_en": str,
}
_SCOPE_MAY = {"cover_from_earliest": datetime, "partner": str, "mandate": dict}


@dataclass(frozen=True)
class Controller:
    """Who answers for the data: the party that a notice names."""

    party_id: str
    name_zh: str
    name_en: str
    contact: str
    url: str
    location: str
    impact_assessment: str


@dataclass(frozen=True)
class Mandate:
    """What a consent to trade entrusts (委托); `fee_source` says why `fee_ppm` is what it is."""

    programme: str
    venue: str
    fee_ppm: int
    fee_source: str
    sharing_rule_zh: str
    sharing_rule_en: str
    text_zh: str
    text_en: str

    @property
    def terms(self) -> dict[str, str | int]:
        """What the customer is bound by: the fields of the contract's Mandate but the digest."""
        return {name: value for name, value in vars(self).items() if name != "fee_source"}

    @property
    def mandate_digest(self) -> bytes:
        """SHA-256 over the canonical JSON of `terms`, 32 bytes."""
        return hashlib.sha256(canonical_json(self.terms)).digest()


@dataclass(frozen=True)
class Scope:
    """One thing to agree to; `notice_digest` binds a consent to these words and no others.

    `partner` is empty but for a LINK, `mandate` None but for a TRADE, `cover_from_earliest` None
    where the notice offers no earlier cover.
    """

    code: int
    name: str
    title: str
    title_en: str
    category: str
    purpose: str
    recipient: str
    partner: str
    sensitive: bool
    cover_from_earliest: datetime | None
    data_kinds_zh: tuple[str, ...]
    data_kinds_en: tuple[str, ...]
    retention_days: int
    retention_source: str
    notice_version: str
    notice_zh: str
    notice_en: str
    mandate: Mandate | None
    controller: Controller

    @property
    def notice_digest(self) -> bytes:
        """SHA-256 over both texts with a line feed between them, 32 bytes."""
        return hashlib.sha256(f"{self.notice_zh}\n{self.notice_en}".encode()).digest()


def canonical_json(value: object) -> bytes:
    """JSON in one spelling: keys sorted, no space, UTF-8; for values without fractions."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode()


def read_scopes(data: Mapping[str, Any]) -> dict[str, Scope]:
    """Scopes by name, in the order of a parsed catalogue file; raises ScopesInvalid."""
    row = take_row("the catalogue", data, {"controller": dict, "scope": list}, {})
    controller = Controller(**take_row("controller", row["controller"], _CONTROLLER, {}))
    scopes: dict[str, Scope] = {}
    for place, entry in enumerate(row["scope"], 1):
        scope = _scope(f"scope {place}", entry, controller)
        _refuse_doubled(scope, scopes)
        scopes[scope.name] = scope
    return scopes


def words_of(scope: Scope) -> dict[str, Any]:
    """Everything of a scope that a receipt quotes, as JSON can keep it."""
    words = {field.name: getattr(scope, field.name) for field in fields(scope)}
    earliest = scope.cover_from_earliest
    return words | {
        "cover_from_earliest": earliest and earliest.isoformat(),
        "data_kinds_zh": list(scope.data_kinds_zh),
        "data_kinds_en": list(scope.data_kinds_en),
        "mandate": scope.mandate and vars(scope.mandate),
        "controller": vars(scope.controller),
    }


def scope_of(words: Mapping[str, Any]) -> Scope:
    """The scope that `words_of` wrote down."""
    earliest, mandate = words["cover_from_earliest"], words["mandate"]
    more = {
        "cover_from_earliest": earliest and datetime.fromisoformat(earliest),
        "data_kinds_zh": tuple(words["data_kinds_zh"]),
        "data_kinds_en": tuple(words["data_kinds_en"]),
        "mandate": mandate and Mandate(**mandate),
        "controller": Controller(**words["controller"]),
    }
    return Scope(**{**words, **more})


def _scope(entry: str, data: object, controller: Controller) -> Scope:
    row = take_row(entry, data, _SCOPE, _SCOPE_MAY)
    entry = f"{entry} ({row['name']})"
    check_match(entry, "name", row["name"], _SCOPE_NAME, "scopes/travel-collect")
    check_within(entry, "code", row["code"], 1, _CODE_MAX)
    check_word(entry, "category", row["category"], CATEGORIES)
    check_word(entry, "purpose", row["purpose"], PURPOSES)
    check_within(entry, "retention_days", row["retention_days"], 0, _RETENTION_DAYS_MAX)
    check_source(entry, "retention_source", row["retention_source"])
    if not 0 < len(row["data_kinds_zh"]) == len(row["data_kinds_en"]):
        raise ScopesInvalid(
            f"{entry}: data_kinds_zh and data_kinds_en have {len(row['data_kinds_zh'])} and "
            f"{len(row['data_kinds_en'])} entries; name each kind once in both languages"
        )
    partner = _partner(entry, row)
    mandate = _mandate(entry, row)
    return Scope(
        title=row.pop("title_zh"),
        data_kinds_zh=tuple(row.pop("data_kinds_zh")),
        data_kinds_en=tuple(row.pop("data_kinds_en")),
        controller=controller,
        cover_from_earliest=row.pop("cover_from_earliest", None),
        **{**row, "partner": partner, "mandate": mandate},
    )


def _partner(entry: str, row: Mapping[str, Any]) -> str:
    """The partner of a LINK; "" for every other purpose."""
    if ("partner" in row) is not (row["purpose"] == "LINK"):
        raise ScopesInvalid(
            f"{entry}: a LINK, and nothing else, has a partner; this is a {row['purpose']} "
            f"{'with' if 'partner' in row else 'without'} one; name it, or take it out"
        )
    partner: str = row.get("partner", "")
    if partner:
        check_match(entry, "partner", partner, _PARTNER, "sources/metro or partners/unionpay")
    return partner


def _mandate(entry: str, row: Mapping[str, Any]) -> Mandate | None:
    """The mandate of a TRADE; None for every other purpose."""
    if ("mandate" in row) is not (row["purpose"] == "TRADE"):
        raise ScopesInvalid(
            f"{entry}: a TRADE, and nothing else, has a mandate; this is a {row['purpose']} "
            f"{'with' if 'mandate' in row else 'without'} one; write it, or take it out"
        )
    if "mandate" not in row:
        return None
    entry = f"mandate of {entry}"
    mandate = Mandate(**take_row(entry, row["mandate"], _MANDATE, {}))
    check_match(entry, "programme", mandate.programme, _PROGRAMME, "programmes/demo")
    check_within(entry, "fee_ppm", mandate.fee_ppm, 0, _PPM_MAX)
    check_source(entry, "fee_source", mandate.fee_source)
    if mandate.venue not in row["recipient"]:
        raise ScopesInvalid(
            f"{entry}: venue is {mandate.venue!r} and recipient is {row['recipient']!r}; data go "
            "to the venue that sells, so name it in both"
        )
    return mandate


def _refuse_doubled(scope: Scope, others: Mapping[str, Scope]) -> None:
    for other in others.values():
        for word in ("name", "code", "partner"):
            value = getattr(scope, word)
            if value and value == getattr(other, word):
                raise ScopesInvalid(
                    f"{scope.name} and {other.name} share the {word} {value}; give each its own"
                )
