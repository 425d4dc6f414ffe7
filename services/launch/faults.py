"""How a command ends that cannot do what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape

from shared.settings import StartRefused


@contextmanager
def clear_faults(console: Console) -> Iterator[None]:
    """Whatever hinders a command ends in lines that say what to do, and exit code 2."""
    try:
        yield
    except StartRefused as error:
        said = str(error)
    except OSError as error:
        said = (
            f"{error.filename or 'a file'}: {error.strerror}; make room or make it usable, or "
            "name another place in CARBONACCOUNT_VAR_DIR"
        )
    else:
        return
    console.print(f"[red]cannot run:[/] {escape(said)}", highlight=False, soft_wrap=True)
    raise typer.Exit(2)
