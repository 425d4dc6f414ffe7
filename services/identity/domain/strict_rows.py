"""Rows of a catalogue file, read strictly: what is unknown, missing or of another kind is refused.

`entry` is how a refusal names the row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_KINDS = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    list[str]: "a list of texts",
    dict: "a table",
    datetime: "a moment with its offset, such as 2026-04-01T00:00:00+08:00",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_STATUSES = ("law: ", "decision: ")


class ScopesInvalid(Exception):
    """The catalogue of scopes breaks a rule; the text names the entry, the rule and the way out."""


def take_row(
    entry: str, data: object, must: Mapping[str, Any], may: Mapping[str, Any]
) -> dict[str, Any]:
    """A copy of `data` that has every key of `must`, maybe those of `may`, and no other.

    Both name the kind of each value; a text is one line and not empty.
    """
    if not isinstance(data, Mapping):
        raise ScopesInvalid(f"{entry} is {data!r}; write it as a table of keys and values")
    for key in sorted(data.keys() - must.keys() - may.keys()):
        raise ScopesInvalid(f"{entry} has {key}, which no rule knows; use {', '.join(must)}")
    for key in must:
        if key not in data:
            raise ScopesInvalid(f"{entry} has no {key}; write {_KINDS[must[key]]}")
    for key, value in data.items():
        _check_kind(entry, key, value, must[key] if key in must else may[key])
    return dict(data)


def _check_kind(entry: str, key: str, value: object, kind: Any) -> None:
    plain = list if kind == list[str] else kind
    if type(value) is not plain or (isinstance(value, datetime) and value.tzinfo is None):
        # Exactly that type: True is no code.
        raise ScopesInvalid(f"{entry}: {key} is {value!r}; write {_KINDS[kind]}")
    texts: Any = [value] if kind is str else value if kind == list[str] else []
    for text in texts:
        if type(text) is not str or not text.strip() or _CONTROL.search(text):
            raise ScopesInvalid(
                f"{entry}: {key} has {text!r}; write a text of one line that is not empty"
            )


def check_match(entry: str, key: str, value: str, rule: re.Pattern[str], example: str) -> None:
    """Refuses a text that is not of the form of `example`."""
    if rule.fullmatch(value) is None:
        raise ScopesInvalid(
            f"{entry}: {key} is {value!r}; write it like {example}, at most 64 characters"
        )


def check_within(entry: str, key: str, value: int, least: int, most: int) -> None:
    """Refuses a number below `least` or above `most`."""
    if not least <= value <= most:
        raise ScopesInvalid(f"{entry}: {key} is {value}; it must be {least} to {most}")


def check_word(entry: str, key: str, value: str, words: tuple[str, ...]) -> None:
    """Refuses a word that is none of `words`."""
    if value not in words:
        raise ScopesInvalid(f"{entry}: {key} is {value!r}; use one of {', '.join(words)}")


def check_source(entry: str, key: str, value: str) -> None:
    """Refuses a source that is neither a law nor a decision with its reason."""
    if not value.startswith(_STATUSES):
        raise ScopesInvalid(
            f"{entry}: {key} is {value!r}; begin with 'law: ' and the article, or with "
            "'decision: ' and the reason"
        )
