"""Signing keys: one for each purpose that signs now, and the public halves of all that have.

In a directory of keys `token-signing.pem` is the private key that signs tokens now, and
`tokens.jwks` is the JSON Web Key Set of the public halves that verify them, newest first;
likewise for every purpose. A key is named by its RFC 7638 thumbprint, in the `kid` of what it
signed. Once a key signs no longer its private half is destroyed, because nothing needs it.

A new key is published SETTLE_S before it signs, and everybody who signs or verifies looks at
the files once a second, so that a rotation is never noticed by a caller.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from joserfc import jws
from joserfc.jwk import ECKey

from shared.rpc.jwks import ALGORITHM, BROKEN, Jwk, Watched, broken, json_web_key_set, read_set
from shared.settings import StartRefused

TOKENS, RECEIPTS = "tokens", "receipts"
SETTLE_S = 2.0
# What held the one public key of tokens before there was a ring.
_FORMER_FILE = "token-verifying.pem"


class KeyNeeded(StartRefused):
    """The key cannot be retired; the text says why and what to do."""


class PublishedKey(NamedTuple):
    """A public half; `current` says that its private half signs now."""

    key_id: str
    purpose: str
    jwk: Jwk
    current: bool


def signing_file(directory: Path, purpose: str) -> Path:
    """Where the private key lies that signs now."""
    return directory / f"{purpose.removesuffix('s')}-signing.pem"


def published_file(directory: Path, purpose: str) -> Path:
    """Where the public halves lie."""
    return directory / f"{purpose}.jwks"


def load_or_make(directory: Path, purpose: str) -> ECKey:
    """The key that signs now, made and published on first use; private to its owner.

    Several processes may do this at once: the first one's key is everybody's.
    """
    path = signing_file(directory, purpose)
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        draft = _draft(path, ECKey.generate_key("P-256").as_pem(private=True), 0o600)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    key = _load(path)
    if key.thumbprint() not in _key_ids(directory, purpose):
        with _locked(directory):
            key = _load(path)  # another one since, by a rotation
            if key.thumbprint() not in _key_ids(directory, purpose):
                _publish(directory, purpose, [_jwk_of(key), *_read(directory, purpose)])
            (directory / _FORMER_FILE).unlink(missing_ok=True)
    # Whoever made it may not have come so far, and what it signs is verified for ever.
    _sync(directory)
    return key


def rotate(directory: Path, purpose: str, settle_s: float = SETTLE_S) -> str:
    """The id of a new key, by which every running process signs when this returns.

    What older keys signed goes on being valid.
    """
    load_or_make(directory, purpose)
    key = ECKey.generate_key("P-256")
    path = signing_file(directory, purpose)
    with _locked(directory):
        _publish(directory, purpose, [_jwk_of(key), *_read(directory, purpose)])
        time.sleep(settle_s)
        _draft(path, key.as_pem(private=True), 0o600).replace(path)
        _sync(directory)
    time.sleep(settle_s)
    return key.thumbprint()


def retire(directory: Path, key_id: str) -> None:
    """Nothing that this token key signed is valid any longer, within two seconds.

    KeyNeeded for the key that signs now, a receipt's, and one that is not published.
    """
    with _locked(directory):
        found = next((key for key in published(directory) if key.key_id == key_id), None)
        if found is None:
            raise KeyNeeded(
                f"no key {key_id[:64]!r} is published; `keys list` shows those that are"
            )
        if found.purpose != TOKENS:
            raise KeyNeeded(
                f"{key_id} signed receipts, which are verified for ever; it stays published"
            )
        if found.current:
            raise KeyNeeded(f"{key_id} signs tokens now; run `keys rotate tokens` first")
        kept = [jwk for jwk in _read(directory, TOKENS) if jwk["kid"] != key_id]
        _publish(directory, TOKENS, kept)


def published(directory: Path) -> list[PublishedKey]:
    """Every published key of tokens, then of receipts, newest first."""
    found = []
    for purpose in (TOKENS, RECEIPTS):
        path, current = signing_file(directory, purpose), ""
        if path.exists():
            current = _load(path).thumbprint()
        for jwk in _read(directory, purpose):
            found.append(PublishedKey(jwk["kid"], purpose, jwk, jwk["kid"] == current))
    return found


class Signer:
    """Signs with the key of a purpose that signs now; follows a rotation within a second."""

    def __init__(self, directory: Path, purpose: str = RECEIPTS) -> None:
        self._directory, self._purpose = directory, purpose
        self._key = load_or_make(directory, purpose)
        self._file = Watched(signing_file(directory, purpose))

    @property
    def key(self) -> ECKey:
        """The key that signs now."""
        if self._file.changed():
            self._key = load_or_make(self._directory, self._purpose)
        return self._key

    @property
    def key_id(self) -> str:
        """The thumbprint of the key that signs now."""
        return self.key.thumbprint()

    def sign(self, payload: bytes, typ: str) -> str:
        """A compact JSON Web Signature (ES256) with `kid` and `typ` in its header."""
        key = self.key
        header = {"alg": ALGORITHM, "kid": key.thumbprint(), "typ": typ}
        return jws.serialize_compact(header, payload, key)


def _load(path: Path) -> ECKey:
    """A private key."""
    try:
        return ECKey.import_key(path.read_bytes())
    except BROKEN as error:
        raise broken(path) from error


def _jwk_of(key: ECKey) -> Jwk:
    """The public half as others read it."""
    named = {"kid": key.thumbprint(), "use": "sig", "alg": ALGORITHM}
    return {**key.as_dict(private=False), **named}


def _key_ids(directory: Path, purpose: str) -> list[str]:
    return [jwk["kid"] for jwk in _read(directory, purpose)]


def _read(directory: Path, purpose: str) -> list[Jwk]:
    """The published keys, newest first; none before there is a file."""
    try:
        return read_set(published_file(directory, purpose))
    except FileNotFoundError:
        return []


def _publish(directory: Path, purpose: str, keys: list[Jwk]) -> None:
    path = published_file(directory, purpose)
    _draft(path, json_web_key_set(keys).encode(), 0o644).replace(path)
    _sync(directory)


def _draft(path: Path, data: bytes, mode: int) -> Path:
    """A file beside `path`, durable, to be linked or moved there."""
    draft = path.with_suffix(f".{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask says
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    return draft


def _sync(directory: Path) -> None:
    """The names in a directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One at a time, over all processes, changes what is published; a crash frees it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
