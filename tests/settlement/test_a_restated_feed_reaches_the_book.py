"""What calculation restated, as its feed has it, ends in balances of what each act comes to now."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from carbonaccount.calculation.v1 import assessment_service_pb2 as pb

from services.calculation.rpc.messages import write_class, write_run
from services.calculation.storage import book as calculation
from services.calculation.wiring import MIGRATIONS as CALCULATION
from services.settlement.followers.assessment_follower import FEED, AssessmentApplier
from services.settlement.storage.auditor import audit_shard
from services.settlement.storage.reader import Reader
from services.settlement.wiring import MIGRATIONS as SETTLEMENT
from shared.feed.cursors import read_cursors
from shared.storage.embedded import EmbeddedPostgres
from shared.storage.engine import Database
from shared.storage.migrate import migrate
from tests.calculation.life_files import (
    BIKE,
    BIKE_FILE,
    PROGRAMME,
    RIDES,
    STEP_MASS,
    STEPS,
    WALK,
    corrected,
    entry,
    methodology,
    programme,
    version,
)
from tests.calculation.life_world import REASON, Doing, Life, living

ACCOUNTS = (64, 65, 128, 129)


@pytest.fixture
def life(postgres: EmbeddedPostgres, database_url: str, tmp_path: Path) -> Iterator[Life]:
    migrate(database_url, CALCULATION)
    with living(database_url, tmp_path) as life:
        yield life


@pytest.fixture
def ledger(postgres: EmbeddedPostgres, database_url: str) -> Iterator[Database]:
    name = f"{database_url.rpartition('/')[2]}_ledger"
    postgres.create_database(name)
    migrate(postgres.url(name), SETTLEMENT)
    with closing(Database(postgres.url(name))) as database:
        yield database


def some_acts(chance: random.Random) -> list[Doing]:
    days = ("2026-02-27", "2026-03-15", "2026-03-16", "2026-05-19")
    return [
        Doing(chance.choice(ACCOUNTS), chance.choice((BIKE, WALK)), chance.choice(days),
              chance.choice((0, 1, 2, 100)))
        for _ in range(60)
    ]  # fmt: skip


def follow(life: Life, ledger: Database, applier: AssessmentApplier) -> None:
    """The ledger takes what is in the feed by now."""
    with ledger.transaction() as connection:
        cursors = read_cursors(connection, FEED, (0, 1))
    applier.begin(cursors)
    with life.database.transaction() as connection:
        source = calculation.Book(connection)
        runs = [write_run(run) for run in source.read_runs(cursors, 1000)]
        classes = [write_class(row) for row in source.read_classes(range(1, 100))]
    if runs:
        applier.apply([pb.WatchAssessmentsResponse(runs=runs, asset_classes=classes)])


def expected(life: Life) -> dict[tuple[int, str], int]:
    """What each account has of each asset, added up over its acts as they stand."""
    sums: dict[tuple[int, str], int] = defaultdict(int)
    for account in ACCOUNTS:
        for asset, amount in life.amounts(account).values():
            sums[account, asset] += amount
    return {place: amount for place, amount in sums.items() if amount}


def held(ledger: Database) -> dict[tuple[int, str], int]:
    with ledger.transaction() as connection:
        reader = Reader(connection)
        rows = [(account, one) for account in ACCOUNTS for one in reader.holdings(account)]
    assert not any(one.forgiven for _, one in rows), "nobody spent anything"
    return {(account, one.asset): one.balance for account, one in rows if one.balance}


@pytest.mark.parametrize("seed", range(2))
def test_balances_are_what_the_acts_come_to_after_any_publication(
    life: Life, ledger: Database, seed: int
) -> None:
    chance = random.Random(seed)
    mass = methodology("life-mass", version("1", "2025-01-01", "5", kind=STEP_MASS))
    by_mass = entry(WALK, "life-mass")
    story: tuple[tuple[str, str, set[str]], ...] = (
        (BIKE_FILE, corrected("2026-03-16", "30.7"), {"reduction", STEPS}),
        ("life-mass.toml", mass, {"reduction", STEPS}),
        (PROGRAMME, programme(RIDES, by_mass), {"reduction"}),
        (PROGRAMME, programme(entry(WALK, "life-mass", "310100")), set()),
    )
    with closing(AssessmentApplier(ledger, lambda: None)) as applier:
        for path, text, assets in story:
            life.record(*some_acts(chance))
            life.withdraw(64, chance.randint(1, 5))
            life.into_force(path, text, REASON)
            if chance.random() < 0.5:  # else what was restated comes with what was before
                follow(life, ledger, applier)
            life.record(*some_acts(chance))
            while life.restate():
                pass
            follow(life, ledger, applier)
            assert held(ledger) == expected(life)
            assert {asset for _, asset in expected(life)} == assets
            for shard in (0, 1):
                with ledger.transaction() as connection:
                    assert audit_shard(connection, shard)
