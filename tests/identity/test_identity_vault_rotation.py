"""Rotation: data keys move under the newest wrapping key while everything goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from vault_house import ALICE, BOB, VaultHouse, vault_house

from services.identity import keeping
from services.identity.domain.sealing import KeyDestroyed
from services.identity.opening import open_vault
from services.identity.storage.people import People
from services.identity.storage.vault import Vault
from services.identity.storage.wrapping import left, missing, retire, rewrap_some
from services.identity.upstream.key_management import FileKeyManagement, KeyKept, KeyMissing
from shared.settings import StartRefused

PLAIN = b"planted"


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[VaultHouse]:
    with vault_house(database_url, tmp_path) as made:
        yield made


def rewrap(house: VaultHouse, limit: int = 100) -> int:
    with house.database.transaction() as connection:
        return rewrap_some(connection, house.keys, limit)


def lie(house: VaultHouse) -> dict[str, int]:
    with house.database.transaction() as connection:
        return left(connection)


def retire_key(house: VaultHouse, name: str) -> None:
    with house.database.transaction() as connection:
        retire(connection, house.keys, name)


def test_batches_move_every_data_key_and_what_was_sealed_stays_readable(
    house: VaultHouse,
) -> None:
    accounts = range(1, 11)
    house.new_key(*accounts)
    sealed = {account: house.seal(account, "label", PLAIN) for account in accounts}
    old = house.keys.current()
    assert rewrap(house) == 0, "nothing lies under an old key"
    new = house.keys.rotate()
    assert [rewrap(house, 4)] == [4]
    assert lie(house) == {old: 6, new: 4}
    assert all(house.open(account, "label", each) == PLAIN for account, each in sealed.items())
    assert [rewrap(house, 4) for _ in range(3)] == [4, 2, 0]
    assert lie(house) == {new: 10}
    assert all(house.open(account, "label", each) == PLAIN for account, each in sealed.items())


def test_keys_of_several_rotations_move_in_one_go_to_the_newest(house: VaultHouse) -> None:
    for account in range(1, 7):
        house.new_key(account)
        if account % 2 == 0:
            house.keys.rotate()
    assert [rewrap(house, 5), rewrap(house, 5)] == [5, 1]
    assert lie(house) == {house.keys.current(): 6}


def test_a_wrapping_key_is_retired_when_nothing_lies_under_it_and_not_before(
    house: VaultHouse,
) -> None:
    house.new_key(ALICE, BOB)
    sealed = house.seal(ALICE, "label", PLAIN)
    old = house.keys.current()
    house.keys.rotate()
    rewrap(house, 1)
    with pytest.raises(KeyKept, match="still wrapped"):
        retire_key(house, old)
    rewrap(house, 1)
    retire_key(house, old)
    assert house.keys.names() == [house.keys.current()]
    assert house.open(ALICE, "label", sealed) == PLAIN


def test_whoever_lacks_one_wrapping_key_moves_the_rest(house: VaultHouse) -> None:
    house.new_key(ALICE)
    first = house.keys.current()
    house.keys.rotate()
    house.new_key(BOB)
    house.keys.rotate()
    file = house.keys_dir / "wrapping" / f"{first}.key"
    held = file.rename(house.keys_dir / "held")
    with house.database.transaction() as connection:
        assert missing(connection, house.keys) == [first]
    assert rewrap(house) == 1
    assert lie(house) == {first: 1, house.keys.current(): 1}
    held.rename(file)
    assert rewrap(house) == 1
    with house.database.transaction() as connection:
        assert missing(connection, house.keys) == []


def test_a_data_key_that_is_broken_is_left_as_it_is_and_hinders_no_other(
    house: VaultHouse,
) -> None:
    house.new_key(ALICE, BOB)
    house.sql("update data_key set wrapped = '\\x00' where account_id = :id", id=ALICE)
    old = house.keys.current()
    house.keys.rotate()
    assert rewrap(house) == 1
    assert lie(house)[old] == 1


def test_a_start_without_a_wrapping_key_that_is_needed_is_refused(house: VaultHouse) -> None:
    house.new_key(ALICE)
    open_vault(house.database, house.vault, house.keys)
    old = house.keys.current()
    house.keys.rotate()
    (house.keys_dir / "wrapping" / f"{old}.key").unlink()
    with pytest.raises(StartRefused, match=old):
        open_vault(house.database, house.vault, house.keys)


def test_a_start_seals_what_is_in_clear(house: VaultHouse) -> None:
    house.add_old_person(ALICE, "小明")
    open_vault(house.database, house.vault, house.keys)
    with house.database.transaction() as connection:
        assert People(house.vault).read(connection, ALICE, None) is not None


def test_the_background_moves_keys_soon_after_a_rotation(
    house: VaultHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "REWRAP_IDLE_MS", 50)
    house.new_key(*range(1, 21))

    async def live() -> None:
        moving = asyncio.create_task(keeping.rewrap_keys(house.database, house.keys))
        await asyncio.sleep(0.2)
        new = FileKeyManagement(house.keys_dir / "wrapping").rotate()
        while lie(house) != {new: 20}:
            await asyncio.sleep(0.02)
        moving.cancel()
        with suppress(asyncio.CancelledError):
            await moving

    asyncio.run(asyncio.wait_for(live(), 20))


def test_a_step_that_fails_is_told_without_values_and_tried_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers: list[int | Exception] = [3, RuntimeError("away\nDETAIL: customer 42"), 2, 0]

    async def step() -> int:
        if not answers:
            await asyncio.sleep(3600)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def live() -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(keeping.repeat_step("sweeping", step, idle_ms=1), 0.5)

    asyncio.run(live())
    assert answers == []
    told = capsys.readouterr().out
    assert told.count("keeping.postponed") == 1
    assert "away" in told
    assert "sweeping" in told
    assert "customer 42" not in told


# Races. Each is staged: one side stops at the worst place while the other goes through.


class Staged(FileKeyManagement):
    """A keyring that does something once, just after it wrapped or before it unwraps."""

    after_wrap: Callable[[], None] | None = None
    before_unwrap: Callable[[], None] | None = None

    def wrap(self, key: bytes, account_id: int) -> tuple[str, bytes]:
        made = super().wrap(key, account_id)
        act, self.after_wrap = self.after_wrap, None
        if act is not None:
            act()
        return made

    def unwrap(self, kek: str, wrapped: bytes, account_id: int) -> bytes:
        act, self.before_unwrap = self.before_unwrap, None
        if act is not None:
            act()
        return super().unwrap(kek, wrapped, account_id)


def test_a_key_wrapped_just_before_the_retirement_is_rolled_back_and_not_lost(
    house: VaultHouse,
) -> None:
    staged, old = Staged(house.keys_dir / "wrapping"), house.keys.current()

    def rotate_and_retire() -> None:
        house.keys.rotate()
        retire_key(house, old)

    staged.after_wrap = rotate_and_retire
    with pytest.raises(KeyMissing), house.database.transaction() as connection:
        Vault(staged).new_key(connection, ALICE)
    assert lie(house) == {}
    with house.database.transaction() as connection:
        Vault(staged).new_key(connection, ALICE)
    assert house.open(ALICE, "label", house.seal(ALICE, "label", PLAIN)) == PLAIN


def test_a_data_key_rewrapped_just_before_its_wrapping_key_is_retired_is_not_lost(
    house: VaultHouse,
) -> None:
    house.new_key(ALICE)
    sealed = house.seal(ALICE, "label", PLAIN)
    staged, middle = Staged(house.keys_dir / "wrapping"), house.keys.rotate()

    def rotate_and_retire() -> None:
        house.keys.rotate()
        retire_key(house, middle)

    staged.after_wrap = rotate_and_retire
    with pytest.raises(KeyMissing), house.database.transaction() as connection:
        rewrap_some(connection, staged, 10)
    assert house.open(ALICE, "label", sealed) == PLAIN
    assert rewrap(house) == 1
    assert house.open(ALICE, "label", sealed) == PLAIN


def test_a_retirement_waits_for_a_key_that_is_being_written_and_then_is_refused(
    house: VaultHouse,
) -> None:
    old, outcome = house.keys.current(), list[object]()

    def retiring() -> None:
        try:
            retire_key(house, old)
        except KeyKept as error:
            outcome.append(error)

    with house.database.transaction() as connection:
        house.vault.new_key(connection, ALICE)
        house.keys.rotate()
        thread = threading.Thread(target=retiring)
        thread.start()
        wait_until(lambda: waiting_for_locks(house) == 1)
        assert outcome == []
    thread.join()
    assert len(outcome) == 1
    assert old in house.keys.names()


def test_a_reader_that_held_a_row_from_before_the_retirement_reads_it_again(
    house: VaultHouse,
) -> None:
    house.new_key(ALICE)
    sealed = house.seal(ALICE, "label", PLAIN)
    staged, old = Staged(house.keys_dir / "wrapping"), house.keys.current()

    def rotate_rewrap_and_retire() -> None:
        house.keys.rotate()
        rewrap(house)
        retire_key(house, old)

    staged.before_unwrap = rotate_rewrap_and_retire
    with house.database.transaction() as connection:
        assert Vault(staged).open(connection, ALICE, "label", sealed) == PLAIN


def test_a_key_destroyed_while_it_is_rewrapped_never_comes_back(house: VaultHouse) -> None:
    house.new_key(ALICE, BOB)
    house.keys.rotate()
    with house.database.transaction() as connection:
        assert rewrap_some(connection, house.keys, 10) == 2
        thread = threading.Thread(target=house.destroy, args=(ALICE,))
        thread.start()
        wait_until(lambda: waiting_for_locks(house) == 1)
    thread.join()
    assert house.sql("select account_id from data_key") == [(BOB,)]


def test_a_key_that_is_being_destroyed_is_left_alone(house: VaultHouse) -> None:
    house.new_key(ALICE, BOB)
    house.keys.rotate()
    with house.database.transaction() as connection:
        house.vault.destroy(connection, ALICE)
        assert rewrap(house) == 1
    assert house.sql("select account_id from data_key") == [(BOB,)]


def test_workers_beside_each_other_share_the_rows(house: VaultHouse) -> None:
    house.new_key(*range(1, 21))
    house.keys.rotate()
    with house.database.transaction() as connection:
        assert rewrap_some(connection, house.keys, 12) == 12
        assert rewrap(house, 12) == 8
        assert rewrap(house, 12) == 0
    assert lie(house) == {house.keys.current(): 20}


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


def waiting_for_locks(house: VaultHouse) -> int:
    [(count,)] = house.sql(
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    return int(count)


# All of it at once, for a while.


class Crowd:
    """Threads that do the same again and again until told to end; `faults` is what they met."""

    def __init__(self, *acts: Callable[[], object]) -> None:
        self.faults: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(act,)) for act in acts]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, act: Callable[[], object]) -> None:
        while not self._stop.is_set():
            try:
                act()
            except Exception as error:
                self.faults.append(repr(error))


def test_rotations_under_readers_writers_and_erasures_lose_nothing(house: VaultHouse) -> None:
    stay, go = range(1, 41), range(101, 141)
    house.new_key(*stay, *go)
    sealed = {account: house.seal(account, "label", PLAIN) for account in (*stay, *go)}
    gone: set[int] = set()
    fresh = iter(range(1_001, 1_000_000))

    def read() -> None:
        for account in stay:
            assert house.open(account, "label", sealed[account]) == PLAIN
        for account in go:
            was_gone = account in gone
            with suppress(KeyDestroyed):
                assert house.open(account, "label", sealed[account]) == PLAIN
                assert not was_gone, "a destroyed key came back"

    def write() -> None:
        account = next(fresh)
        with suppress(KeyMissing):  # wrapped under a key that was being retired: as told, again
            house.new_key(account)
            assert house.open(account, "label", house.seal(account, "label", PLAIN)) == PLAIN

    def move() -> None:
        rewrap(house, 7)

    with Crowd(read, read, write, move, move) as crowd:
        for account in go:
            if account % 10 == 0:
                house.keys.rotate()
                time.sleep(0.3)
                retire_what_may_be(house)
            house.destroy(account)
            gone.add(account)
    assert crowd.faults == []
    while rewrap(house, 50):
        pass
    retire_what_may_be(house)
    assert house.keys.names() == list(lie(house)) == [house.keys.current()]
    assert all(house.open(account, "label", sealed[account]) == PLAIN for account in stay)
    assert house.sql("select account_id from data_key where account_id between 101 and 140") == []


def retire_what_may_be(house: VaultHouse) -> None:
    for name in house.keys.names()[:-1]:
        with suppress(KeyKept):
            retire_key(house, name)


_REWRAPS = """
import sys
from pathlib import Path
from services.identity.storage.wrapping import rewrap_some
from services.identity.upstream.key_management import FileKeyManagement
from shared.storage.engine import Database
database, keys = Database(sys.argv[1]), FileKeyManagement(Path(sys.argv[2]) / "wrapping")
print("ready", flush=True)
while True:
    with database.transaction() as connection:
        if not rewrap_some(connection, keys, 3):
            break
    print("batch", flush=True)
"""


def rewrap_until_killed(house: VaultHouse, batches: int | None) -> None:
    """A process that re-wraps; killed in the midst after so many batches, else left to finish."""
    url = house.database._engine.url.render_as_string(hide_password=False)
    with subprocess.Popen(
        [sys.executable, "-c", _REWRAPS, url, str(house.keys_dir)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        for number, _ in enumerate(process.stdout):
            if number == batches:
                os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == (0 if batches is None else -signal.SIGKILL)


def test_a_rewrap_that_is_killed_goes_on_where_it_was(house: VaultHouse) -> None:
    accounts = range(1, 201)
    house.new_key(*accounts)
    sealed = {account: house.seal(account, "label", PLAIN) for account in accounts}
    old, new = house.keys.current(), house.keys.rotate()
    before = 200
    for batches in (1, 7, 12):
        rewrap_until_killed(house, batches)
        assert sum(lie(house).values()) == 200
        assert 0 < lie(house)[old] < before
        before = lie(house)[old]
        assert all(house.open(account, "label", each) == PLAIN for account, each in sealed.items())
    rewrap_until_killed(house, None)
    assert lie(house) == {new: 200}
    assert all(house.open(account, "label", each) == PLAIN for account, each in sealed.items())
