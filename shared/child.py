"""Child processes that end with whoever started them, even when that one is killed.

Popen's own hooks for the moment between fork and exec need a real fork, which locks and
threads of the forking process may not survive (gRPC's did not). So the child execs this file
first, which gives up privileges, asks the kernel and execs the command: same process id.
It goes along as text, because the unprivileged user may not be able to read the checkout.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_TEXT = Path(__file__).read_text(encoding="utf-8") if "__file__" in globals() else ""


def command(
    arguments: Sequence[str],
    *,
    end_with: signal.Signals,
    user: tuple[int, int] | None = None,
) -> list[str]:
    """What to start so that `arguments` run, and get `end_with` when the starting thread ends.

    `user` holds the numbers of the user and group to run as; only root may ask for another.
    """
    uid, gid = user or (-1, -1)
    told = (int(end_with), os.getpid(), uid, gid)
    return [sys.executable, "-S", "-E", "-c", _TEXT, *map(str, told), *arguments]


def _become(told: list[str], arguments: list[str]) -> None:
    end_with, owner, uid, gid = map(int, told)
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, end_with)
    if os.getppid() != owner:  # it ended before the kernel knew of our wish
        raise SystemExit(1)
    try:
        os.execv(arguments[0], arguments)
    except OSError as error:
        raise SystemExit(f"{arguments[0]} cannot be started ({error})") from None


if __name__ == "__main__":
    _become(sys.argv[1:5], sys.argv[5:])
