"""Wrapping keys: whoever holds them can open data keys, and nobody else.

The port and its keyring of files; a bank puts its own key management in the place of the
keyring. Wrapping keys are named, and never leave what implements the port.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.identity.domain.sealing import KEY_BYTES, NONCE_BYTES, SealBroken
from shared.refusal import RetryLater

_NAME = re.compile(r"[0-9]{6}-[0-9a-f]{16}")


class KeyMissing(RetryLater):
    """The wrapping key is not at hand; nothing is lost, and once it is back all opens again."""

    def __init__(self, kek: str, why: str) -> None:
        super().__init__(
            f"wrapping key {kek[:64]} is not at hand ({why}), so personal fields cannot be opened; "
            "the operator puts it back, then call again",
            cause="wrapping key missing",
            retry_after_ms=1000,
        )
        self.kek = kek


class KeyKept(Exception):
    """The wrapping key is not retired; the text says why and what to do."""


class KeyManagement(Protocol):
    """Wraps data keys under wrapping keys of its own; safe to use from several threads."""

    def current(self) -> str:
        """Name of the wrapping key under which `wrap` wraps now."""
        ...

    def wrap(self, key: bytes, account_id: int) -> tuple[str, bytes]:
        """Name of the current wrapping key, and `key` wrapped under it for this account only."""
        ...

    def unwrap(self, kek: str, wrapped: bytes, account_id: int) -> bytes:
        """What `wrap` was given; KeyMissing without that wrapping key, SealBroken when
        `wrapped` was changed or is another account's."""
        ...


class FileKeyManagement:
    """A keyring in the files `{name}.key` of a directory of its own, for laptops.

    A name is a running number and the beginning of the key's SHA-256, so that the newest sorts
    last and two keyrings never call different keys the same. The directory is asked at each
    use: a rotation or a retirement by another process is seen at once, and no wrapping key
    stays in memory. The first process makes the first key. Everything is private to the owner.

    What is wrapped may be committed for ever the next moment, so the name of its wrapping key is
    on the disk before `wrap` returns, whichever process made the key.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lasting = set[str]()  # names that are on the disk for certain
        _make(directory)
        with self._locked():
            if not self.names():
                self._add(1)

    def names(self) -> list[str]:
        """Every wrapping key there is, the current one last."""
        stems = (entry.removesuffix(".key") for entry in os.listdir(self._directory))
        return sorted(stem for stem in stems if _NAME.fullmatch(stem))

    def current(self) -> str:
        """Name of the newest wrapping key; KeyMissing when the directory has lost them all."""
        try:
            return self.names()[-1]
        except (OSError, IndexError):
            raise KeyMissing("of any name", "the key directory has none") from None

    def wrap(self, key: bytes, account_id: int) -> tuple[str, bytes]:
        """As the port says, by AES-256-GCM: nonce, ciphertext and tag."""
        kek, nonce = self.current(), secrets.token_bytes(NONCE_BYTES)
        wrapped = nonce + AESGCM(self._read(kek)).encrypt(nonce, key, _bound(kek, account_id))
        if kek not in self._lasting:
            # We see the name from its maker's rename on; the maker's sync comes later, or never.
            _sync(self._directory)
            self._lasting.add(kek)
        return kek, wrapped

    def unwrap(self, kek: str, wrapped: bytes, account_id: int) -> bytes:
        """As the port says."""
        nonce, text = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        key = self._read(kek)
        try:
            return AESGCM(key).decrypt(nonce, text, _bound(kek, account_id))
        except (InvalidTag, ValueError):
            raise SealBroken(f"a data key does not unwrap under {kek}") from None

    def rotate(self) -> str:
        """Makes one more wrapping key, which is the current one from now on; its name."""
        with self._locked():
            return self._add(int(self.current()[:6]) + 1)

    def retire(self, name: str) -> None:
        """Deletes a wrapping key. Whatever is still wrapped under it is lost: see
        `storage.wrapping.retire`, which asks first. KeyKept for the current one, or no name."""
        with self._locked():
            if name not in self.names():
                raise KeyKept(f"there is no wrapping key {name[:64]!r}; status lists them")
            if name == self.current():
                raise KeyKept(f"{name} is the current wrapping key; rotate first")
            (self._directory / f"{name}.key").unlink()
            _sync(self._directory)

    def _read(self, kek: str) -> bytes:
        if not _NAME.fullmatch(kek):
            raise KeyMissing(kek, "it is no name of this keyring")
        try:
            key = (self._directory / f"{kek}.key").read_bytes()
        except OSError as error:
            raise KeyMissing(kek, error.strerror or "unreadable") from None
        if _name(int(kek[:6]), key) != kek:
            raise KeyMissing(kek, "its file is damaged")
        return key

    def _add(self, number: int) -> str:
        """A new key: what is in its file is on the disk before anybody sees the name of it."""
        key = secrets.token_bytes(KEY_BYTES)
        name, draft = _name(number, key), self._directory / "draft"
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(descriptor)
        draft.rename(self._directory / f"{name}.key")
        _sync(self._directory)
        self._lasting.add(name)
        return name

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time adds and retires; a killed one gives the lock free."""
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _make(directory: Path) -> None:
    """The directory with those above it, on the disk by name.

    Its own name is synced even if it is there: another process may have made it just now.
    """
    new = [each for each in directory.parents if not each.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in (directory, *new):
        _sync(each.parent)


def _sync(directory: Path) -> None:
    """Waits until the names in the directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(number: int, key: bytes) -> str:
    return f"{number:06}-{hashlib.sha256(key).hexdigest()[:16]}"


def _bound(kek: str, account_id: int) -> bytes:
    return kek.encode() + account_id.to_bytes(8, "big")
