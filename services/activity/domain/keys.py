"""Digests that decide for ever whether two reports are one event, one content, one act.

Keyed with a secret of this service, so that they survive erasure and still tell nobody
which ticket, bill or bike they came from.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import blake2b

from shared.ids import encode32

KEY_BYTES = 16
_CONTENT = struct.Struct(">qqqqqqq")


class Keyring:
    """Makes the three digests under one secret of at least 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise ValueError(f"the secret has {len(secret)} bytes; it needs 32")
        self._event = blake2b(key=secret[:64], person=b"event", digest_size=KEY_BYTES)
        self._content = blake2b(key=secret[:64], person=b"content", digest_size=8)
        self._content_by_subject = blake2b(
            key=secret[:64], person=b"content/subject", digest_size=8
        )
        self._claim = blake2b(key=secret[:64], person=b"claim", digest_size=KEY_BYTES)

    def event_key(self, source: int, source_event_id: str) -> bytes:
        """The activity's identity: 16 bytes of (source, source_event_id)."""
        return self.event_keys(source)(source_event_id)

    def event_keys(self, source: int) -> Callable[[str], bytes]:
        """`event_key` of one source; quicker for many."""
        begun = self._event.copy()
        begun.update(b"%d:" % source)

        def event_key(source_event_id: str) -> bytes:
            digest = begun.copy()
            digest.update(source_event_id.encode())
            return digest.digest()

        return event_key

    def content(
        self,
        numbers: tuple[int, int, int, int, int, int, int],
        claim: str,
        label: int = 0,
        subject: bytes = b"",
    ) -> bytes:
        """8 bytes of what was reported: account, scene, time, region, grade, measures, claim,
        and the code of the label where one was given.

        A report by `subject` (its digest) has that in place of the account, which is 0: whom
        the subject is bound to is no part of what was reported.
        """
        digest = (self._content_by_subject if subject else self._content).copy()
        digest.update(subject + _CONTENT.pack(*numbers) + claim.encode())
        if label:
            # Only then, so that what was recorded before there were labels keeps its digest. A
            # claim holds no NUL, so that none can end like a label.
            digest.update(b"\0%d" % label)
        return digest.digest()

    def claim_key(self, scene: int, account_id: int, claim: str) -> bytes:
        """16 bytes of the physical act; account_id is 0 where accounts do not tell acts apart."""
        digest = self._claim.copy()
        digest.update(b"%d:%d:%s" % (scene, account_id, claim.encode()))
        return digest.digest()


def activity_id(key: bytes) -> str:
    """The last part of an activity's name: its key as 26 base-32 characters."""
    return encode32(int.from_bytes(key), 26)
