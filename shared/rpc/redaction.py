"""What a log may show of a message: values marked `sensitive` never leave as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from carbonaccount.options.v1 import options_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from shared.personal import looks_personal

REDACTED = "[redacted]"
_TEXT_SHOWN = 64


@cache
def is_sensitive(field: FieldDescriptor) -> bool:
    """Whether the contract keeps this field out of logs."""
    return bool(field.GetOptions().Extensions[options_pb2.sensitive])


def redacted(message: Message) -> dict[str, Any]:
    """The set fields of a message as a log may show them.

    Sensitive fields, and texts like a phone or card number, are replaced at any depth, lists and
    maps are counted, texts are cut.
    """
    shown: dict[str, Any] = {}
    for field, value in message.ListFields():
        if is_sensitive(field):
            shown[field.name] = REDACTED
        elif field.is_repeated:
            shown[field.name] = f"[{len(value)} items]"
        elif isinstance(value, Message):
            shown[field.name] = redacted(value)
        else:
            text = str(value)
            # A name may hold anything that somebody typed in its place.
            shown[field.name] = REDACTED if looks_personal(text) else text[:_TEXT_SHOWN]
    return shown


def without_sensitive(text: str, message: Message) -> str:
    """`text` with every sensitive value of `message` replaced, also where it was quoted."""
    values = {part for value in _sensitive_values(message) for part in _spellings(value)}
    if not values:
        return text
    longest_first = sorted(values, key=len, reverse=True)
    return re.sub("|".join(map(_pattern, longest_first)), REDACTED, text)


def _pattern(value: str) -> str:
    """One- and two-letter values are replaced as whole words, or no text would be left."""
    literal = re.escape(value)
    return literal if len(value) > 2 else rf"(?<!\w){literal}(?!\w)"


def _spellings(value: object) -> tuple[str, ...]:
    """How a value may stand in a text: itself, and as repr() writes it."""
    if isinstance(value, str):
        return (value, repr(value)[1:-1]) if value else ()
    if isinstance(value, bytes):
        return (repr(value)[2:-1], value.hex()) if value else ()
    return (str(value),)


def _sensitive_values(message: Message) -> Iterator[object]:
    for field, value in message.ListFields():
        hidden = is_sensitive(field)
        for item in _items(field, value):
            if isinstance(item, Message):
                yield from _leaves(item) if hidden else _sensitive_values(item)
            elif hidden:
                yield item


def _leaves(message: Message) -> Iterator[object]:
    """Every value inside a message that is sensitive as a whole."""
    for field, value in message.ListFields():
        for item in _items(field, value):
            if isinstance(item, Message):
                yield from _leaves(item)
            else:
                yield item


def _items(field: FieldDescriptor, value: Any) -> list[Any]:
    if not field.is_repeated:
        return [value]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return [*value.keys(), *value.values()]
    return list(value)
