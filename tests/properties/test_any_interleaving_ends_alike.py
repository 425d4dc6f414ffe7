"""Any interleaving of record, withdraw and restate ends in the milligrams of the survivors."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import sqlalchemy as sa

from services.calculation.domain.assess import Acts, Rulebook, SceneCode, Verdict, assess
from services.calculation.domain.faults import LibraryInvalid
from services.calculation.domain.library import load_library
from services.calculation.domain.methodology import Credit
from services.calculation.domain.windows import CapMemory
from services.calculation.storage.book import Book
from services.calculation.storage.restatements import Restatements
from services.calculation.usecases.assess_events import (
    Fresh,
    month_of,
    record_assessments,
    take_back,
    used_in,
)
from services.calculation.usecases.publish_library import Reason, RestatementOrder
from services.calculation.usecases.restate import restate_piece
from services.calculation.wiring import MIGRATIONS
from shared.storage.bulk import unpack
from shared.storage.engine import Database
from shared.storage.migrate import migrate

TESTSET = Path(__file__).parent.parent / "methodologies" / "testset"
DAYS = (*range(20_595, 20_608), 20_629)  # the end of May 2026 and its June: weeks cross over
RULES = (
    "day-count",
    "day-distance",
    "month-count",
    "month-result",
    "three-caps",
    "three-caps-measured",
    "history-household",
    "history-counts",
    "shared-caps",
)


def programme_of(rule: str, scenes: list[str]) -> str:
    entries = "".join(
        f'[[entry]]\nscene = "{scene}"\nmethodology = "{rule}"\n'
        'scene_approval = "demo: none"\nfrom_date = 2020-01-01\n'
        for scene in scenes
    )
    return f'id = "test"\ntitle_zh = "测试"\ntitle_en = "Test"\ndemo = true\n{entries}'


class Classes:
    """Class codes from the database, as the follower takes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def code_of(self, credit: Credit, region: int, vintage_month: int) -> int:
        with self._database.transaction() as connection:
            return Book(connection).class_code(credit, region, vintage_month)


def rulebook(rule: str, *, restated: bool = False) -> Rulebook:
    """The test set's rule; restated, its factors are half as much again."""
    text = (TESTSET / f"{rule}.toml").read_text("utf-8")
    if restated:
        text = corrected(text)
    methodology = load_library({f"{rule}.toml": text}).methodologies[rule]
    scenes = sorted(methodology.scenes)
    files = {f"{rule}.toml": text, "programmes/test.toml": programme_of(rule, scenes)}
    measures = {
        scene: tuple(m.name for m in version.measures)
        for version in methodology.versions
        for scene in version.scenes
    }
    codes = {code: SceneCode(name, measures[name]) for code, name in enumerate(scenes, 1)}
    return Rulebook(load_library(files).programmes["test"], codes)


def corrected(text: str) -> str:
    """The file with other numbers in its formula, and its cases as they then come out."""
    text = re.sub(r'\nvalue = "([0-9.]+)"', _half_as_much_again, text)
    while True:
        try:
            load_library({f"{tomllib.loads(text)['id']}.toml": text})
        except LibraryInvalid as error:
            (fault,) = error.faults
            found = re.search(r"must give (-?\d+) and gives (-?\d+)", fault.message)
            assert found is not None, fault
            lines = text.split("\n")
            at = next(n for n in range(fault.line, len(lines)) if "expected_" in lines[n])
            lines[at] = f"{lines[at].partition('=')[0]}= {found[2]}"
            text = "\n".join(lines)
        else:
            return text


def _half_as_much_again(found: re.Match[str]) -> str:
    return f'\nvalue = "{Decimal(found[1]) * 3 / 2}"'


@dataclass
class World:
    """One shard's worker: what it remembers, what it was told, where the restatement is."""

    database: Database
    rules: Rulebook
    classes: Classes
    chance: random.Random
    caps: CapMemory = field(init=False)
    position: int = 1
    withdrawn: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """The worker dies and another one takes the shard, remembering nothing."""

        def load(cap_key: str, shards: object, windows: object) -> object:
            with self.database.transaction() as connection:
                return used_in(  # type: ignore[arg-type]  # arrays
                    cap_key, shards, windows, self.rules, Book(connection), self.classes
                )

        self.caps = CapMemory(load)  # type: ignore[arg-type]  # as the follower wires it

    def record(self) -> None:
        acts = self.some_acts(self.chance.randint(1, 12))
        self.position += len(acts)
        self._in_one_transaction(
            partial(record_assessments, acts, self.rules, classes=self.classes, caps=self.caps)
        )

    def withdraw(self) -> None:
        targets = [
            (0, self.chance.randrange(1, self.position)) for _ in range(self.chance.randint(1, 3))
        ]
        self.withdrawn.update(target for _, target in targets)
        self._in_one_transaction(
            partial(take_back, targets, self.rules, classes=self.classes, caps=self.caps)
        )

    def publish(self, rules: Rulebook) -> None:
        """Other rules from now on, and a restatement of what is recorded."""
        self.rules = rules
        self.forget()
        order = RestatementOrder(
            month_of(DAYS[0]), month_of(DAYS[-1]), "operators/test", Reason("a", "b"), uuid4()
        )
        with self.database.transaction() as connection:
            Restatements(connection).begin(order)

    def restate_a_piece(self) -> bool:
        """Whether there was one."""
        with self.database.transaction() as connection:
            return restate_piece(
                [0], self.rules, book=Book(connection), classes=self.classes,
                restatements=Restatements(connection), slice_acts=15,
            )  # fmt: skip

    def some_acts(self, count: int) -> Acts:
        accounts = [64 * n for n in (1, 2, 3)]  # all in shard 0: positions are one sequence
        column, chance = partial(np.array, dtype=np.int64), self.chance
        sizes = (0, 1, 700, 5_000, 19_999, 20_000)
        return Acts(
            shard=column([0] * count),
            activity_position=column(range(self.position, self.position + count)),
            account_id=column([chance.choice(accounts) for _ in range(count)]),
            scene=column([chance.choice(list(self.rules.scenes)) for _ in range(count)]),
            region=column([440300] * count),
            evidence_grade=column([1] * count),
            civil_day=column([chance.choice(DAYS) for _ in range(count)]),
            measure_1=column([chance.choice(sizes) for _ in range(count)]),
            measure_2=column([chance.choice((0, 200)) for _ in range(count)]),
            label_1=column([0] * count),
        )

    def _in_one_transaction(self, change: Callable[..., None]) -> None:
        with self.database.transaction() as connection:
            change(book=Book(connection))


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
    world = World(database, rulebook(rule), Classes(database), random.Random(f"{rule}-{seed}"))
    moves = [world.record] * 9 + [world.withdraw] * 4 + [world.forget]
    _play(world, moves, 24)
    _check_survivors(world)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_acts_and_withdrawals_during_a_restatement_end_as_recomputing_from_nothing(
    database: Database, rule: str, seed: int
) -> None:
    world = World(database, rulebook(rule), Classes(database), random.Random(f"r-{rule}-{seed}"))
    _play(world, [world.record, world.record, world.withdraw], 8)
    world.publish(rulebook(rule, restated=True))
    pieces = [world.restate_a_piece] * 3
    _play(world, [world.record, world.withdraw, world.forget, *pieces], 10)
    while world.restate_a_piece():
        pass
    _check_survivors(world)
    _check_what_customers_are_told(world)


def test_restating_twice_changes_nothing_the_second_time(database: Database) -> None:
    world = World(database, rulebook("three-caps"), Classes(database), random.Random("twice"))
    _play(world, [world.record], 4)
    rules = rulebook("three-caps", restated=True)
    for expected in (True, False):
        world.publish(rules)
        while world.restate_a_piece():
            pass
        with database.transaction() as connection:
            newest = Restatements(connection).page(1)[0]
        assert (newest.changed > 0) == expected
        assert newest.acts == world.position - 1


def _play(world: World, moves: Sequence[Callable[[], object]], count: int) -> None:
    for _ in range(count):
        move = world.chance.choice(moves)
        if move == world.withdraw and world.position == 1:
            move = world.record
        move()


def _check_survivors(world: World) -> None:
    with world.database.transaction() as connection:
        stored = Book(connection).read_days(np.array([0]), min(DAYS), max(DAYS))
        runs = Book(connection).read_runs({0: 0}, 10_000)
    survivors = stored.take(stored.verdict != Verdict.WITHDRAWN)
    once = assess(survivors.acts, world.rules, caps=Fresh(), classes=world.classes)
    assert set(stored.acts.activity_position.tolist()) == set(range(1, world.position))
    assert survivors.amount.tolist() == once.amount.tolist()
    assert survivors.verdict.tolist() == once.verdict.tolist()
    gone = stored.acts.activity_position[stored.verdict == Verdict.WITHDRAWN]
    assert set(gone.tolist()) == world.withdrawn
    posted: dict[int, int] = {}
    for run in runs:
        columns = {
            name: unpack([run.columns[name]], [run.count], width).tolist()
            for name, width in (
                ("asset_class", 4), ("previous_class", 4), ("amount", 8), ("delta", 8)
            )
        }  # fmt: skip
        for new, old, amount, delta in zip(*columns.values(), strict=True):
            posted[new] = posted.get(new, 0) + (amount if old else delta)
            if old:
                posted[old] = posted.get(old, 0) + delta - amount
    held: dict[int, int] = {}
    for code, amount in zip(stored.asset_class.tolist(), stored.amount.tolist(), strict=True):
        held[code] = held.get(code, 0) + amount
    assert {c: mg for c, mg in posted.items() if mg} == {c: mg for c, mg in held.items() if mg}


def _check_what_customers_are_told(world: World) -> None:
    """What every account reads of each month adds up to what the feed says of the restatement."""
    with world.database.transaction() as connection:
        restatements, book = Restatements(connection), Book(connection)
        told = [row for n in (1, 2, 3) for row in restatements.of_account(0, 64 * n) if row.delta]
        progress = restatements.page(1)[0]
        in_feed = connection.execute(
            sa.text("select coalesce(sum(delta), 0) from assessment where restatement is not null")
        ).scalar_one()
        assert book.newest(0, 1) is not None
    assert sum(row.delta for row in told) == int(in_feed) == progress.gained - progress.lost
    assert all((row.reason_zh, row.reason_en) == ("a", "b") for row in told)
