"""Values that are recognised wherever they went: who entered them in which field, and every way in
which a text may be written down."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote_from_bytes

_RARE = range(0x4E00, 0x9FA5)
_LETTERS = "bcdfghjkmnpqrtvwxyz"  # no hexadecimal words, no words of a language
SHORTEST, SHORT = 6, 8
WORD = re.compile("zq[a-z0-9]{12}")


def word() -> str:
    """Fourteen letters and digits that occur nowhere else."""
    return "zq" + "".join(secrets.choice(_LETTERS + "23456789") for _ in range(12))


def chinese() -> str:
    """Eight characters that nobody is called."""
    return "".join(chr(secrets.choice(_RARE)) for _ in range(8))


def order_number() -> str:
    """Twelve digits, as order and bill numbers have; no phone, card or identity number."""
    return f"904{secrets.randbelow(10**9):09d}"


def region() -> str:
    """Six digits of a division that nothing here is about."""
    return f"99{secrets.randbelow(9000) + 1000}"


@dataclass
class Value:
    """One planted value: where it was entered, whose it is, whether a call that carried it was
    answered."""

    text: str
    fields: set[str] = field(default_factory=set)
    owners: set[str] = field(default_factory=set)
    taken: bool = False


class Planted:
    """Everything that was planted, by its text."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}

    def note(self, text: str, where: str, owner: str, *, taken: bool = False) -> str:
        """Remembers `text` as entered in `where` by `owner`, and returns it."""
        if len(text) >= SHORTEST:
            value = self.values.setdefault(text, Value(text))
            value.fields.add(where)
            value.owners.add(owner)
            value.taken = value.taken or taken
        return text

    def taken_in(self, where: str) -> list[str]:
        """The values of a field of which some call that carried them was answered."""
        return [v.text for v in self.values.values() if v.taken and where in v.fields]


def is_short(text: str | bytes) -> bool:
    """Whether a text is a number so short that longer ones hold it by chance."""
    return len(text) <= SHORT and text.isdigit()


def spellings(text: str) -> Iterator[bytes]:
    """Every way in which a program may have written `text` down."""
    plain = text.encode()
    yield plain
    if is_short(text):
        return  # in any other spelling it cannot be told from a part of a longer number
    for other in ("utf-16-le", "utf-16-be"):
        yield text.encode(other)
    for spell in (_hexadecimal, _base64):
        yield from spell(plain)
    if not text.isascii():
        yield from _escaped(text, plain)
    yield quote_from_bytes(plain, safe="").encode()
    yield quote_from_bytes(plain, safe="").lower().encode()


def _hexadecimal(plain: bytes) -> Iterator[bytes]:
    yield plain.hex().encode()
    yield plain.hex().upper().encode()


def _base64(plain: bytes) -> Iterator[bytes]:
    """As it stands inside a longer value, wherever it begins there."""
    encoders: tuple[Callable[[bytes], bytes], ...] = (base64.b64encode, base64.urlsafe_b64encode)
    for before in range(3):
        first, last = -(-before * 8 // 6), (before + len(plain)) * 8 // 6
        for encode in encoders:
            yield encode(bytes(before) + plain)[first:last]


def _escaped(text: str, plain: bytes) -> Iterator[bytes]:
    r"""As JSON (\u4f60), repr of bytes (\xe4) and protobuf's text format (\344) write it."""
    units = text.encode("utf-16-be").hex(" ", 2).split()
    yield "".join(rf"\u{unit}" for unit in units).encode()
    yield "".join(rf"\u{unit.upper()}" for unit in units).encode()
    yield "".join(rf"\x{byte:02x}" for byte in plain).encode()
    yield "".join(rf"\{byte:03o}" for byte in plain).encode()
