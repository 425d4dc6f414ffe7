"""An assessment is shown as it was made, whatever the programme says today."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from services.calculation.domain.assess import Acts, Rulebook, SceneCode
from services.calculation.domain.library import load_library
from services.calculation.domain.methodology import Credit, Library
from services.calculation.domain.windows import CapMemory
from services.calculation.storage.book import Book
from services.calculation.usecases.assess_events import record_assessments
from services.calculation.usecases.read_assessment import Shown, read_assessment
from services.calculation.wiring import MIGRATIONS, _check_unchanged
from shared.settings import StartRefused
from shared.storage.engine import Database
from shared.storage.migrate import migrate
from tests.calculation.domain.world import SHIPPED, files_of

FILES = files_of(SHIPPED)
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
    return load_library({**FILES, path: "[[entry]]".join([head, *kept])})


@pytest.fixture
def url(database_url: str) -> str:
    migrate(database_url, MIGRATIONS)
    return database_url


def test_a_ride_keeps_its_working_when_the_programme_stops_crediting_its_scene(url: str) -> None:
    with closing(Database(url)) as database:
        record_a_ride(database, load_library(FILES))
        shown = read_back(database, without("scenes/shared-bike-ride"))
    assert (shown.amount, shown.uncapped, shown.programme) == (101_640, 101_640, "programmes/demo")
    assert shown.version is not None
    assert shown.version.name == "methodologies/hello-2022/versions/1"
    assert shown.working is not None
    assert shown.working.credited == 101_640


def test_a_ride_that_nothing_credited_gets_no_working_when_something_would_today(url: str) -> None:
    with closing(Database(url)) as database:
        record_a_ride(database, without("scenes/shared-bike-ride"))
        shown = read_back(database, load_library(FILES))
    assert (shown.amount, shown.version, shown.programme, shown.working) == (0, None, "", None)


def test_a_library_whose_credited_version_changed_does_not_start(url: str) -> None:
    text = FILES["hello-2022.toml"]
    changed = load_library({**FILES, "hello-2022.toml": text.replace("100_000", "100_001")})
    with closing(Database(url)) as database:
        _check_unchanged(changed, database)  # nothing was credited yet
        record_a_ride(database, load_library(FILES))
        _check_unchanged(load_library(FILES), database)
        with pytest.raises(StartRefused, match="never changes"):
            _check_unchanged(changed, database)
