"""Running one service: settings, log, loop, background work, a clean end.

A setting that is missing or wrong, a port in use and a database that is not there end the
process with one clear line and exit code 2.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import structlog
import uvloop

from shared.log import configure_log
from shared.rpc.keyring import TOKENS, Signer
from shared.rpc.server import Server
from shared.rpc.tokens import (
    SIGNING_FILE,
    VERIFYING_FILE,
    TokenVerifier,
    load_or_make_key,
    make_token,
)
from shared.settings import StartRefused, read_settings

_log = structlog.get_logger()
_TOKEN_S = 3600
_PR_SET_DUMPABLE = 4


@dataclass(frozen=True)
class ServiceSettings:
    """What every service is told."""

    database_url: str = field(
        metadata={"help": "set it to postgresql://user:password@host:port/database"}
    )
    listen: str = field(metadata={"help": "set it to an address such as 127.0.0.1:50051"})
    keys_dir: Path = field(metadata={"help": "set it to the directory of the token keys"})
    log_level: str = "info"
    poll_ms: int = field(default=20, metadata={"min": 1, "max": 1000})
    deadline_default_ms: int = field(default=30_000, metadata={"min": 100, "max": 600_000})
    grace_ms: int = field(default=5_000, metadata={"min": 0, "max": 60_000})


Settings = TypeVar("Settings", bound=ServiceSettings)


def run(
    service: str, kind: type[Settings], serve: Callable[[Settings], Coroutine[Any, Any, None]]
) -> None:
    """Reads settings from the environment and serves until a signal."""
    # A crash leaves no copy of the memory, and of the persons in it, in any file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # nor with a program that collects crashes in spite of the limit
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)
    try:
        settings = read_settings(kind, service, os.environ)
        configure_log(service, settings.log_level)
        uvloop.run(serve(settings))
    except StartRefused as error:
        said = str(error).replace("<SERVICE>", service.upper())
        print(f"{service}: {said}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:  # of a file: the keys, the methodologies
        print(f"{service}: {error.filename}: {error.strerror}; make it usable", file=sys.stderr)
        raise SystemExit(2) from None


def build_server(settings: ServiceSettings) -> Server:
    """A server with the runtime's policies at the address of the settings."""
    published = settings.keys_dir / VERIFYING_FILE
    if not published.exists() and (settings.keys_dir / SIGNING_FILE).exists():
        load_or_make_key(settings.keys_dir)  # publishes a key of before there was a ring
    return Server(
        settings.listen,
        verifier=TokenVerifier(published),
        deadline_default_ms=settings.deadline_default_ms,
        grace_ms=settings.grace_ms,
    )


def service_token(settings: ServiceSettings, service: str) -> Callable[[], str]:
    """Tokens by which `service` calls its siblings, renewed before they expire.

    A rotation of the keys renews them too, so that the old key can be retired after it.
    """
    signer = Signer(settings.keys_dir, TOKENS)
    text, made_by, stale_at_s = "", signer.key, 0.0

    def token() -> str:
        nonlocal text, made_by, stale_at_s
        key, now_s = signer.key, time.monotonic()
        if now_s > stale_at_s or key is not made_by:
            text = make_token(key, "service", f"services/{service}", lifetime_s=_TOKEN_S)
            made_by, stale_at_s = key, now_s + 0.9 * _TOKEN_S
        return text

    return token


def load_secret(directory: Path, name: str) -> bytes:
    """32 secret bytes from a private file, made on first use."""
    path = directory / f"{name}.key"
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
        try:
            os.link(draft, path)  # the first of several workers wins; the others read its file
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()


async def serve_until_signal(
    server: Server,
    *,
    background: Sequence[Coroutine[Any, Any, None]] = (),
    closing: Sequence[Callable[[], Awaitable[None] | None]] = (),
) -> None:
    """Serves, with `background` beside it, until SIGTERM or SIGINT; then ends in order.

    Calls under way finish first, then background work ends after its transaction, then
    `closing` runs. A background task that fails ends the process, for the supervisor to
    start it anew.
    """
    await server.start()
    tasks = [asyncio.create_task(work) for work in background]
    stop = asyncio.create_task(server.run_until_signal())
    done, _ = await asyncio.wait({stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in done if task is not stop]
    if failed:
        await server.stop()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for close in closing:
        result = close()
        if result is not None:
            await result
    for task in failed:
        _log.error("service.background_failed", exc_info=task.exception())
        raise SystemExit(1)
