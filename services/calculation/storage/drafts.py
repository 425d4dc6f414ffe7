"""Drafts of library files in the database."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from services.calculation.domain.drafts import Draft

_COLUMNS = ", ".join(Draft.__dataclass_fields__)
_ADD = f"""
insert into library_draft (draft_time, state, path, content, drafter, request_id)
values (now(), 1, :path, :content, :drafter, :request_id)
on conflict (request_id) do update set request_id = excluded.request_id returning {_COLUMNS}
"""


class Drafts:
    """Drafts of one connection, inside one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, path: str, content: str, drafter: str, request_id: UUID) -> Draft:
        """The draft of that request: a new one, or the one that the request made before."""
        told = {"path": path, "content": content, "drafter": drafter, "request_id": request_id}
        return self._one(_ADD, told)

    def find(self, draft: int) -> Draft | None:
        """A draft, locked until the transaction ends."""
        query = f"select {_COLUMNS} from library_draft where draft = :draft for update"
        row = self._connection.execute(sa.text(query), {"draft": draft}).one_or_none()
        return None if row is None else Draft(*row)

    def review(self, draft: int, reviewer: str, note: str) -> Draft:
        """Notes that somebody else has reviewed it."""
        return self._one(
            "update library_draft set state = 2, reviewer = :who, review_note = :note,"
            f" review_time = now() where draft = :draft returning {_COLUMNS}",
            {"draft": draft, "who": reviewer, "note": note},
        )

    def publish(self, draft: int, publisher: str) -> Draft:
        """Puts it in the place of the file of its path."""
        return self._one(
            "update library_draft set state = 3, publisher = :who, publish_time = now()"
            f" where draft = :draft returning {_COLUMNS}",
            {"draft": draft, "who": publisher},
        )

    def page(self, size: int, before: int | None) -> list[Draft]:
        """Drafts, the newest first, of numbers below `before`."""
        query = f"""select {_COLUMNS} from library_draft
            where cast(:before as bigint) is null or draft < :before
            order by draft desc limit :size"""
        rows = self._connection.execute(sa.text(query), {"before": before, "size": size})
        return [Draft(*row) for row in rows]

    def _one(self, statement: str, told: dict[str, object]) -> Draft:
        return Draft(*self._connection.execute(sa.text(statement), told).one())
