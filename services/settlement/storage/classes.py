"""What assets and asset classes are called in the book."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.settlement.storage.tables import asset_class
from shared.refusal import StateConflict


class ClassBook:
    """Dictionaries of assets and classes, on one connection inside one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def note(self, classes: Sequence[Mapping[str, object]]) -> None:
        """Keeps what class codes mean; StateConflict when one means something else by now."""
        for row in classes:
            values = {**row, "asset": self._asset_code(str(row["asset"]))}
            self._connection.execute(
                pg.insert(asset_class).values(**values).on_conflict_do_nothing()
            )
            kept = self._connection.execute(
                sa.select(asset_class).where(asset_class.c.code == row["code"])
            ).mappings().one()  # fmt: skip
            if dict(kept) != values:
                raise StateConflict(
                    f"asset class {row['code']} means something else than it did; codes are "
                    "fixed for ever",
                    metadata={
                        "resource": f"asset class {row['code']}",
                        "state": "kept",
                        "wanted": "same",
                    },
                )

    def assets(self) -> dict[int, int]:
        """Asset code of each class code."""
        rows = self._connection.execute(sa.select(asset_class.c.code, asset_class.c.asset))
        return {code: asset for code, asset in rows}

    def _asset_code(self, name: str) -> int:
        """The code of an asset, made when it is new."""
        query = sa.text("select code from asset where name = :name")
        code = self._connection.execute(query, {"name": name}).scalar()
        if code is None:
            self._connection.execute(
                sa.text(
                    "insert into asset select coalesce(max(code), 0) + 1, :name from asset"
                    " on conflict do nothing"
                ),
                {"name": name},
            )
            code = self._connection.execute(query, {"name": name}).scalar_one()
        return int(code)
