"""The vault over its table: who opens what, when a key ends, and what lies on the disk."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from vault_house import ALICE, BOB, NOW, VaultHouse, vault_house

from services.identity.domain.sealing import CIPHERS, KeyDestroyed, SealBroken
from services.identity.storage.people import People
from services.identity.storage.vault import Vault
from services.identity.upstream.key_management import KeyMissing
from shared.rpc.status import refusal_of
from shared.storage.embedded import EmbeddedPostgres

PLAIN = "王小明".encode()


@pytest.fixture(params=list(CIPHERS))
def house(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path
) -> Iterator[VaultHouse]:
    with vault_house(database_url, tmp_path, request.param) as made:
        yield made


def test_what_was_sealed_opens_for_its_account_and_purpose(house: VaultHouse) -> None:
    house.new_key(ALICE)
    sealed = house.seal(ALICE, "label", PLAIN)
    assert house.open(ALICE, "label", sealed) == PLAIN
    assert house.seal(ALICE, "label", PLAIN) != sealed, "equal values do not look equal"


def test_a_value_of_another_account_or_field_does_not_open(house: VaultHouse) -> None:
    house.new_key(ALICE, BOB)
    sealed = house.seal(ALICE, "label", PLAIN)
    for account, purpose in [(BOB, "label"), (ALICE, "note"), (BOB, "note")]:
        with pytest.raises(SealBroken):
            house.open(account, purpose, sealed)


def test_a_data_key_that_was_moved_to_another_account_does_not_unwrap(house: VaultHouse) -> None:
    house.new_key(ALICE, BOB)
    sealed = house.seal(ALICE, "label", PLAIN)
    house.sql(
        "update data_key set wrapped = (select wrapped from data_key where account_id = :alice)"
        " where account_id = :bob",
        alice=ALICE,
        bob=BOB,
    )
    with pytest.raises(SealBroken):
        house.open(BOB, "label", sealed)
    assert house.open(ALICE, "label", sealed) == PLAIN


def test_an_account_without_a_key_seals_nothing(house: VaultHouse) -> None:
    with pytest.raises(KeyDestroyed):
        house.seal(ALICE, "label", PLAIN)
    house.new_key(ALICE)
    house.seal(ALICE, "label", PLAIN)


def test_after_the_key_is_destroyed_nothing_of_the_account_opens(house: VaultHouse) -> None:
    house.new_key(ALICE, BOB)
    hers, his = house.seal(ALICE, "label", PLAIN), house.seal(BOB, "label", PLAIN)
    house.destroy(ALICE)
    house.destroy(ALICE)
    for act in (lambda: house.open(ALICE, "label", hers), lambda: house.seal(ALICE, "x", b"")):
        with pytest.raises(KeyDestroyed):
            act()
    assert house.open(BOB, "label", his) == PLAIN
    house.new_key(ALICE)
    with pytest.raises(SealBroken):
        house.open(ALICE, "label", hers)


def test_an_erasure_that_is_rolled_back_destroyed_nothing(house: VaultHouse) -> None:
    house.new_key(ALICE)
    sealed = house.seal(ALICE, "label", PLAIN)
    with suppress(RuntimeError), house.database.transaction() as connection:
        house.vault.destroy(connection, ALICE)
        with pytest.raises(KeyDestroyed):
            house.vault.open(connection, ALICE, "label", sealed)
        assert house.open(ALICE, "label", sealed) == PLAIN, "others see it at its commit"
        raise RuntimeError
    assert house.open(ALICE, "label", sealed) == PLAIN


def test_a_second_key_never_takes_the_place_of_the_first(house: VaultHouse) -> None:
    threads = [threading.Thread(target=house.new_key, args=(ALICE,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sealed = house.seal(ALICE, "label", PLAIN)
    house.new_key(ALICE)
    assert house.open(ALICE, "label", sealed) == PLAIN


def test_a_missing_wrapping_key_is_said_to_the_caller_and_nothing_is_lost(
    house: VaultHouse,
) -> None:
    house.new_key(ALICE)
    sealed = house.seal(ALICE, "label", PLAIN)
    file = house.keys_dir / "wrapping" / f"{house.keys.current()}.key"
    held = file.rename(house.keys_dir / "held")
    for act in (lambda: house.open(ALICE, "label", sealed), lambda: house.new_key(BOB)):
        with pytest.raises(KeyMissing) as error:
            act()
        assert refusal_of(error.value, "GetAccount").reason == "RETRY_LATER"
    held.rename(file)
    assert house.open(ALICE, "label", sealed) == PLAIN
    assert house.sql("select count(*) from data_key") == [(1,)]


def test_the_other_cipher_reads_what_this_one_wrote(house: VaultHouse) -> None:
    house.new_key(ALICE)
    sealed = {
        cipher: VaultHouse(house.database, house.keys_dir, cipher).seal(ALICE, "label", PLAIN)
        for cipher in CIPHERS
    }
    assert [sealed[cipher][1] for cipher in CIPHERS] == list(CIPHERS.values())
    assert {house.open(ALICE, "label", each) for each in sealed.values()} == {PLAIN}


def test_an_unknown_cipher_is_refused_by_name(house: VaultHouse) -> None:
    with pytest.raises(ValueError, match="aes-256-gcm, sm4-gcm"):
        Vault(house.keys, "sm4")


def test_a_name_is_neither_in_the_rows_nor_in_the_files_of_the_database(
    house: VaultHouse, postgres: EmbeddedPostgres
) -> None:
    secret, control = f"planted-{os.urandom(6).hex()}", f"visible-{os.urandom(6).hex()}"
    people, since = People(house.vault), time.time() - 1
    house.new_key(ALICE)
    with house.database.transaction() as connection:
        people.write(connection, ALICE, 1, NOW, secret.encode())
    house.sql("create table control (value text)")
    house.sql("insert into control values (:value)", value=control)
    [(row,)] = house.sql("select person::text || data_key::text from person, data_key")
    assert secret not in row
    assert secret.encode().hex() not in row
    house.sql("checkpoint")
    assert files_with(house, postgres, control, since), "this is how a name in clear would be found"
    assert files_with(house, postgres, secret, since) == []
    assert files_with(house, postgres, secret.encode().hex(), since) == []


def files_with(
    house: VaultHouse, postgres: EmbeddedPostgres, text: str, since: float
) -> list[Path]:
    """Files of this database, its server's journal and log that hold `text`; of the journal
    those that were written since then."""
    [(number,)] = house.sql("select oid from pg_database where datname = current_database()")
    tables = (postgres.data / "base" / str(number)).iterdir()
    journal = [f for f in (postgres.data / "pg_wal").iterdir() if f.stat().st_mtime >= since]
    files = [*tables, *journal, postgres.home / "postgres.log"]
    wanted = text.encode()
    return [file for file in files if file.is_file() and wanted in file.read_bytes()]
