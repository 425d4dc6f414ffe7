"""An account's pages of the book, for a copy: every entry once, all of one moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from services.settlement.storage.classes import ClassBook
from services.settlement.storage.privacy import Statement
from services.settlement.usecases.privacy import erase_account, export_account
from services.settlement.wiring import MIGRATIONS
from shared.ids import account_name
from shared.privacy import Table
from shared.storage.engine import Database
from shared.storage.migrate import migrate
from tests.settlement.test_the_ledger_keeps_its_laws import CLASS, post_run

ME, OTHER = 64, 128  # both of shard 0
MEANING = {
    "code": CLASS, "vintage_month": 24_316, "asset": "reduction", "methodology_version": "m/v1",
    "methodology_digest": "d", "programme": "demo", "scene_approval": "", "region_code": "440300",
    "gas_scope": "CO2",
}  # fmt: skip


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    migrate(database_url, MIGRATIONS)
    with closing(Database(database_url)) as database:
        with database.transaction() as connection:
            ClassBook(connection).note([MEANING])
        yield database


def copied(database: Database, account_id: int) -> dict[str, list[dict[str, object]]]:
    """The tables of a copy."""
    with database.transaction() as connection:
        tables = list(export_account(account_id, statement=Statement(connection)))
        return {
            table.name: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
            for table in tables
            if isinstance(table, Table)
        }


@pytest.mark.parametrize("days", [1, 499, 500, 501, 1203])
def test_every_entry_is_there_once_whatever_the_page(database: Database, days: int) -> None:
    post_run(database, [(ME, 20_000 + day, 10 + day) for day in range(days)])
    post_run(database, [(OTHER, 20_000, 5)])
    found = copied(database, ME)
    entries = found["entries"]
    assert len({entry["transfer"] for entry in entries}) == len(entries) == days
    assert [entry["civil_date"] for entry in entries] == sorted(
        (entry["civil_date"] for entry in entries), key=str, reverse=True
    )
    total = sum(range(10, 10 + days))
    assert sum(int(str(entry["delta"])) for entry in entries) == total
    (balance,) = found["balances"]
    assert (balance["asset"], balance["available"]) == ("reduction", total)
    newest = entries[0]
    assert newest["methodology_version"] == "m/v1"
    assert newest["from_pocket"] == "shards/0/issue"
    assert newest["to_pocket"] == f"{account_name(ME)}/available"
    assert newest["cause"] == f"runs/0-1-{days}"


def test_what_was_taken_back_is_below_zero_and_what_was_forgiven_is_told(
    database: Database,
) -> None:
    post_run(database, [(ME, 20_000, 100)])
    post_run(database, [(ME, 20_000, -30)])
    found = copied(database, ME)
    kinds = [(entry["kind"], entry["delta"]) for entry in found["entries"]]
    assert kinds == [("reverse", -30), ("earn", 100)]
    assert found["balances"][0]["available"] == 70


def test_an_account_without_a_book_has_empty_tables(database: Database) -> None:
    assert copied(database, ME) == {"balances": [], "entries": []}


def test_what_is_posted_while_a_copy_is_read_is_not_in_half_of_it(database: Database) -> None:
    post_run(database, [(ME, 20_000 + day, 1) for day in range(600)])
    with database.transaction() as connection:
        balances, entries = export_account(ME, statement=Statement(connection))
        assert isinstance(entries, Table)
        assert isinstance(balances, Table)
        ((_, available, *_),) = balances.rows
        rows = iter(entries.rows)
        next(rows)
        post_run(database, [(ME, 19_000, 7)])
        assert 1 + sum(1 for _ in rows) == available == 600


def test_a_copy_writes_nothing(database: Database) -> None:
    with database.transaction() as connection:
        Statement(connection)
        with pytest.raises(sa.exc.InternalError, match="read-only"):
            connection.execute(sa.text("delete from pocket"))
        connection.rollback()


def test_an_erasure_deletes_nothing_and_says_what_is_kept_and_why() -> None:
    erased = erase_account(ME)
    assert dict(erased.counts) == {}
    assert len(erased.kept) == 2
    assert all(kept.what and kept.why and kept.until_time is None for kept in erased.kept)
