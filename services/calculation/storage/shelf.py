"""The library that serves: shipped files, with what was published since in their place.

Every transaction of the follower asks for the newest edition first, so that what is published
holds from the next run of activities on, in every worker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from threading import Lock
from typing import Any

import sqlalchemy as sa

from services.calculation.domain.calculators import Calculators, load_calculators
from services.calculation.domain.editions import Line, as_rows, selection_of
from services.calculation.domain.factors import Series
from services.calculation.domain.faults import LibraryFault, LibraryInvalid
from services.calculation.domain.library import load_library
from services.calculation.domain.methodology import Library, Methodology, Programme

# Editions are numbered in the order in which they were published; times are only when their
# transactions began, which may have waited for one another.
_TEXTS = """
select distinct on (d.path) d.path, d.content
from library_draft d join library_edition e using (draft) order by d.path, e.edition desc
"""
_ADD_EDITION = """
insert into library_edition (publish_time, draft, restatement, publisher, selection)
values (now(), :draft, :restatement, :publisher, cast(:selection as jsonb)) returning edition
"""


TEXTS_MAX = 1000
"""Texts of methodologies that are kept as they were read; a draft costs its own reading alone."""


class ProgrammeMissing(LibraryInvalid):
    """The library has not the programme that is to credit; `known` are those it has."""

    def __init__(self, programme: str, known: list[str]) -> None:
        said = f"programme {programme!r} is not there; there is {', '.join(known) or 'none'}"
        super().__init__([LibraryFault(f"programmes/{programme}.toml", 1, 1, said)])
        self.known = known


class Shelf:
    """Holds the library in force and the calculators made of it; both, and `programme`, may be
    others after `refresh`."""

    def __init__(
        self,
        shipped: Mapping[str, str],
        registry: Mapping[str, Series],
        programme: str,
        calculators: Mapping[str, str],
        read: dict[tuple[str, str], Methodology] | None = None,
    ) -> None:
        self._shipped, self._registry, self._programme = dict(shipped), registry, programme
        self._calculators = calculators
        self.edition = 0
        self._taking = Lock()
        self._read = {} if read is None else read
        self.registry = registry
        self.files: dict[str, str] = dict(shipped)
        self.library, self.calculators = self._loaded(shipped)

    @property
    def programme(self) -> Programme:
        """The programme that credits."""
        return self.library.programmes[self._programme]

    def load(self, changed: Mapping[str, str]) -> Library:
        """The library with other texts in it; LibraryInvalid when it may not serve."""
        library, _ = self._loaded({**self.files, **changed})
        return library

    def _loaded(self, files: Mapping[str, str]) -> tuple[Library, Calculators]:
        if len(self._read) > TEXTS_MAX:
            self._read = {}
        library = load_library(files, self._registry, self._read)
        if self._programme not in library.programmes:
            raise ProgrammeMissing(self._programme, sorted(library.programmes))
        return library, load_calculators(self._calculators, library)

    def programme_of(self, library: Library) -> Programme:
        """The crediting programme of another library."""
        return library.programmes[self._programme]

    def refresh(self, connection: sa.Connection) -> bool:
        """Takes the newest edition; whether it was another than the one held."""
        with self._taking:
            return self._refresh(connection)

    def _refresh(self, connection: sa.Connection) -> bool:
        newest = connection.execute(sa.text("select max(edition) from library_edition")).scalar()
        if newest is None or newest == self.edition:
            return False
        texts = {row.path: row.content for row in connection.execute(sa.text(_TEXTS))}
        files = {**self._shipped, **texts}
        if files != self.files:
            # Taken only when all of it loads: one that does not is met again at the next look.
            library, calculators = self._loaded(files)
            self.files, self.library, self.calculators = files, library, calculators
        self.edition = newest
        return True


class Editions:
    """The record of what has served; inside one transaction, which holds the pen alone."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def lock(self) -> None:
        """Nobody else publishes until this transaction ends."""
        self._connection.execute(sa.text("lock table library_edition in exclusive mode"))

    def newest_selection(self) -> list[Line] | None:
        """What the newest edition credits; None before the first."""
        rows = self._connection.execute(
            sa.text("select selection from library_edition order by edition desc limit 1")
        ).scalar()
        return None if rows is None else [Line(**row) for row in rows]

    def restatement_of(self, draft: int) -> int | None:
        """The restatement that publishing a draft began."""
        query = "select restatement from library_edition where draft = :draft"
        found = self._connection.execute(sa.text(query), {"draft": draft}).scalar()
        return None if found is None else int(found)

    def add(
        self, programme: Programme, publisher: str, *, draft: int | None, restatement: int | None
    ) -> int:
        """A new edition; its number."""
        row: dict[str, Any] = {
            "draft": draft,
            "restatement": restatement,
            "publisher": publisher,
            "selection": json.dumps(as_rows(selection_of(programme))),
        }
        return int(self._connection.execute(sa.text(_ADD_EDITION), row).scalar_one())

    def seal(self, versions: Mapping[str, str]) -> None:
        """Keeps the digest of versions that are in force."""
        rows = [{"name": name, "digest": digest} for name, digest in sorted(versions.items())]
        if rows:
            insert = "insert into sealed_text values (:name, :digest, now()) on conflict do nothing"
            self._connection.execute(sa.text(insert), rows)

    def sealed(self) -> list[tuple[str, str]]:
        """Name and digest of every version that was in force here or has credited something."""
        rows = self._connection.execute(
            sa.text(
                "select name, digest from sealed_text union "
                "select distinct methodology_version, methodology_digest from asset_class"
            )
        )
        return [(row.name, row.digest) for row in rows]
