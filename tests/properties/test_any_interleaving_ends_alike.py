"""Any interleaving of record, late and withdraw ends in the milligrams of the survivors."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from services.calculation.domain.assess import Acts, Rulebook, SceneCode, Verdict, assess
from services.calculation.domain.library import load_library
from services.calculation.domain.methodology import Credit
from services.calculation.domain.windows import CapMemory
from services.calculation.storage.book import Book
from services.calculation.usecases.assess_events import (
    _Fresh,
    record_assessments,
    take_back,
    used_in,
)
from services.calculation.wiring import MIGRATIONS
from shared.storage.engine import Database
from shared.storage.migrate import migrate

TESTSET = Path(__file__).parent.parent / "methodologies" / "testset"
DAYS = (20_600, 20_601, 20_629, 20_634)  # two in May 2026, two in June: months differ too
RULES = ("day-count", "day-distance", "month-count", "month-result")


def programme_of(rule: str, scene: str) -> str:
    return f"""
id = "test"
title_zh = "测试"
title_en = "Test"
demo = true
[[entry]]
scene = "{scene}"
methodology = "{rule}"
scene_approval = "demo: none"
from_date = 2020-01-01
"""


class Classes:
    """Class codes from the database, as the follower takes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def code_of(self, credit: Credit, region: int, vintage_month: int) -> int:
        with self._database.transaction() as connection:
            return Book(connection).class_code(credit, region, vintage_month)


def rulebook(rule: str) -> Rulebook:
    text = (TESTSET / f"{rule}.toml").read_text("utf-8")
    methodology = load_library({f"{rule}.toml": text}).methodologies[rule]
    scene = sorted(methodology.scenes)[0]
    files = {f"{rule}.toml": text, "programmes/test.toml": programme_of(rule, scene)}
    library = load_library(files)
    measures = tuple(m.name for m in methodology.versions[0].measures)
    return Rulebook(library.programmes["test"], {1: SceneCode(scene, measures)})


def some_acts(chance: random.Random, first: int, count: int) -> Acts:
    accounts = [64 * n for n in (1, 2, 3)]  # all in shard 0: positions are one sequence
    column = partial(np.array, dtype=np.int64)
    return Acts(
        shard=column([0] * count),
        activity_position=column(range(first, first + count)),
        account_id=column([chance.choice(accounts) for _ in range(count)]),
        scene=column([1] * count),
        region=column([440300] * count),
        evidence_grade=column([1] * count),
        civil_day=column([chance.choice(DAYS) for _ in range(count)]),
        measure_1=column([chance.choice((0, 1, 700, 5_000, 19_999, 20_000)) for _ in range(count)]),
        measure_2=column([0] * count),
    )


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    migrate(database_url, MIGRATIONS)
    with closing(Database(database_url)) as database:
        yield database


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_any_interleaving_ends_as_one_evaluation_of_the_survivors(
    database: Database, rule: str, seed: int
) -> None:
    chance = random.Random(f"{rule}-{seed}")
    rules, classes = rulebook(rule), Classes(database)
    recorded: list[Acts] = []
    withdrawn: set[int] = set()
    position = 1
    caps = [_memory(database, rules, classes)]
    for _ in range(14):
        move = chance.random()
        if move < 0.6 or position == 1:
            acts = some_acts(chance, position, chance.randint(1, 12))
            position += len(acts)
            recorded.append(acts)
            _in_one_transaction(
                database, caps[0], partial(record_assessments, acts, rules, classes=classes)
            )
        elif move < 0.9:
            targets = [(0, chance.randrange(1, position)) for _ in range(chance.randint(1, 3))]
            withdrawn.update(target for _, target in targets)
            _in_one_transaction(
                database, caps[0], partial(take_back, targets, rules, classes=classes)
            )
        else:  # the worker dies and another one takes the shard, remembering nothing
            caps[0] = _memory(database, rules, classes)
    with database.transaction() as connection:
        stored = Book(connection).read_days(np.array([0]), min(DAYS), max(DAYS))
        deltas = Book(connection).read_runs({0: 0}, 10_000)
    survivors = stored.take(stored.verdict != Verdict.WITHDRAWN)
    once = assess(survivors.acts, rules, caps=_Fresh(), classes=classes)
    assert set(stored.acts.activity_position.tolist()) == set(range(1, position))
    assert survivors.amount.tolist() == once.amount.tolist()
    gone = stored.acts.activity_position[stored.verdict == Verdict.WITHDRAWN]
    assert set(gone.tolist()) == withdrawn
    posted = sum(
        int.from_bytes(run.columns["delta"][at : at + 8], signed=True)
        for run in deltas
        for at in range(0, len(run.columns["delta"]), 8)
    )
    assert posted == int(once.amount.sum())


def _memory(database: Database, rules: Rulebook, classes: Classes) -> CapMemory:
    def load(cap_key: str, shards: object, windows: object) -> object:
        with database.transaction() as connection:
            return used_in(cap_key, shards, windows, rules, Book(connection), classes)  # type: ignore[arg-type]  # arrays

    return CapMemory(load)  # type: ignore[arg-type]  # as the follower wires it


def _in_one_transaction(database: Database, caps: CapMemory, change: Callable[..., None]) -> None:
    with database.transaction() as connection:
        change(book=Book(connection), caps=caps)
