"""OpenFisca's own environment below var/bench, and the child process that runs in it.

It pins other packages than we do and is needed by the benchmark alone, so it is never part of
our environments. It is made on the first run and again when its lock changes; where packages
come from is the caller's affair, as everywhere.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.launch.layout import CHECKOUT
from shared.child import command

LOCK = Path(__file__).with_name("openfisca.lock")
RULE = Path(__file__).with_name("openfisca_rule.py")
HOME = CHECKOUT / "var" / "bench" / "openfisca"
INSTALL_S = 600


class NotMeasured(Exception):
    """A figure cannot be had here; the text says why."""


class Child:
    """OpenFisca's side: asked by a word, answers with figures."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def ask(self, word: str) -> dict[str, Any]:
        """The answer; NotMeasured, with its last words, when the process is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise NotMeasured(f"OpenFisca's side ended: {last_line(self._log.read_text())}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def child(acts: Path) -> Iterator[Child]:
    """OpenFisca's side with the acts of that file; it ends with the block."""
    log = HOME / "log"
    python = made_python()
    with log.open("w") as errors:
        process = subprocess.Popen(
            # Isolated: neither the caller's variables nor the modules beside the file are seen.
            command([str(python), "-I", str(RULE), str(acts)], end_with=signal.SIGKILL),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield Child(process, log)
    finally:
        process.kill()
        process.communicate()


def made_python(home: Path = HOME, lock: Path = LOCK) -> Path:
    """The python of the environment of that lock, made if need be; NotMeasured if it cannot be."""
    made, stamp = home / "env", home / "env" / "lock.sha256"
    python = made / "bin" / "python"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(made, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(made)], "its environment")
    install = [
        str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--retries", "1", "--require-hashes", "-r", str(lock),
    ]  # fmt: skip
    _run(install, "what openfisca.lock lists")
    # Last, so that an environment half made is made anew.
    stamp.write_text(wanted)
    return python


def last_line(text: str) -> str:
    """The last line that says something, shortened."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "it said nothing"


def _run(told: list[str], what: str) -> None:
    try:
        done = subprocess.run(told, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"{what} was not installed within {INSTALL_S} s") from None
    if done.returncode:
        said = last_line(done.stderr or done.stdout)
        raise NotMeasured(f"{what} could not be installed: {said}")
