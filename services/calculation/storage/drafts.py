"""Drafts of library files in the database."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from services.calculation.domain.drafts import Draft

PAGE_BYTES_MAX = 2 * 1024 * 1024
"""Texts of one page; a message may have 8 MiB, and clients that were told nothing take 4."""

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

    def made_by(self, request_id: UUID) -> Draft | None:
        """The draft that a request made."""
        query = f"select {_COLUMNS} from library_draft where request_id = :request_id"
        told = {"request_id": request_id}
        row = self._connection.execute(sa.text(query), told).one_or_none()
        return None if row is None else Draft(*row)

    def published_since(self, path: str, moment: datetime) -> int | None:
        """The newest draft of that path that was published after a moment."""
        query = """select d.draft from library_draft d join library_edition e using (draft)
            where d.path = :path and d.publish_time > :moment order by e.edition desc limit 1"""
        found = self._connection.execute(sa.text(query), {"path": path, "moment": moment}).scalar()
        return None if found is None else int(found)

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
            # The time after others were waited for, so that whoever drafts meanwhile is seen.
            "update library_draft set state = 3, publisher = :who, publish_time ="
            f" clock_timestamp() where draft = :draft returning {_COLUMNS}",
            {"draft": draft, "who": publisher},
        )

    def page(self, size: int, before: int | None) -> tuple[list[Draft], bool]:
        """Drafts, the newest first, of numbers below `before`, and whether there are more.

        At most `size`, and fewer where their texts would be more than PAGE_BYTES_MAX.
        """
        query = """select draft, sum(octet_length(content)) over (order by draft desc) as bytes
            from (select draft, content from library_draft
                where cast(:before as bigint) is null or draft < :before
                order by draft desc limit :size + 1) as newest order by draft desc"""
        rows = self._connection.execute(sa.text(query), {"before": before, "size": size}).all()
        numbers = [row.draft for n, row in enumerate(rows[:size])
                   if not n or row.bytes <= PAGE_BYTES_MAX]  # fmt: skip
        query = f"select {_COLUMNS} from library_draft where draft = any(:numbers)"
        found = self._connection.execute(
            sa.text(f"{query} order by draft desc"), {"numbers": numbers}
        )
        return [Draft(*row) for row in found], len(numbers) < len(rows)

    def _one(self, statement: str, told: dict[str, object]) -> Draft:
        return Draft(*self._connection.execute(sa.text(statement), told).one())
