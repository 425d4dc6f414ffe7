"""What the tests of the evaluator share: the files, a store, evaluation beside the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.calculation.domain.evaluate import Evaluated, Usage, evaluate
from services.calculation.domain.factors import Series
from services.calculation.domain.history import mean_times
from services.calculation.domain.library import LibraryFault, LibraryInvalid, load_library
from services.calculation.domain.methodology import Library, Version
from services.calculation.domain.registry import load_registry
from tests.calculation.domain.drawn import Columns, random_columns
from tests.calculation.domain.oracle import Act, Oracle, Outcome, oracles
from tests.calculation.domain.oracle_factors import series_of

Ints = NDArray[np.int64]
ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "services/calculation/methodologies"
TESTSET = ROOT / "tests/methodologies/testset"
FACTORS = (ROOT / "services/calculation/factors", ROOT / "tests/methodologies/factors")


def files_of(*roots: Path) -> dict[str, str]:
    """Every TOML file below the roots by its path relative to its root."""
    return {
        path.relative_to(root).as_posix(): path.read_text("utf-8")
        for root in roots
        for path in sorted(root.rglob("*.toml"))
    }


@cache
def registry() -> dict[str, Series]:
    """The factor registry and the made-up series of the test set."""
    return load_registry(files_of(*FACTORS))


@cache
def whole_library() -> Library:
    """The shipped files and the test set."""
    return load_library(files_of(SHIPPED, TESTSET), registry())


def methodologies() -> dict[str, list[tuple[str, Version, Oracle]]]:
    """The rules of every file by its id; the readers of one file share what was used."""
    library, series = whole_library(), series_of(files_of(*FACTORS).values())
    found: dict[str, list[tuple[str, Version, Oracle]]] = {}
    for path, text in files_of(SHIPPED, TESTSET).items():
        if path.startswith("programmes/"):
            continue
        name = Path(path).stem
        for oracle in oracles(text, series):
            scene, identity = oracle.rule["scenes"][0], oracle.version["id"]
            version = library.version_named(f"methodologies/{name}/versions/{identity}", scene)
            assert version is not None
            label = f"{name}/{identity}/{scene.removeprefix('scenes/')}"
            found.setdefault(name, []).append((label, version, oracle))
    return found


def rules() -> list[tuple[str, Version, Oracle]]:
    """Every rule of every file, with the independent reader of the same file."""
    return [rule for of_one in methodologies().values() for rule in of_one]


def faults_of(files: dict[str, str]) -> list[LibraryFault]:
    """What the loader says is wrong with files that it must refuse."""
    with pytest.raises(LibraryInvalid) as caught:
        load_library(files, registry())
    return caught.value.faults


@dataclass
class DictStore:
    """What was left behind, in a dict."""

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


def evaluate_columns(version: Version, columns: Columns, store: DictStore) -> Evaluated:
    """Evaluates acts in order and keeps what they left behind."""
    evaluated = evaluate(
        version,
        columns.measures,
        accounts=columns.accounts,
        days=columns.days,
        grades=columns.grades,
        regions=columns.regions,
        labels=columns.labels,
        caps_used=store,
    )
    for key, usage in evaluated.left_behind:
        store.keep(key, usage)
    return evaluated


def evaluate_acts(version: Version, acts: Sequence[Act], store: DictStore) -> Evaluated:
    """Evaluates acts in order and keeps what they left behind."""
    return evaluate_columns(version, columns_of(version, acts), store)


def columns_of(version: Version, acts: Sequence[Act]) -> Columns:
    """Acts as the evaluator takes them: words of labels as codes, 0 for one that is not known."""

    def column(values: list[int]) -> Ints:
        return np.array(values, np.int64)

    codes = {
        label.name: dict(zip(label.values, range(1, 65), strict=False)) for label in version.labels
    }
    return Columns(
        accounts=column([act.account for act in acts]),
        days=column([act.day for act in acts]),
        grades=column([act.grade for act in acts]),
        regions=column([act.region for act in acts]),
        labels={
            name: column([known.get(act.labels.get(name, ""), 0) for act in acts])
            for name, known in codes.items()
        },
        measures={m.name: column([act.measures[m.name] for act in acts]) for m in version.measures},
    )


def random_acts(version: Version, count: int, seed: int, accounts: int = 60) -> list[Act]:
    """Acts with the borders of ranges, factors and caps drawn on purpose; two months of days."""
    return random_columns(version, count, seed, accounts).acts(version)


def outcomes_of(oracle: Oracle, version: Version, columns: Columns) -> list[Outcome]:
    """What the independent reader says of acts in order."""
    words = [
        [label.values[code - 1] if 1 <= code <= len(label.values) else "" for code in codes]
        for label in version.labels
        for codes in [columns.labels[label.name].tolist()]
    ]
    rows = zip(
        columns.accounts.tolist(),
        columns.days.tolist(),
        zip(*(columns.measures[name].tolist() for name in oracle.measures), strict=True),
        columns.grades.tolist(),
        columns.regions.tolist(),
        zip(*words, strict=True) if words else [()] * len(columns),
        strict=True,
    )
    return [oracle.credit_row(*row) for row in rows]


def differing(version: Version, evaluated: Evaluated, outcomes: Sequence[Outcome]) -> list[int]:
    """The places of acts at which the evaluator and the independent reader do not agree."""
    times = [mean_times(history) for history in version.histories]
    pairs: list[tuple[Sequence[object], list[object]]] = [
        (evaluated.credited.tolist(), [one.credited for one in outcomes]),
        (evaluated.uncapped.tolist(), [one.uncapped for one in outcomes]),
        (evaluated.refused.tolist(), [one.refused for one in outcomes]),
    ]
    for n, column in enumerate(evaluated.used_before):
        pairs.append((column.tolist(), [one.used_before[n] for one in outcomes]))
    for n, (column, many) in enumerate(zip(evaluated.histories, times, strict=True)):
        pairs.append((column.tolist(), [one.histories[n] * many for one in outcomes]))
    return sorted(
        {
            place
            for ours, theirs in pairs
            if list(ours) != theirs
            for place, (one, other) in enumerate(zip(ours, theirs, strict=True))
            if one != other
        }
    )


def difference(version: Version, oracle: Oracle, columns: Columns, place: int) -> str:
    """The act at which the two differ, after as few acts before it as still show it."""
    smallest = _smallest(version, oracle, columns, place)
    ours = evaluate_columns(version, smallest, DictStore())
    theirs = outcomes_of(oracle.afresh(), version, smallest)
    told = told_of(version, ours, theirs, len(smallest) - 1)
    return "\n".join([told, *map(str, smallest.acts(version))])


def told_of(version: Version, ours: Evaluated, theirs: Sequence[Outcome], place: int) -> str:
    """What both say of one act."""
    said = ", ".join(f"{name}={_at(getattr(ours, name), place)}" for name in Outcome._fields)
    return f"{version.name}: the evaluator says {said}; the oracle says {theirs[place]}"


def _smallest(version: Version, oracle: Oracle, columns: Columns, place: int) -> Columns:
    own = columns.accounts == columns.accounts[place]
    keep = [n for n in range(place + 1) if own[n]]
    for n in keep[:-1][:200]:
        fewer = columns.take([one for one in keep if one != n])
        ours = evaluate_columns(version, fewer, DictStore())
        if differing(version, ours, outcomes_of(oracle.afresh(), version, fewer)):
            keep.remove(n)
    return columns.take(keep)


def _at(value: object, place: int) -> object:
    if isinstance(value, tuple):
        return [int(column[place]) for column in value]
    assert isinstance(value, np.ndarray)
    return int(value[place])
