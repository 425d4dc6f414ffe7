"""One account's pages of the book, read for a copy: all of one moment."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from services.settlement.domain.statement import Holding, Transfer
from services.settlement.storage.reader import Reader

_PAGE = 500


class Statement:
    """Balances and entries on one connection, at the beginning of its transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        # Every page and the balances agree, however long the copy takes and whatever is posted.
        connection.execute(sa.text("set transaction isolation level repeatable read, read only"))
        self._reader = Reader(connection)

    def holdings(self, account_id: int) -> list[Holding]:
        """What the account holds."""
        return self._reader.holdings(account_id)

    def transfers(self, account_id: int) -> Iterator[Transfer]:
        """Every transfer that touches the account, latest civil day first."""
        before: tuple[int, int] | None = None
        while page := self._reader.statement(account_id, _PAGE, before):
            yield from page
            before = page[-1].civil_day, page[-1].position

    def class_of(self, code: int) -> dict[str, object]:
        """What a class code means."""
        return dict(self._reader.classes([code])[code])
