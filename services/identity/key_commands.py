"""The commands `carbonaccount wrapping-keys`: rotate, see how far it is, retire."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from services.identity.storage import wrapping
from services.identity.upstream.key_management import FileKeyManagement, KeyKept, KeyMissing
from shared.storage.engine import with_driver


def wrapping_keys_app(database_url: Callable[[], str], keys_dir: Callable[[], Path]) -> typer.Typer:
    """The commands, for identity's database and key directory; both are asked when one runs."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        help="Keys that wrap the data keys of accounts: rotate, see how far it is, retire.",
    )

    @app.command()
    def rotate() -> None:
        """Make a new wrapping key; running services move every data key under it."""
        with _clear_faults():
            print(FileKeyManagement(keys_dir() / "wrapping").rotate())

    @app.command()
    def status() -> None:
        """Say how many data keys lie under each wrapping key; the last one is current."""
        with _clear_faults():
            for line in status_lines(database_url(), keys_dir()):
                print(line)

    @app.command()
    def retire(
        name: Annotated[str, typer.Argument(help="a wrapping key that status lists")],
    ) -> None:
        """Delete a wrapping key for ever; refused while a data key lies under it."""
        with _clear_faults(), _connected(database_url()) as connection:
            wrapping.retire(connection, FileKeyManagement(keys_dir() / "wrapping"), name)
        print(f"{name} is deleted; copies of it, and what was erased under it, are yours to forget")

    return app


def status_lines(url: str, keys_dir: Path) -> list[str]:
    """One line a wrapping key: name, data keys under it, and what is to be known of it."""
    keys = FileKeyManagement(keys_dir / "wrapping")
    with _connected(url) as connection:
        counts = wrapping.left(connection)
        lacking = set(wrapping.missing(connection, keys))
    names, current = keys.names(), keys.current()
    lines = []
    for name in sorted({*names, *counts}):
        word = "MISSING" if name in lacking else "current" if name == current else "old"
        if word == "old" and name not in counts:
            word = "may be retired"
        lines.append(f"{name} {counts.get(name, 0):>12,} {word}")
    return lines


@contextmanager
def _connected(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(with_driver(url), poolclass=sa.NullPool)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


@contextmanager
def _clear_faults() -> Iterator[None]:
    """Whatever is in the way ends in one line that says what to do, and exit code 2."""
    try:
        yield
    except (KeyKept, KeyMissing) as error:
        said = str(error)
    except sa.exc.OperationalError as error:
        said = f"identity's database cannot be used ({' '.join(str(error.orig).split())[:200]})"
    except OSError as error:
        said = f"{error.filename}: {error.strerror}; make the key directory usable"
    else:
        return
    print(said, file=sys.stderr)
    raise typer.Exit(2)
