"""Adding up what acts came to and what they would come to, by scene, region, month and decile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.calculation.domain.assess import Assessed, SceneCode
from services.calculation.domain.grouping import months_of
from services.calculation.domain.methodology import Credit

Ints = NDArray[np.int64]
EXAMPLES_MAX = 20
NOTHING = "nothing"
"""The asset of acts that nothing credits, before and after."""


class DraftClasses:
    """Class codes that are never kept: below zero, so that none is taken for a kept one."""

    def __init__(self) -> None:
        self.assets: dict[int, str] = {}
        self._codes: dict[tuple[str, int, int], int] = {}

    def code_of(self, credit: Credit, region: int, vintage_month: int) -> int:
        """A code of this backtest; see domain.assess.ClassBook."""
        key = credit.version.name, region, vintage_month
        code = self._codes.setdefault(key, -1 - len(self._codes))
        self.assets[code] = credit.version.asset
        return code


@dataclass(frozen=True)
class Total:
    """Acts of one kind and asset; before and after in its unit."""

    by: str
    key: str
    asset: str
    acts: int
    changed: int
    before: int
    after: int


@dataclass(frozen=True)
class Example:
    """One act that would move."""

    account_id: int
    activity_position: int
    scene: str
    before: int
    after: int


@dataclass
class Tally:
    """Totals of a backtest; every add is one more piece of the acts."""

    scenes: Mapping[int, SceneCode]
    acts: int = 0
    examples: list[Example] = field(default_factory=list)
    _sums: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    _accounts: dict[str, list[tuple[Ints, Ints]]] = field(default_factory=dict)

    def add(self, before: Assessed, after: Assessed, assets: Mapping[int, str]) -> None:
        """The same acts twice; `assets` says what the classes of both count."""
        self.acts += len(before.acts)
        names = sorted({*assets.values(), NOTHING})
        codes = {code: names.index(name) for code, name in assets.items()}
        old = _looked_up(before.asset_class, codes, names.index(NOTHING))
        new = _looked_up(after.asset_class, codes, names.index(NOTHING))
        moved = (before.amount != after.amount) | (old != new)
        keys = {
            "all": np.zeros(len(moved), np.int64),
            "scene": before.acts.scene,
            "region": before.acts.region,
            "month": months_of(before.acts.civil_day),
        }
        for number, asset in enumerate(names):
            # An act counts once for each asset that it has before or after.
            rows = np.flatnonzero((old == number) | (new == number))
            values = np.stack(
                [
                    np.ones(len(rows), np.int64),
                    moved[rows].astype(np.int64),
                    np.where(old[rows] == number, before.amount[rows], 0),
                    np.where(new[rows] == number, after.amount[rows], 0),
                ]
            )
            for by, key in keys.items():
                self._sum(by, asset, key[rows], values)
            if asset != NOTHING and len(rows):
                accounts, sums = _by_key(before.acts.account_id[rows], values)
                self._accounts.setdefault(asset, []).append((accounts, sums))
        self._note_examples(before, after, np.flatnonzero(moved))

    def totals(self) -> list[Total]:
        """Everything added up, the whole first."""
        rows = [Total(*place, *sums) for place, sums in self._sums.items()]
        order = ("all", "scene", "region", "month")
        rows.sort(key=lambda total: (order.index(total.by), total.key, total.asset))
        return rows + [total for asset in sorted(self._accounts) for total in self._deciles(asset)]

    def _sum(self, by: str, asset: str, key: Ints, values: Ints) -> None:
        distinct, sums = _by_key(key, values)
        for number, column in zip(distinct.tolist(), sums.T.tolist(), strict=True):
            place = by, self._told(by, number), asset
            held = self._sums.setdefault(place, [0, 0, 0, 0])
            self._sums[place] = [one + more for one, more in zip(held, column, strict=True)]

    def _told(self, by: str, number: int) -> str:
        if by == "scene":
            return self.scenes[number].scene
        if by == "region":
            return f"{number:06d}" if number else ""
        return f"{number // 12:04d}-{number % 12 + 1:02d}" if by == "month" else ""

    def _deciles(self, asset: str) -> list[Total]:
        """Tenths of the accounts, those with the least before first."""
        parts = self._accounts[asset]
        accounts, sums = _by_key(
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts], axis=1),
        )
        order = np.lexsort((accounts, sums[2]))
        tenths = np.array_split(sums[:, order], 10, axis=1)
        return [
            Total("decile", str(number), asset, *tenth.sum(axis=1).tolist())
            for number, tenth in enumerate(tenths, 1)
            if tenth.shape[1]
        ]

    def _note_examples(self, before: Assessed, after: Assessed, moved: NDArray[np.intp]) -> None:
        for row in moved[: EXAMPLES_MAX - len(self.examples)].tolist():
            acts = before.acts
            self.examples.append(
                Example(
                    int(acts.account_id[row]),
                    int(acts.activity_position[row]),
                    self.scenes[int(acts.scene[row])].scene,
                    int(before.amount[row]),
                    int(after.amount[row]),
                )
            )


def _looked_up(codes: Ints, numbers: Mapping[int, int], otherwise: int) -> Ints:
    distinct, place = np.unique(codes, return_inverse=True)
    table = [numbers.get(code, otherwise) for code in distinct.tolist()]
    return np.array(table, np.int64)[place]


def _by_key(key: Ints, values: Ints) -> tuple[Ints, Ints]:
    """Distinct keys ascending, and the rows of `values` added up for each."""
    if not len(key):
        return key, values
    order = np.argsort(key, kind="stable")
    in_order = key[order]
    starts = np.flatnonzero(np.append(True, in_order[1:] != in_order[:-1]))
    return in_order[starts], np.add.reduceat(values[:, order], starts, axis=1)
