"""Codes of asset classes: asked of the database once, then remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from services.calculation.domain.methodology import Credit
from services.calculation.storage.book import Book


class ClassCodes:
    """A class book of one thread; see domain.assess.ClassBook."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str, str, int, int], int] = {}
        self._connection: sa.Connection | None = None

    @contextmanager
    def within(self, connection: sa.Connection) -> Iterator[None]:
        """New classes are made in that transaction; all is forgotten when it fails."""
        self._connection = connection
        try:
            yield
        except BaseException:
            self._codes.clear()  # a code may have been rolled back
            raise
        finally:
            self._connection = None

    def code_of(self, credit: Credit, region: int, vintage_month: int) -> int:
        """The code, made when it is new."""
        version = credit.version
        key = (version.name + version.digest, credit.programme, credit.scene_approval,
               region, vintage_month)  # fmt: skip
        code = self._codes.get(key)
        if code is None:
            assert self._connection is not None
            code = Book(self._connection).class_code(credit, region, vintage_month)
            self._codes[key] = code
        return code
