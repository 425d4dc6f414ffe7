"""carbonaccount wrapping-keys: what an operator sees and may do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result
from vault_house import ALICE, BOB, VaultHouse, vault_house

from services.identity.key_commands import wrapping_keys_app
from services.identity.storage.wrapping import rewrap_some


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[VaultHouse]:
    with vault_house(database_url, tmp_path) as made:
        yield made


def run(database_url: str, keys_dir: Path, *arguments: str) -> Result:
    app = wrapping_keys_app(lambda: database_url, lambda: keys_dir)
    return CliRunner().invoke(app, arguments)


def test_rotate_rewrap_retire_as_an_operator_does_it(house: VaultHouse, database_url: str) -> None:
    house.new_key(ALICE, BOB)
    old = house.keys.current()
    new = run(database_url, house.keys_dir, "rotate").stdout.strip()
    assert new == house.keys.current() != old

    said = run(database_url, house.keys_dir, "status").stdout.splitlines()
    assert [line.split() for line in said] == [[old, "2", "old"], [new, "0", "current"]]
    refused = run(database_url, house.keys_dir, "retire", old)
    assert refused.exit_code == 2
    assert "still wrapped" in refused.stderr
    assert old in house.keys.names()

    with house.database.transaction() as connection:
        rewrap_some(connection, house.keys, 10)
    said = run(database_url, house.keys_dir, "status").stdout.splitlines()
    assert [line.split(maxsplit=2) for line in said] == [
        [old, "0", "may be retired"],
        [new, "2", "current"],
    ]
    assert run(database_url, house.keys_dir, "retire", old).exit_code == 0
    assert house.keys.names() == [new]


def test_the_current_key_and_an_unknown_one_are_not_retired(
    house: VaultHouse, database_url: str
) -> None:
    for name, said in [(house.keys.current(), "rotate first"), ("nothing", "no wrapping key")]:
        refused = run(database_url, house.keys_dir, "retire", name)
        assert refused.exit_code == 2
        assert said in refused.stderr
    assert len(house.keys.names()) == 1


def test_a_key_that_is_missing_is_named(house: VaultHouse, database_url: str) -> None:
    house.new_key(ALICE)
    old = house.keys.current()
    house.keys.rotate()
    (house.keys_dir / "wrapping" / f"{old}.key").unlink()
    said = run(database_url, house.keys_dir, "status").stdout.splitlines()
    assert [line.split()[2] for line in said] == ["MISSING", "current"]


def test_a_database_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    said = run("postgresql://app:word@127.0.0.1:9/none", tmp_path, "status")
    assert said.exit_code == 2
    assert said.stderr.startswith("identity's database cannot be used")
    assert len(said.stderr.splitlines()) == 1
    assert "word" not in said.stderr
