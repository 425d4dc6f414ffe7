"""Checks are counted by caller and day, beside the path of the check, and written soon."""

from __future__ import annotations

import asyncio
import threading
import timeit
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest
from vault_house import VaultHouse, vault_house

from services.identity.storage import meter as meters
from services.identity.storage.meter import Meter, Metered, add_sums, read_meters
from shared.storage.engine import Database

DAY = 20_574
ACTIVITY, AUDITOR = "services/activity", "auditors/office"


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[VaultHouse]:
    with vault_house(database_url, tmp_path) as made:
        yield made


def written(house: VaultHouse, after: Metered | None = None, limit: int = 50) -> list[Metered]:
    key = (after.civil_day, after.caller) if after else None
    with house.database.transaction() as connection:
        return read_meters(connection, key, limit)


@asynccontextmanager
async def running(meter: Meter) -> AsyncIterator[None]:
    """A meter as the service runs it, and its end."""
    task = asyncio.create_task(meter.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await meter.close()


def test_sums_are_written_within_about_a_second(house: VaultHouse) -> None:
    async def live() -> None:
        meter = Meter(house.database)
        async with running(meter):
            meter.count(ACTIVITY, DAY, 5_000, 12)
            meter.count(ACTIVITY, DAY, 1, 0)
            assert written(house) == [], "a check waits for nothing"
            await asyncio.sleep(1.5)
            assert written(house) == [Metered(ACTIVITY, DAY, 5_001, 12)]

    asyncio.run(live())


def test_what_was_counted_before_the_end_is_written_at_the_end(house: VaultHouse) -> None:
    async def live() -> None:
        meter = Meter(house.database)
        async with running(meter):
            meter.count(ACTIVITY, DAY, 2, 1)

    asyncio.run(live())
    asyncio.run(live())
    assert written(house) == [Metered(ACTIVITY, DAY, 4, 2)]


def test_a_stop_in_the_midst_of_a_flush_neither_loses_nor_doubles_it(
    house: VaultHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "FLUSH_MS", 10)

    async def live() -> None:
        meter = Meter(house.database)
        with house.database.transaction() as holding:
            add_sums(holding, {(ACTIVITY, DAY): (1, 0)})
            task = asyncio.create_task(meter.run())
            meter.count(ACTIVITY, DAY, 10, 3)
            await asyncio.sleep(0.2)  # its flush waits for the row
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            meter.count(ACTIVITY, DAY, 100, 0)
        await meter.close()

    asyncio.run(live())
    assert written(house) == [Metered(ACTIVITY, DAY, 111, 3)]


def test_sums_wait_while_the_database_cannot_take_them(
    house: VaultHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "FLUSH_MS", 10)

    async def live() -> None:
        meter = Meter(house.database)
        async with running(meter):
            house.sql("alter table consent_meter rename to away")
            meter.count(ACTIVITY, DAY, 7, 1)
            await asyncio.sleep(0.2)
            meter.count(ACTIVITY, DAY, 1, 1)
            house.sql("alter table away rename to consent_meter")
            await asyncio.sleep(0.5)
            assert written(house) == [Metered(ACTIVITY, DAY, 8, 2)]

    asyncio.run(live())
    assert written(house) == [Metered(ACTIVITY, DAY, 8, 2)]


def test_what_is_lost_at_the_end_is_said_and_the_end_is_not_held_up(
    house: VaultHouse, capsys: pytest.CaptureFixture[str]
) -> None:
    async def live() -> None:
        with closing(Database("postgresql://app:x@127.0.0.1:9/none")) as away:
            meter = Meter(away)
            meter.count(ACTIVITY, DAY, 7, 1)
            await asyncio.wait_for(meter.close(), 30)

    asyncio.run(live())
    said = capsys.readouterr()
    assert "meter.lost" in said.out + said.err
    assert "checks=7" in (said.out + said.err).replace('"checks": 7', "checks=7")


def test_workers_add_to_the_same_rows_without_waiting_for_ever(house: VaultHouse) -> None:
    sums = {(f"services/{name}", day): (10, 1) for name in "abcdef" for day in (DAY, DAY + 1)}
    backwards = dict(reversed(sums.items()))

    def work(mine: dict[tuple[str, int], tuple[int, int]]) -> None:
        for _ in range(25):
            with house.database.transaction() as connection:
                add_sums(connection, mine)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in (sums, backwards) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(one.checks, one.refused) for one in written(house)} == {(1_000, 100)}
    assert len(written(house)) == 12


def test_meters_are_listed_newest_day_first_page_by_page(house: VaultHouse) -> None:
    with house.database.transaction() as connection:
        add_sums(
            connection,
            {
                (ACTIVITY, DAY - 1): (3, 0),
                (ACTIVITY, DAY): (1, 1),
                (AUDITOR, DAY): (2, 0),
            },
        )
    every = [
        Metered(AUDITOR, DAY, 2, 0),
        Metered(ACTIVITY, DAY, 1, 1),
        Metered(ACTIVITY, DAY - 1, 3, 0),
    ]
    assert written(house) == every
    assert written(house, None, 2) == every[:2]
    with house.database.transaction() as connection:  # what comes meanwhile moves no page
        add_sums(connection, {("services/newest", every[0].civil_day + 1): (1, 0)})
    assert written(house, every[1], 2) == every[2:]
    assert written(house, every[-1], 2) == []


def test_counting_costs_a_check_next_to_nothing(house: VaultHouse) -> None:
    meter = Meter(house.database)
    taken = min(
        timeit.repeat(lambda: meter.count(ACTIVITY, DAY, 5_000, 1), number=10_000, repeat=5)
    )
    assert taken / 10_000 < 10e-6
