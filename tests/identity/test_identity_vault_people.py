"""Persons by version, and the clear-text ones of before the vault."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from vault_house import ALICE, BOB, MICROSECOND, NOW, VaultHouse, vault_house

from services.identity.domain.sealing import KeyDestroyed, SealBroken
from services.identity.opening import open_vault
from services.identity.storage.people import People, give_back_old_pages, seal_old_people
from shared.storage.embedded import EmbeddedPostgres

LATER = NOW + timedelta(days=1)


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[VaultHouse]:
    with vault_house(database_url, tmp_path) as made:
        yield made


@pytest.fixture
def people(house: VaultHouse) -> People:
    house.new_key(ALICE, BOB)
    return People(house.vault)


def write(house: VaultHouse, people: People, account_id: int, number: int, plain: bytes) -> None:
    with house.database.transaction() as connection:
        time = NOW + (number - 1) * timedelta(days=1)
        people.write(connection, account_id, number, time, plain)


def read(
    house: VaultHouse, people: People, account_id: int, as_of: object = None
) -> tuple[int, bytes] | None:
    with house.database.transaction() as connection:
        return people.read(connection, account_id, as_of)  # type: ignore[arg-type]  # a moment


def test_the_newest_version_is_read_and_older_ones_as_of_their_time(
    house: VaultHouse, people: People
) -> None:
    write(house, people, ALICE, 1, b"first")
    assert read(house, people, ALICE) == (1, b"first")
    write(house, people, ALICE, 2, b"second")
    assert read(house, people, ALICE) == (2, b"second")
    assert read(house, people, ALICE, LATER) == (2, b"second")
    assert read(house, people, ALICE, LATER - MICROSECOND) == (1, b"first")
    assert read(house, people, ALICE, NOW) == (1, b"first")
    assert read(house, people, ALICE, NOW - MICROSECOND) is None
    assert read(house, people, BOB) is None


def test_a_version_is_written_once(house: VaultHouse, people: People) -> None:
    write(house, people, ALICE, 1, b"first")
    with pytest.raises(sa.exc.IntegrityError):
        write(house, people, ALICE, 1, b"other")
    assert read(house, people, ALICE) == (1, b"first")


def test_an_older_version_cannot_be_passed_off_as_the_newest(
    house: VaultHouse, people: People
) -> None:
    write(house, people, ALICE, 1, b"first")
    write(house, people, ALICE, 2, b"second")
    house.sql(
        "update person set sealed = (select sealed from person where number = 1) where number = 2"
    )
    with pytest.raises(SealBroken):
        read(house, people, ALICE)


def test_a_person_moved_to_another_account_does_not_open(house: VaultHouse, people: People) -> None:
    write(house, people, ALICE, 1, b"alice")
    write(house, people, BOB, 1, b"bob")
    house.sql(
        "update person set sealed = (select sealed from person where account_id = :alice)"
        " where account_id = :bob",
        alice=ALICE,
        bob=BOB,
    )
    with pytest.raises(SealBroken):
        read(house, people, BOB)
    assert read(house, people, ALICE) == (1, b"alice")


def test_an_erasure_leaves_no_version_and_no_key_of_this_account_only(
    house: VaultHouse, people: People
) -> None:
    for account in (ALICE, BOB):
        write(house, people, account, 1, b"first")
        write(house, people, account, 2, b"second")
    with house.database.transaction() as connection:
        people.erase(connection, ALICE)
        house.vault.destroy(connection, ALICE)
    assert read(house, people, ALICE) is None
    assert read(house, people, ALICE, NOW) is None
    assert read(house, people, BOB, NOW) == (1, b"first")
    with pytest.raises(KeyDestroyed):
        write(house, people, ALICE, 3, b"third")


def test_rows_whose_key_is_destroyed_are_no_garbage_but_an_error(
    house: VaultHouse, people: People
) -> None:
    write(house, people, ALICE, 1, b"first")
    house.destroy(ALICE)
    with pytest.raises(KeyDestroyed):
        read(house, people, ALICE)


def test_a_reader_beside_an_erasure_sees_the_person_or_nobody(
    house: VaultHouse, people: People
) -> None:
    seen: list[object] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            try:
                seen.append(read(house, people, ALICE))
            except Exception as error:
                seen.append(error)

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(30):
        house.new_key(ALICE)
        write(house, people, ALICE, 1, b"first")
        with house.database.transaction() as connection:
            people.erase(connection, ALICE)
            house.vault.destroy(connection, ALICE)
    stop.set()
    reader.join()
    assert set(map(str, seen)) <= {"None", "(1, b'first')"}
    assert len(seen) > 10


def seal_old(house: VaultHouse, limit: int) -> int:
    with house.database.transaction() as connection:
        return seal_old_people(connection, house.vault, limit)


def test_clear_text_persons_become_sealed_ones_in_batches(house: VaultHouse) -> None:
    for account in range(1, 8):
        house.add_old_person(account, f"小明 {account}")
    assert [seal_old(house, 3) for _ in range(4)] == [3, 3, 1, 0]
    assert house.sql("select count(*) from account_person") == [(0,)]
    for account in range(1, 8):
        found = read(house, People(house.vault), account)
        assert found is not None
        assert found[0] == 1
        assert json.loads(found[1]) == {"display_name": f"小明 {account}", "region": 440300}
    assert read(house, People(house.vault), 1, NOW) is not None, "set when the account was opened"
    assert read(house, People(house.vault), 1, NOW - MICROSECOND) is None


def test_moving_that_dies_in_between_goes_on_where_it_was(house: VaultHouse) -> None:
    for account in range(1, 6):
        house.add_old_person(account, "小明")
    assert seal_old(house, 2) == 2
    with suppress(RuntimeError), house.database.transaction() as connection:
        assert seal_old_people(connection, house.vault, 2) == 2
        raise RuntimeError
    assert house.sql("select count(*) from account_person") == [(3,)]
    assert [seal_old(house, 2) for _ in range(3)] == [2, 1, 0]
    assert house.sql("select count(*), sum(number) from person") == [(5, 5)]
    assert house.sql("select count(*) from data_key") == [(5,)]


def test_workers_that_start_at_once_share_the_moving(house: VaultHouse) -> None:
    for account in range(1, 61):
        house.add_old_person(account, "小明")
    faults: list[Exception] = []

    def start() -> None:
        try:
            open_vault(house.database, house.vault, house.keys)
        except Exception as error:
            faults.append(error)

    workers = [threading.Thread(target=start) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert faults == []
    assert house.sql("select count(*) from account_person") == [(0,)]
    assert house.sql("select count(distinct account_id), count(*) from person") == [(60, 60)]
    assert house.sql("select count(*) from data_key") == [(60,)]


def test_the_old_table_keeps_no_name_on_its_pages(
    house: VaultHouse, postgres: EmbeddedPostgres
) -> None:
    secret = f"planted-{os.urandom(6).hex()}"
    house.add_old_person(ALICE, secret)
    house.sql("checkpoint")
    assert len(files_with(house, postgres, secret)) == 1
    open_vault(house.database, house.vault, house.keys)
    house.sql("checkpoint")
    assert files_with(house, postgres, secret) == []
    [(clean,)] = house.sql("select pg_relation_filenode('account_person')")
    open_vault(house.database, house.vault, house.keys)
    assert house.sql("select pg_relation_filenode('account_person')") == [(clean,)]


def test_a_clear_text_table_with_a_row_left_is_not_emptied(house: VaultHouse) -> None:
    house.add_old_person(ALICE, "小明")
    with house.database.transaction() as connection:
        give_back_old_pages(connection)
    assert house.sql("select display_name from account_person") == [("小明",)]


def files_with(house: VaultHouse, postgres: EmbeddedPostgres, text: str) -> list[Path]:
    """Files of this database's tables that hold `text`."""
    [(number,)] = house.sql("select oid from pg_database where datname = current_database()")
    files = (postgres.data / "base" / str(number)).iterdir()
    return [file for file in files if text.encode() in file.read_bytes()]
