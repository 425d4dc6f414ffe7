"""What a partner calls its own user: read from the wire, kept as a keyed digest only.

Identity binds a digest to an account and activity resolves it, so both make it here, with
the one secret "subject" that they share.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b

from shared.personal import looks_personal
from shared.refusal import FieldInvalid

SUBJECT_MAX = 64
DIGEST_BYTES = 16


def read_subject_name(text: str, field: str, partner: str) -> str:
    """`text` when it is {partner}/subjects/{subject} of the calling `partner`, a whole name
    such as sources/bike-demo.

    FieldInvalid otherwise; the message never repeats what was sent.
    """
    head = f"{partner}/subjects/"
    if not text.startswith(head):
        raise FieldInvalid(
            field, f"{field} does not begin with {head}; name your own user, as {head}{{subject}}"
        )
    subject = text[len(head) :]
    if not 0 < len(subject) <= SUBJECT_MAX or not subject.isprintable():
        raise FieldInvalid(
            field,
            f"{field} has {len(subject)} characters after {head} and must have 1 to {SUBJECT_MAX}, "
            "all printable",
        )
    if looks_personal(subject):
        raise FieldInvalid(
            field,
            f"{field} looks like a phone, card or identity number; send a name of your own for "
            "the user, such as a keyed hash of it",
        )
    return text


def subject_digest(secret: bytes, name: str) -> bytes:
    """16 bytes for {partner}/subjects/{subject} under the 32 bytes of the secret "subject"."""
    digest = _keyed(secret).copy()
    digest.update(name.encode())
    return digest.digest()


@cache
def _keyed(secret: bytes) -> blake2b:
    """The hash that has taken in the key, which is half of the work."""
    return blake2b(digest_size=DIGEST_BYTES, key=secret, person=b"subject")
