"""What the tests of the evaluator share: the files, a store, random acts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.calculation.domain.evaluate import Evaluated, Usage, evaluate
from services.calculation.domain.library import LibraryFault, LibraryInvalid, load_library
from services.calculation.domain.methodology import Library, Version
from tests.calculation.domain.oracle import Act, Oracle, oracles

Ints = NDArray[np.int64]
ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "services/calculation/methodologies"
TESTSET = ROOT / "tests/methodologies/testset"


def files_of(*roots: Path) -> dict[str, str]:
    """Every TOML file below the roots by its path relative to its root."""
    return {
        path.relative_to(root).as_posix(): path.read_text("utf-8")
        for root in roots
        for path in sorted(root.rglob("*.toml"))
    }


def whole_library() -> Library:
    """The shipped files and the test set."""
    return load_library(files_of(SHIPPED, TESTSET))


def rules() -> list[tuple[str, Version, Oracle]]:
    """Every rule of every file, with the independent reader of the same file."""
    files, library = files_of(SHIPPED, TESTSET), whole_library()
    found = []
    for path, text in files.items():
        if path.startswith("programmes/"):
            continue
        for oracle in oracles(text):
            scene = oracle.rule["scenes"][0]
            version = library.methodologies[path.removesuffix(".toml")].version_on(scene, 20_000)
            assert version is not None
            found.append((scene, version, oracle))
    return found


def faults_of(files: dict[str, str]) -> list[LibraryFault]:
    """What the loader says is wrong with files that it must refuse."""
    with pytest.raises(LibraryInvalid) as caught:
        load_library(files)
    return caught.value.faults


@dataclass
class DictStore:
    """A cap store in a dict."""

    used: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def used_before(self, cap_key: str, accounts: Ints, windows: Ints) -> Ints:
        pairs = list(zip(accounts.tolist(), windows.tolist(), strict=True))
        assert len(pairs) == len(set(pairs)), "pairs must be distinct"
        return np.array([self.used.get((cap_key, *pair), 0) for pair in pairs], np.int64)

    def keep(self, cap_key: str, usage: Usage) -> None:
        rows = zip(
            usage.accounts.tolist(), usage.windows.tolist(), usage.used.tolist(), strict=True
        )
        self.used.update({(cap_key, account, window): used for account, window, used in rows})


def evaluate_acts(version: Version, acts: Sequence[Act], store: DictStore) -> Evaluated:
    """Evaluates acts in order and keeps what they used."""
    evaluated = evaluate(
        version,
        {
            m.name: np.array([act.measures[m.name] for act in acts], np.int64)
            for m in version.measures
        },
        accounts=np.array([act.account for act in acts], np.int64),
        days=np.array([act.day for act in acts], np.int64),
        grades=np.array([act.grade for act in acts], np.int64),
        caps_used=store,
    )
    if evaluated.used_after is not None:
        store.keep(version.caps[0].key, evaluated.used_after)
    return evaluated


def random_acts(version: Version, count: int, seed: int, accounts: int = 60) -> list[Act]:
    """Acts with the borders of ranges, factors and caps drawn on purpose; two months of days."""
    draw = random.Random(seed)
    people = [draw.getrandbits(63) for _ in range(accounts)]
    borders = [100, 1_000, 10_000, *(cap.amount for cap in version.caps)]
    acts = []
    for _ in range(count):
        measures = {}
        for m in version.measures:
            near = draw.choice([m.min, m.max, *(b for b in borders if m.min <= b <= m.max)])
            low, high = m.min, min(m.max, draw.choice([50, 5_000, 50_000, m.max]))
            measures[m.name] = (
                near + draw.randint(-1, 1)
                if draw.random() < 0.25
                else draw.randint(low, max(low, high))
            )
        grade = draw.choice([1, 1, 1, 2, 3])
        acts.append(Act(draw.choice(people), draw.randint(20_530, 20_575), measures, grade))
    return acts
