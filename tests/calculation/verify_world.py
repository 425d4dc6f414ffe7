"""Results as the service answers them, of rules of every kind: estimated, recorded, withdrawn."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
from carbonaccount.calculation.v1 import assessment_service_pb2 as pb
from google.protobuf.json_format import MessageToJson

from services.calculation.domain.assess import Acts, Rulebook, SceneCode
from services.calculation.domain.library import load_library
from services.calculation.domain.methodology import Credit, Library, Version
from services.calculation.domain.windows import CapMemory
from services.calculation.rpc.messages import write_assessment
from services.calculation.storage.book import Book
from services.calculation.usecases.assess_events import record_assessments, take_back
from services.calculation.usecases.estimate import Estimate, estimate_reduction
from services.calculation.usecases.read_assessment import Shown, read_assessment
from services.calculation.wiring import MIGRATIONS
from shared.storage.engine import Database
from shared.storage.migrate import migrate
from tests.calculation.domain.oracle import Act
from tests.calculation.domain.world import (
    FACTORS,
    SHIPPED,
    TESTSET,
    files_of,
    random_acts,
    registry,
    whole_library,
)

ACCOUNT, SHARD, REGION = 64, 0, 440_305
FIRST_DAY = 20_555  # 2026-04-12: beside the middle of a month, where a version ends
DAYS = 9
UNPRICED = "scenes/nobody-prices-this"
STEAM = "steam"
"""A word that the act's scene knows, and no methodology."""
FILES = files_of(SHIPPED, TESTSET)
TEXTS = files_of(TESTSET)
REGISTRY_TEXTS = files_of(*FACTORS)
MADE_UP_FACTORS = files_of(FACTORS[1])


@dataclass(frozen=True)
class Result:
    """An answer as JSON, the text of the methodology it came from, and the message itself."""

    json: str
    text: str
    assessment: pb.Assessment

    @property
    def tree(self) -> dict[str, Any]:
        """The JSON of the assessment with every field, in the contract's names; yours to change."""
        text = MessageToJson(
            self.assessment,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        return dict(json.loads(text))


def answer(
    shown: Shown, text: str, *, contract_names: bool, name: str = "", made: datetime | None = None
) -> Result:
    """What the service says of it, in an answer that carries it; of a recorded one with `name`
    and when it was `made`."""
    assessment = write_assessment(shown)
    assessment.name = name
    if made is not None:
        assessment.assess_time.FromDatetime(made)
    wrapped = (pb.GetAssessmentResponse if name else pb.EstimateReductionResponse)(
        assessment=assessment
    )
    written = MessageToJson(wrapped, preserving_proto_field_name=contract_names)
    return Result(written, text, assessment)


def estimates(
    version: Version, scene: str, library: Library, text: str, count: int
) -> Iterator[Result]:
    """Estimates of acts in the ranges of the version, every other one in lowerCamelCase."""
    draw = random.Random(version.name + scene)
    programme = library.programmes["demo"]
    for place, act in enumerate(random_acts(version, count, seed=5)):
        measures = {m.name: min(m.max, max(m.min, act.measures[m.name])) for m in version.measures}
        labels = {
            label.name: act.labels.get(label.name, label.values[0]) for label in version.labels
        }
        history = {one.name: draw.randint(0, one.max) for one in version.histories}
        day = act.day if version.in_force(act.day) else version.effective_day
        estimate = Estimate(
            scene, measures, labels, history, day, act.region, act.grade or 1,
            version.name.split("/")[1],
        )  # fmt: skip
        shown = estimate_reduction(estimate, library=library, programme=programme)
        yield answer(shown, text, contract_names=place % 2 == 0)


@cache
def crediting_library() -> Library:
    """The test set, and a programme that credits whatever of it may credit."""
    entries = "".join(
        f'[[entry]]\nscene = "{scene}"\nregion = ""\nmethodology = "{methodology.id}"\n'
        'scene_approval = "demo: the tests"\nfrom_date = 2020-01-01\n'
        for methodology in load_library(TEXTS, registry()).methodologies.values()
        for scene in sorted(methodology.scenes)
        if all(version.creditable for version in methodology.versions)
    )
    head = 'id = "all"\ntitle_zh = "测试"\ntitle_en = "tests"\ndemo = true\nassumptions = []\n'
    return load_library({**TEXTS, "programmes/all.toml": head + entries}, registry())


class Classes:
    """Class codes in the same transaction."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def code_of(self, credit: Credit, region: int, vintage_month: int) -> int:
        return self._book.class_code(credit, region, vintage_month)


class Recorded:
    """One account's acts of some days under every rule of the test set, as they were recorded."""

    def __init__(self, url: str) -> None:
        migrate(url, MIGRATIONS)
        self._url = url
        self._library = crediting_library()
        self._scenes = _scene_codes(self._library)
        self._rules = Rulebook(self._library.programmes["all"], self._scenes)
        self._caps = CapMemory(lambda *_: {})
        self._acts = _acts(self._rules)
        with closing(Database(url)) as database, database.transaction() as connection:
            book = Book(connection)
            book.note_scenes(self._scenes)
            record_assessments(
                self._acts, self._rules, book=book, caps=self._caps, classes=Classes(book)
            )

    def __len__(self) -> int:
        return len(self._acts)

    def withdraw(self, positions: list[int]) -> None:
        """Takes those activities back; what they reach is assessed anew."""
        with closing(Database(self._url)) as database, database.transaction() as connection:
            book = Book(connection)
            take_back(
                [(SHARD, position) for position in positions], self._rules,
                book=book, caps=self._caps, classes=Classes(book),
            )  # fmt: skip

    def results(self) -> list[Result]:
        """What GetAssessment says of each activity now, in the order of their positions."""
        found = []
        with closing(Database(self._url)) as database, database.transaction() as connection:
            for position in range(1, len(self) + 1):
                name = f"accounts/0000000000020/assessments/{position}"
                shown, made = read_assessment(
                    name, ACCOUNT, SHARD, position, book=Book(connection), library=self._library
                )
                file = shown.version.name.split("/")[1] + ".toml" if shown.version else ""
                text, contract_names = TEXTS.get(file, ""), position % 2 == 0
                found.append(
                    answer(shown, text, contract_names=contract_names, name=name, made=made)
                )
        return found


def _scene_codes(library: Library) -> dict[int, SceneCode]:
    """The scenes of the programme, with what their acts carry, and one that nothing prices."""
    scenes = {1: SceneCode(UNPRICED, ("distance_metre",))}
    for entry in library.programmes["all"].entries:
        version = next(v for v in entry.methodology.versions if entry.scene in v.scenes)
        # The scene carries a measure more than a rule of one reads; one act is a count of one.
        measures = (*(m.name for m in version.measures if m.name != "count"), "spare_count")
        label = version.labels[0] if version.labels else None
        scenes[len(scenes) + 1] = SceneCode(
            entry.scene, measures[:2],
            label.name if label else "", (*label.values, STEAM) if label else (),
        )  # fmt: skip
    return scenes


def _acts(rules: Rulebook) -> Acts:
    """Acts of one account in one order, so that caps and pasts fill up."""
    drawn: list[tuple[int, Act]] = []
    for code, scene in rules.scenes.items():
        credit = rules.programme.credit_for(scene.scene, REGION, FIRST_DAY)
        version = credit.version if credit else crediting_library().rules_of(
            "methodologies/day-distance/versions/1"
        )[0]  # fmt: skip
        drawn += [(code, act) for act in random_acts(version, 10, seed=code)]
    random.Random(3).shuffle(drawn)
    draw = random.Random(4)
    rows = []
    for place, (code, act) in enumerate(drawn):
        scene = rules.scenes[code]
        values = [act.measures.get(name, 7) for name in scene.measures]
        word = act.labels.get(scene.label, STEAM)
        rows.append(
            (
                SHARD, place + 1, ACCOUNT, code, draw.choice([0, REGION, act.region]), act.grade,
                FIRST_DAY + place * DAYS // len(drawn), values[0], (*values, 0)[1],
                scene.label_values.index(word) + 1 if scene.label else 0,
            )
        )  # fmt: skip
    names = list(Acts.__dataclass_fields__)
    return Acts(
        **{
            name: np.array(column)
            for name, column in zip(names, zip(*rows, strict=True), strict=True)
        }
    )


def estimate_of(name: str, scene: str) -> Result:
    """The first estimate by version 1 of a methodology that is shipped or of the test set."""
    library = whole_library()
    version = library.version_named(f"methodologies/{name}/versions/1", f"scenes/{scene}")
    assert version is not None
    return next(estimates(version, f"scenes/{scene}", library, FILES[f"{name}.toml"], 1))


def bike() -> Result:
    """An estimate of the shipped library."""
    return estimate_of("hello-2022", "shared-bike-ride")
