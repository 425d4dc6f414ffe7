"""Numbers that name a person, found where they do not belong: in ids and in free text.

A guard against accidents, not against somebody who hides a number on purpose.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

# Ids of machines seldom come further than these three; the last costs most.
_LONG = re.compile(r"[1-9](?<![0-9].)[0-9 -]{10}", re.DOTALL)
# What `_LONG` misses of 0086: a separator before the 8 or the 6 would show it.
_ABROAD = "086"
# Looking for a digit first saves three attempts at every letter.
_PERHAPS = re.compile(
    r"(?<![0-9])(?=[0-9])(?:"
    r"(?:(?:0[ -]*0[ -]*)?8[ -]*6[ -]*)?1[ -]*[3-9](?:[ -]*[0-9]){9}(?![0-9])"
    r"|(?:4|6[ -]*[02589]|5[ -]*[1-5]|2[ -]*[2-7]|3[ -]*[457]|9[ -]*5(?=[ -]*5[ -]*[89]))"
    r"(?:[ -]*[0-9]){13}"
    r"|[1-9](?:[ -]*[0-9]){5}[ -]*(?:1[ -]*[89]|2[ -]*0)(?:[ -]*[0-9]){9}[ -]*[0-9Xx]"
    r")"
)
_RUN = re.compile(r"[0-9](?:[ -]*[0-9])*(?:[ -]*[Xx](?![0-9A-Za-z]))?")
_GROUP = re.compile(r"[0-9]+[Xx]?|[Xx]")
# UUIDs and hexadecimal digests hold eleven digits between two letters once in a thousand times.
_MACHINE_MADE = re.compile(
    r"(?<![0-9A-Za-z])(?=[0-9-]*[A-Fa-f])"
    r"(?:[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}|[0-9A-Fa-f]{24,})(?![0-9A-Za-z])"
)
_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−﹣－"), "-")

_PHONE = re.compile(r"(?:(?:00)?86)?1[3-9][0-9]{9}")
# Beside the issuers of the world, 60, 65, 68, 69, 9558 and 9559: debit cards older than UnionPay's
# 62. An order number that begins like a card has the right checksum once in ten times, and is
# refused then.
_CARD = re.compile(r"(?=4|6[02589]|5[1-5]|2[2-7]|3[457]|955[89])[0-9]{15,19}")
# A number of eighteen digits has the right checksum once in eleven times; its date tells it apart.
_IDENTITY = re.compile(
    r"[1-9][0-9]{5}(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx]"
)
_LONGEST = 19
_GROUP_MIN = 3


def looks_personal(text: str) -> str | None:
    """The kind of number that `text` holds: phone, card or identity number; None without one.

    A number is bounded by non-digits; spaces and hyphens inside it do not count, and digits of
    any script do. Phone: eleven digits from 13 to 19 on, with or without 86 or 0086. Card: 15 to
    19 digits of a known issuer that pass Luhn. Identity: eighteen with a birthday and the right
    checksum. UUIDs and hexadecimal words of 24 characters and more are not looked into.
    """
    if not text.isascii():
        text = "".join(str(unicodedata.digit(character, character)) for character in text)
        text = unicodedata.normalize("NFKC", text).translate(_DASHES)
    if _LONG.search(text) is None and _ABROAD not in text:
        return None
    if _PERHAPS.search(text) is None:
        return None
    for run in _RUN.findall(_MACHINE_MADE.sub(".", text)):
        for number in _numbers(_GROUP.findall(run)):
            if kind := _kind(number):
                return kind
    return None


def _numbers(groups: list[str]) -> Iterator[str]:
    """What a run may say: all of it, and neighbouring groups as people write long numbers.

    Shorter groups inside a longer run are no number: a date with its time would be one.
    """
    yield "".join(groups)
    for first in range(len(groups)):
        number = ""
        for group in groups[first : first + _LONGEST // _GROUP_MIN]:
            number += group
            if len(group) < _GROUP_MIN or len(number) > _LONGEST:
                break
            yield number


def _kind(number: str) -> str | None:
    if _IDENTITY.fullmatch(number) and _checks(number):
        return "identity number"
    number = number.rstrip("Xx")
    if _PHONE.fullmatch(number):
        return "phone number"
    if _CARD.fullmatch(number) and _luhn(number):
        return "card number"
    return None


def _luhn(number: str) -> bool:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in number[-2::-2])
    return (sum(int(digit) for digit in number[::-2]) + sum(doubled)) % 10 == 0


def _checks(number: str) -> bool:
    """Whether the last character is the check digit of the others (GB 11643, ISO 7064 mod 11-2)."""
    total = sum(int(digit) << 17 - place for place, digit in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17].upper()
