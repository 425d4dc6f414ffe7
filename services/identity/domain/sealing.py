"""How a personal value is sealed under the data key of its account.

A sealed value is one byte of format (1), one byte of cipher (1 AES-256-GCM, 2 SM4-GCM), twelve
bytes of nonce, and the ciphertext with its tag of sixteen bytes. Format, cipher, account and
purpose are bound to it, so that a value that was moved or changed in any bit does not open.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CIPHERS = {"aes-256-gcm": 1, "sm4-gcm": 2}
KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 12, 16
_FORMAT = 1
_AES, _SM4 = CIPHERS["aes-256-gcm"], CIPHERS["sm4-gcm"]
_HEAD_BYTES = 2 + NONCE_BYTES


class SealBroken(Exception):
    """The value was not sealed by this key, for this account and purpose, or was changed since."""


class KeyDestroyed(Exception):
    """The account has no data key: what was sealed under it can be opened by nobody."""


def seal(
    key: bytes, cipher: str, account_id: int, purpose: str, plain: bytes, nonce: bytes
) -> bytes:
    """`plain`, sealed; `key` is the data key of 32 bytes, `nonce` twelve fresh random ones."""
    head = bytes((_FORMAT, CIPHERS[cipher]))
    bound = _bound(head, account_id, purpose)
    if head[1] == _AES:
        return head + nonce + AESGCM(_derive(key, _AES)).encrypt(nonce, plain, bound)
    encryptor = Cipher(algorithms.SM4(_derive(key, _SM4)), modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(bound)
    return head + nonce + encryptor.update(plain) + encryptor.finalize() + encryptor.tag


def open_sealed(key: bytes, account_id: int, purpose: str, sealed: bytes) -> bytes:
    """What `seal` was given, whichever cipher it used; SealBroken when anything differs."""
    head, nonce, text = sealed[:2], sealed[2:_HEAD_BYTES], sealed[_HEAD_BYTES:]
    if len(text) < TAG_BYTES or head[0] != _FORMAT or head[1] not in CIPHERS.values():
        raise SealBroken(f"this is no sealed value of format {_FORMAT} ({len(sealed)} bytes)")
    bound = _bound(head, account_id, purpose)
    try:
        if head[1] == _AES:
            return AESGCM(_derive(key, _AES)).decrypt(nonce, text, bound)
        mode = modes.GCM(nonce, text[-TAG_BYTES:])
        decryptor = Cipher(algorithms.SM4(_derive(key, _SM4)), mode).decryptor()
        decryptor.authenticate_additional_data(bound)
        return decryptor.update(text[:-TAG_BYTES]) + decryptor.finalize()
    except InvalidTag:
        raise SealBroken(f"a sealed value ({purpose}) does not open") from None


def _bound(head: bytes, account_id: int, purpose: str) -> bytes:
    return head + account_id.to_bytes(8, "big") + purpose.encode()


def _derive(key: bytes, cipher: int) -> bytes:
    """The key of one cipher: no key serves two, and SM4 takes 16 bytes where AES takes 32."""
    made = hmac.digest(key, b"carbonaccount sealing %d" % cipher, hashlib.sha256)
    return made if cipher == _AES else made[:16]
