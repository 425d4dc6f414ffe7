"""JSON Web Key Sets on disk: public halves that verify, followed while they change."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import structlog
from joserfc import errors
from joserfc.jwk import ECKey

from shared.settings import StartRefused

ALGORITHM = "ES256"
LOOK_S = 1.0
BROKEN = (errors.JoseError, ValueError, KeyError, TypeError, AttributeError)
"""What reading something else than keys raises."""
_log = structlog.get_logger()

Jwk = dict[str, Any]


class KeysBroken(StartRefused):
    """A file of keys holds something else; the text says which and what to do."""


class PublicKeys:
    """The keys of a JSON Web Key Set on disk, read anew after it was replaced.

    Keys other than P-256 and keys without an id are left out. Once read, a file that is gone or
    broken changes nothing; at construction it raises OSError or KeysBroken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = Watched(path)
        self._file.changed()
        self._keys = _import(path)

    def refresh(self) -> bool:
        """Whether the keys are others than before; looks at most once a second."""
        if not self._file.changed():
            return False
        try:
            self._keys = _import(self._path)
        except (OSError, KeysBroken) as error:
            _log.error("keys.unreadable", path=str(self._path), error=type(error).__name__)
            return False
        return True

    def of(self, signed: Any) -> ECKey:
        """The key that the header of `signed` names; ValueError when it names none of these."""
        key = self._keys.get(signed.headers().get("kid"))
        if key is None:
            raise ValueError("no such key")
        return key


class Watched:
    """A file that may be replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked_at = 0.0
        self._seen: tuple[int, ...] = ()

    def changed(self) -> bool:
        """Whether it was replaced since the last look; looks at most once a second."""
        now = time.monotonic()
        if self._seen and now - self._looked_at < LOOK_S:
            return False
        self._looked_at = now
        try:
            stat = self._path.stat()
        except OSError:
            return False
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        changed, self._seen = seen != self._seen, seen
        return changed


def read_set(path: Path) -> list[Jwk]:
    """The keys of a set; OSError when there is no file, KeysBroken when it holds something else."""
    try:
        keys: list[Jwk] = json.loads(path.read_bytes())["keys"]
    except BROKEN as error:
        raise broken(path) from error
    return keys


def broken(path: Path) -> KeysBroken:
    """The refusal of a file that holds no keys."""
    return KeysBroken(f"{path} holds no keys that can be read; put back what was there")


def json_web_key_set(keys: list[Jwk]) -> str:
    """The keys as one JSON Web Key Set."""
    return json.dumps({"keys": keys}, indent=1)


def _import(path: Path) -> dict[str, ECKey]:
    """The usable keys of a set, by their ids."""
    try:
        return {
            jwk["kid"]: ECKey.import_key(jwk)
            for jwk in read_set(path)
            if jwk.get("crv") == "P-256" and jwk.get("kid")
        }
    except BROKEN as error:
        raise broken(path) from error
