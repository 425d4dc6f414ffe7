"""What is wrong with files of data: methodologies, programmes, factors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LibraryFault:
    """What is wrong in a file, where, and how to mend it; line and column from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class LibraryInvalid(Exception):
    """The library does not load; `faults` has the first fault of every file that has one."""

    def __init__(self, faults: list[LibraryFault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults
