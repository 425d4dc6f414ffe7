"""The files of the factor registry, and the command that seals new values.

`python -m services.calculation.factor_files` adds a line to factors/published.sum for each value
that has none. It never changes a line: a value that is not what was published is refused.
"""

from __future__ import annotations

import sys
from pathlib import Path

from services.calculation.domain.faults import LibraryInvalid
from services.calculation.domain.published import SUMS, sums
from services.calculation.domain.registry import load_registry

FACTORS = Path(__file__).parent / "factors"
COMMAND = "python -m services.calculation.factor_files"


def read_factor_files(directory: Path = FACTORS) -> dict[str, str]:
    """Text of every file of the registry by its name, published.sum included.

    FileNotFoundError when published.sum is not there: without it nothing would be sealed.
    """
    paths = [*sorted(directory.glob("*.toml")), directory / SUMS]
    return {path.name: path.read_text("utf-8") for path in paths}


def seal(directory: Path = FACTORS) -> int:
    """How many new values it sealed; LibraryInvalid when a published one was changed or lost."""
    text = sums(load_registry(read_factor_files(directory)))
    path = directory / SUMS
    before = len(path.read_text("utf-8").splitlines())
    path.write_text(text, "utf-8")
    return len(text.splitlines()) - before


if __name__ == "__main__":
    try:
        print(f"{seal()} new values in {SUMS}; commit it with them")
    except LibraryInvalid as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
