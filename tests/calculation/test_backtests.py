"""A backtest says, to the milligram, what would change, and writes nothing."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from carbonaccount.calculation.v1 import methodology_service_pb2 as pb

from services.calculation.domain.assess import Rulebook
from services.calculation.domain.tally import DraftClasses, Tally, Total
from services.calculation.storage.book import Book
from services.calculation.usecases.assess_events import month_of
from services.calculation.usecases.backtest import backtest_piece, pieces_of
from shared.ids import account_name
from tests.calculation.life_files import (
    BIKE,
    BIKE_FILE,
    PROGRAMME,
    RIDES,
    STEP_MASS,
    STEPS,
    WALK,
    WALK_FILE,
    bike,
    cap,
    corrected,
    ended,
    entry,
    methodology,
    programme,
    version,
    walk,
)
from tests.calculation.life_world import (
    REASON,
    SHANGHAI,
    SHENZHEN,
    Doing,
    Life,
    day,
    file,
    refused,
    told,
)

ACCOUNTS = [64 * number + shard for number in range(1, 8) for shard in (0, 1, 63)]
DAYS = ("2026-01-31", "2026-02-01", "2026-03-14", "2026-03-15", "2026-03-15", "2026-04-30")
Key = tuple[str, str, str]


def doings(count: int = 300) -> list[Doing]:
    """Acts of many accounts; some lie outside what a rule accepts, some meet no rule."""
    chance = random.Random("backtest")
    found = []
    for _ in range(count):
        scene = chance.choice((BIKE, WALK))
        measure = chance.choice((0, 1, 999, 4_001, 100_000, 100_001) if scene == BIKE else (1, 2))
        found.append(
            Doing(
                chance.choice(ACCOUNTS), scene, chance.choice(DAYS), measure,
                chance.choice((SHENZHEN, SHANGHAI)),
            )
        )  # fmt: skip
    return found


def worth(acts: Sequence[Doing], later: str) -> list[tuple[str, int]]:
    """Asset and amount of each act by hand; rides from 15 March on at `later` g/km."""
    left: dict[tuple[int, str], int] = defaultdict(lambda: 25)
    found = []
    for act in acts:
        if act.scene == BIKE:
            each = Decimal(later if act.on >= "2026-03-15" else "33.88")
            found.append(("reduction", int(each * act.measure) if act.measure <= 100_000 else 0))
        elif act.region != SHENZHEN:
            found.append(("nothing", 0))
        else:
            points = min(10 * act.measure, left[act.account_id, act.on])
            left[act.account_id, act.on] -= points
            found.append((STEPS, points))
    return found


def by_hand(
    acts: Sequence[Doing], before: Sequence[tuple[str, int]], after: Sequence[tuple[str, int]]
) -> dict[Key, list[int]]:
    """Acts, changed, before and after of every scene, region, month and asset."""
    sums: dict[Key, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for act, old, new in zip(acts, before, after, strict=True):
        for asset in {old[0], new[0]}:
            for by, key in (
                ("all", ""), ("scene", act.scene), ("region", str(act.region)),
                ("month", act.on[:7]),
            ):  # fmt: skip
                row = sums[by, key, asset]
                row[0] += 1
                row[1] += old != new
                row[2] += old[1] * (old[0] == asset)
                row[3] += new[1] * (new[0] == asset)
    return dict(sums)


def asked(text: tuple[str, str] | None, first: str = "2026-01-01", last: str = "2026-05-20") -> Any:
    request = pb.BacktestLibraryFileRequest(first_date=told(first), last_date=told(last))
    if text:
        request.file.CopyFrom(file(*text))
    return request


def backtest(life: Life, text: tuple[str, str] | None = None, **days: str) -> Any:
    """The last message of a backtest; those before it count up to it."""
    *steps, report = life.operator("ann").BacktestLibraryFile(asked(text, **days))
    assert [step.pieces for step in steps] == list(range(1, report.pieces_total + 1))
    assert [step.acts for step in steps] == sorted(step.acts for step in steps)
    assert not any(step.done or step.totals for step in steps)
    assert report.done
    return report


def totals_of(report: Any, deciles: bool = False) -> dict[Key, list[int]]:
    return {
        (one.by, one.key, one.asset): [one.acts, one.changed, one.before, one.after]
        for one in report.totals
        if deciles or one.by != "decile"
    }


def changed_in(report: Any) -> int:
    return sum(one.changed for one in report.totals if one.by == "all")


def test_a_corrected_factor_comes_to_what_it_comes_to_by_hand(life: Life) -> None:
    acts = doings()
    life.record(*acts)
    report = backtest(life, (BIKE_FILE, corrected("2026-03-15", "30.5")))
    expected = by_hand(acts, worth(acts, "33.88"), worth(acts, "30.5"))
    assert totals_of(report) == expected
    assert report.acts == len(acts)
    assert 0 < changed_in(report) < len(acts)
    assert expected["all", "", STEPS][1] == 0


def test_acts_that_would_count_something_else_leave_one_asset_and_come_into_another(
    life: Life,
) -> None:
    acts = doings()
    life.record(*acts)
    walks_by_mass = entry(WALK, "life-mass", "310100") + entry(BIKE, "life-bike")
    mass = methodology("life-mass", version("1", "2025-01-01", "5", kind=STEP_MASS))
    life.into_force("life-mass.toml", mass)
    report = backtest(life, (PROGRAMME, programme(walks_by_mass)))
    before = worth(acts, "33.88")
    after = [
        old if act.scene == BIKE
        else ("reduction", 5_000 * act.measure) if act.region == SHANGHAI
        else ("nothing", 0)
        for act, old in zip(acts, before, strict=True)
    ]  # fmt: skip
    assert totals_of(report) == by_hand(acts, before, after)
    acts_of_points, changed, points, left = totals_of(report)["all", "", STEPS]
    assert (changed, points > 0, left) == (acts_of_points, True, 0)


def test_deciles_of_accounts_add_up_to_the_whole(life: Life) -> None:
    acts = doings()
    life.record(*acts)
    report = backtest(life, (BIKE_FILE, corrected("2026-03-15", "30.5")))
    totals = totals_of(report, deciles=True)
    for asset in ("reduction", STEPS):
        deciles = [totals["decile", str(number), asset] for number in range(1, 11)]
        assert [sum(column) for column in zip(*deciles, strict=True)] == totals["all", "", asset]
    held: dict[int, int] = defaultdict(int)
    for act, (asset, amount) in zip(acts, worth(acts, "33.88"), strict=True):
        held[act.account_id] += amount * (asset == "reduction")
    # 21 accounts: the first tenth is the three that had the least, the others are two each.
    assert totals["decile", "1", "reduction"][2] == sum(sorted(held.values())[:3])


def test_examples_are_acts_that_would_move_and_at_most_twenty(life: Life) -> None:
    life.record(*(Doing(64, on="2026-03-20", measure=1000 + n) for n in range(21)))
    report = backtest(life, (BIKE_FILE, corrected()))
    assert changed_in(report) == 21
    assert len(report.examples) == 20
    first = report.examples[0]
    assert first.assessment == f"{account_name(64)}/assessments/1"
    assert (first.scene, first.before, first.after) == (BIKE, 33_880, 30_000)


def test_nothing_is_written(life: Life) -> None:
    life.record(*doings())
    before = life.rows()
    backtest(life, (BIKE_FILE, corrected()))
    backtest(life, (PROGRAMME, programme(RIDES)))
    backtest(life)
    assert life.rows() == before


def test_without_a_file_the_record_is_held_against_the_library_in_force(life: Life) -> None:
    life.record(*doings())
    assert changed_in(backtest(life)) == 0
    life.into_force(BIKE_FILE, corrected("2026-03-15"), REASON)
    assert changed_in(backtest(life)) > 0
    while life.restate():
        pass
    assert changed_in(backtest(life)) == 0


def test_acts_of_the_morning_are_restated_when_a_text_begins_today(life: Life) -> None:
    life.record(Doing(64, on="2026-05-20"))
    life.into_force(BIKE_FILE, corrected("2026-05-20"), REASON)
    assert changed_in(backtest(life)) == 1
    life.restate()
    assert changed_in(backtest(life)) == 0
    assert life.amounts(64) == {1: ("reduction", 30_000)}


def test_acts_that_were_withdrawn_are_not_gone_over(life: Life) -> None:
    life.record(Doing(64), Doing(64))
    life.withdraw(64, 1)
    report = backtest(life, (BIKE_FILE, corrected()))
    assert (report.acts, totals_of(report)["all", "", "reduction"]) == (1, [1, 1, 33_880, 30_000])


def test_only_the_months_that_are_asked_are_gone_over_and_those_whole(life: Life) -> None:
    days = ("2026-02-28", "2026-03-01", "2026-03-31", "2026-04-01")
    life.record(*(Doing(64, on=on) for on in days))
    for first, last, acts in (
        ("2026-03-10", "2026-03-10", 2),
        ("2026-02-28", "2026-03-01", 3),
        ("2025-05-01", "2026-01-31", 0),
        ("2016-06-01", "2026-05-20", 4),  # 120 months
    ):
        assert backtest(life, None, first=first, last=last).acts == acts


@pytest.mark.parametrize("slice_acts", [1, 7, 40, 10**6])
def test_pieces_of_any_size_come_to_the_same(life: Life, slice_acts: int) -> None:
    life.record(*doings())
    library = life.shelf.load({WALK_FILE: walk("10", 15)})
    first, last = month_of(day("2026-01-01")), month_of(day("2026-05-20"))
    with life.database.transaction() as connection:
        book = Book(connection)
        rules = Rulebook(library.programmes["life"], book.read_scenes())
        tally, classes = Tally(rules.scenes), DraftClasses()
        pieces = pieces_of(first, last, book=book, slice_acts=slice_acts)
        for piece in pieces:
            backtest_piece(piece, rules, tally, classes, book=book)
    assert (len(pieces) == 4) == (slice_acts == 10**6)
    report = backtest(life, (WALK_FILE, walk("10", 15)))
    names = Total.__dataclass_fields__
    assert [Total(*(getattr(one, name) for name in names)) for one in report.totals] == (
        tally.totals()
    )


WRONG = {
    "months in the wrong order": ("2026-03-01", "2026-02-28", "before first_date"),
    "more than ten years": ("2016-05-01", "2026-05-20", "121 months"),
    "a month that lies ahead": ("2026-05-01", "2026-06-01", "after this month"),
    "the end of time": ("9999-12-01", "9999-12-31", "after this month"),
}


@pytest.mark.parametrize("case", WRONG)
def test_months_that_cannot_be_gone_over_are_refused(life: Life, case: str) -> None:
    first, last, said = WRONG[case]
    with refused("INVALID_ARGUMENT FIELD_INVALID", said):
        backtest(life, None, first=first, last=last)


def test_days_that_are_none_or_missing_are_refused(life: Life) -> None:
    request = asked(None)
    request.first_date.day = 32
    with refused("FIELD_INVALID", "first_date is 2026-1-32"):
        list(life.operator("ann").BacktestLibraryFile(request))
    request.ClearField("first_date")
    with refused("FIELD_INVALID", "first_date is not set"):
        list(life.operator("ann").BacktestLibraryFile(request))


def test_a_text_that_does_not_load_is_refused_with_file_and_line(life: Life) -> None:
    text = bike(ended("2026-04-01"), version("2", "2026-03-31", "30", rule=cap("day", "count", 2)))
    line = text.splitlines().index("effective_date = 2026-03-31") + 1
    with refused("FIELD_INVALID", f"{BIKE_FILE}:{line}:", "on the same day"):
        backtest(life, (BIKE_FILE, text))
    with refused("FIELD_INVALID", "path is 'x.txt'"):
        backtest(life, ("x.txt", text))
