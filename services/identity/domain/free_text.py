"""What staff write in their own words about an account: why it was read, suspended, closed."""

from __future__ import annotations

import unicodedata

from shared.personal import looks_personal
from shared.refusal import FieldInvalid

# Control characters, invisible ones that turn a line of text around, and breaks of lines.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def check_free_text(field: str, text: str, *, required: bool = True) -> None:
    """FIELD_INVALID unless `text` is one plain line without phone, card or identity number.

    The message does not repeat the text.
    """
    if required and not text.strip():
        raise FieldInvalid(field, f"{field} is empty; say why, for the holder and for auditors")
    for place, character in enumerate(text):
        if unicodedata.category(character) in _INVISIBLE:
            raise FieldInvalid(
                field,
                f"{field} has the invisible character U+{ord(character):04X} at place {place + 1}; "
                "it must be one plain line",
            )
    kind = looks_personal(text)
    if kind is not None:
        raise FieldInvalid(
            field, f"{field} holds what looks like a {kind}; say why without personal data"
        )
