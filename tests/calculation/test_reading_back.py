"""An assessment is shown as it was made, whatever the programme says today."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from services.calculation.domain.assess import Acts, Rulebook, SceneCode
from services.calculation.domain.library import load_library
from services.calculation.domain.methodology import Credit, Library
from services.calculation.domain.registry import load_registry
from services.calculation.domain.windows import CapMemory
from services.calculation.factor_files import read_factor_files
from services.calculation.storage.book import Book
from services.calculation.storage.restatements import Restatements
from services.calculation.storage.shelf import Shelf
from services.calculation.usecases.assess_events import record_assessments
from services.calculation.usecases.publish_library import Reason
from services.calculation.usecases.read_assessment import Shown, read_assessment
from services.calculation.wiring import HERE, MIGRATIONS, open_shelf, read_texts
from shared.settings import StartRefused
from shared.storage.engine import Database
from shared.storage.migrate import migrate
from tests.calculation.calculators_world import READ
from tests.calculation.domain.world import SHIPPED, files_of

FILES, REGISTRY = files_of(SHIPPED), load_registry(read_factor_files())
CALCULATORS = read_texts(HERE / "calculators")
NO_REASON = Reason("", "")
ACCOUNT, MAY_2026 = 64, 20_600
SCENES = {1: SceneCode("scenes/shared-bike-ride", ("distance_metre",))}


class Classes:
    """Class codes in the same transaction."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def code_of(self, credit: Credit, region: int, vintage_month: int) -> int:
        return self._book.class_code(credit, region, vintage_month)


def record_a_ride(database: Database, library: Library) -> None:
    """3 km by shared bike, position 1 of shard 0."""
    ride = {
        "shard": 0,
        "activity_position": 1,
        "account_id": ACCOUNT,
        "scene": 1,
        "region": 440300,
        "evidence_grade": 1,
        "civil_day": MAY_2026,
        "measure_1": 3000,
        "measure_2": 0,
        "label_1": 0,
    }
    with database.transaction() as connection:
        book = Book(connection)
        book.note_scenes(SCENES)
        rules = Rulebook(library.programmes["demo"], SCENES)
        caps = CapMemory(lambda *_: {})
        record_assessments(
            Acts(**{name: np.array([value]) for name, value in ride.items()}),
            rules,
            book=book,
            caps=caps,
            classes=Classes(book),
        )


def read_back(database: Database, library: Library) -> Shown:
    with database.transaction() as connection:
        shown, _ = read_assessment("x", ACCOUNT, 0, 1, book=Book(connection), library=library)
    return shown


def without(scene: str) -> Library:
    """The shipped library, in which the demo programme no longer credits that scene."""
    path = "programmes/demo.toml"
    head, *entries = FILES[path].split("[[entry]]")
    kept = [entry for entry in entries if scene not in entry]
    assert len(kept) == len(entries) - 1
    return load_library({**FILES, path: "[[entry]]".join([head, *kept])}, REGISTRY)


@pytest.fixture
def url(database_url: str) -> str:
    migrate(database_url, MIGRATIONS)
    return database_url


def test_a_ride_keeps_its_working_when_the_programme_stops_crediting_its_scene(url: str) -> None:
    with closing(Database(url)) as database:
        record_a_ride(database, load_library(FILES, REGISTRY))
        shown = read_back(database, without("scenes/shared-bike-ride"))
    assert (shown.amount, shown.uncapped, shown.programme) == (101_640, 101_640, "programmes/demo")
    assert shown.version is not None
    assert shown.version.name == "methodologies/hello-2022/versions/1"
    assert shown.working is not None
    assert shown.working.credited == 101_640


def test_a_ride_that_nothing_credited_gets_no_working_when_something_would_today(url: str) -> None:
    with closing(Database(url)) as database:
        record_a_ride(database, without("scenes/shared-bike-ride"))
        shown = read_back(database, load_library(FILES, REGISTRY))
    assert (shown.amount, shown.version, shown.programme, shown.working) == (0, None, "", None)


def shelf_of(files: dict[str, str]) -> Shelf:
    return Shelf(files, REGISTRY, "demo", CALCULATORS, READ)


def opened(files: dict[str, str], database: Database, reason: Reason = NO_REASON) -> None:
    open_shelf(shelf_of(files), reason, MAY_2026 + 1, database)


def test_a_library_whose_version_was_in_force_and_changed_does_not_start(url: str) -> None:
    text = FILES["hello-2022.toml"]
    changed = {**FILES, "hello-2022.toml": text.replace("100_000", "100_001")}
    with closing(Database(url)) as database:
        opened(FILES, database)
        opened(FILES, database)
        with pytest.raises(StartRefused, match="never changes"):
            opened(changed, database)


def test_a_version_that_credited_before_anything_was_sealed_may_not_change_either(
    url: str,
) -> None:
    text = FILES["hello-2022.toml"]
    changed = {**FILES, "hello-2022.toml": text.replace("100_000", "100_001")}
    with closing(Database(url)) as database:
        record_a_ride(database, load_library(FILES, REGISTRY))
        with pytest.raises(StartRefused, match="never changes"):
            opened(changed, database)


def from_day(day: str) -> dict[str, str]:
    """The shipped files, in which the demo programme credits shared bikes from another day on."""
    path = "programmes/demo.toml"
    head, *entries = FILES[path].split("[[entry]]")
    moved = [
        entry.replace("from_date = 2022-01-01", f"from_date = {day}")
        if "shared-bike-ride" in entry
        else entry
        for entry in entries
    ]
    return {**FILES, path: "[[entry]]".join([head, *moved])}


def test_the_past_of_a_programme_changes_only_with_a_reason_and_what_lies_ahead_freely(
    url: str,
) -> None:
    with closing(Database(url)) as database:
        opened(FILES, database)
        with pytest.raises(StartRefused, match="changes what credited in the past"):
            opened(from_day("2025-01-01"), database)
        opened(from_day("2025-01-01"), database, Reason("重述", "restated"))
        opened(from_day("2025-01-01"), database)  # it is the past now
        with database.transaction() as connection:
            (progress,) = Restatements(connection).page(10)
    # Hello's version began in July 2022, so nothing before it can have changed.
    assert (progress.first_month, progress.reason_en) == (2022 * 12 + 6, "restated")


def test_an_entry_that_ends_tomorrow_changes_no_past(url: str) -> None:
    path, tomorrow = "programmes/demo.toml", "2026-05-29"
    text = FILES[path].replace(
        "from_date = 2022-01-01", f"from_date = 2022-01-01\nto_date = {tomorrow}"
    )
    with closing(Database(url)) as database:
        opened(FILES, database)
        opened({**FILES, path: text}, database)
        with pytest.raises(StartRefused, match="no longer"):
            opened({**FILES, path: text.replace(tomorrow, "2026-05-20")}, database)
