"""Calculation's part of copies and erasures: what was computed for an account, and from what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Protocol

from services.calculation.domain.assess import SceneCode, Verdict
from shared.ids import account_name, day_to_date
from shared.privacy import Erased, Item, Kept, Table


@dataclass(frozen=True)
class PastAssessment:
    """One assessment as it was written: codes are the feed's, amounts in the asset's unit."""

    position: int
    assess_time: datetime
    superseding: bool
    restatement: int
    activity_position: int
    civil_day: int
    scene: int
    region: int
    evidence_grade: int
    measure_1: int
    measure_2: int
    label_1: int
    verdict: int
    amount: int
    delta: int
    asset_class: int
    cap_used_before: int
    cap_used_before_2: int
    history_1: int


class Change(Protocol):
    """What one restatement changed in one month; see `storage.restatements.AccountChange`."""

    @property
    def restatement(self) -> int: ...
    @property
    def month(self) -> int: ...
    @property
    def asset(self) -> str: ...
    @property
    def acts(self) -> int: ...
    @property
    def delta(self) -> int: ...
    @property
    def reason_zh(self) -> str: ...
    @property
    def reason_en(self) -> str: ...
    @property
    def create_time(self) -> datetime: ...


class Past(Protocol):
    """What a copy needs of storage; see `storage.privacy.Past`."""

    def assessments(self, account_id: int) -> Iterator[PastAssessment]: ...
    def scenes(self) -> dict[int, SceneCode]: ...
    def class_of(self, code: int) -> Mapping[str, object]: ...
    def changes(self, account_id: int) -> Sequence[Change]: ...


_CLASS = (
    "asset", "methodology_version", "methodology_digest", "programme", "scene_approval",
    "gas_scope", "vintage_month",
)  # fmt: skip
_ASSESSMENT = (
    "assessment", "assess_time", "civil_date", "scene", "measures", "label", "region_code",
    "evidence_grade", "verdict", "amount", "delta", *_CLASS, "cap_used_before",
    "cap_used_before_2", "history_1", "superseding", "restatement",
)  # fmt: skip
_CHANGE = (
    "restatement", "month", "asset", "acts", "delta", "reason_zh", "reason_en", "create_time",
)  # fmt: skip


def export_account(account_id: int, *, past: Past) -> Iterator[Item]:
    """Every assessment of the account in feed order, and what restatements changed for it."""
    yield Table("assessments", _ASSESSMENT, _assessments(account_id, past))
    rows = [
        (
            f"restatements/{one.restatement}", f"{one.month // 12}-{one.month % 12 + 1:02}",
            one.asset, one.acts, one.delta, one.reason_zh, one.reason_en, one.create_time,
        )
        for one in past.changes(account_id)
    ]  # fmt: skip
    yield Table("restated-months", _CHANGE, rows)


def erase_account(_account_id: int) -> Erased:
    """Deletes nothing: what calculation holds are skeletons, without time, place or person.

    An act there is its account's number, civil day, scene, six-digit region, measures and amount.
    """
    return Erased(
        kept=[
            Kept(
                "assessments under the account's number: civil day, scene, region, measures, "
                "amount",
                "they prove the ledger's postings, and caps of later acts are computed from them",
            ),
            Kept(
                "what restatements changed under the account's number, by month",
                "they explain the ledger's corrections",
            ),
        ]
    )


def _assessments(account_id: int, past: Past) -> Iterator[tuple[object, ...]]:
    scenes, class_of = past.scenes(), cache(past.class_of)
    for one in past.assessments(account_id):
        scene = scenes[one.scene]
        meaning = class_of(one.asset_class) if one.asset_class else {}
        yield (
            f"{account_name(account_id)}/assessments/{one.activity_position}", one.assess_time,
            day_to_date(one.civil_day), scene.scene,
            dict(zip(scene.measures, (one.measure_1, one.measure_2), strict=False)),
            {scene.label: scene.label_values[one.label_1 - 1]} if one.label_1 else {},
            f"{one.region:06d}" if one.region else "", one.evidence_grade,
            Verdict(one.verdict).name.lower(), one.amount, one.delta,
            *(meaning.get(name) for name in _CLASS), one.cap_used_before, one.cap_used_before_2,
            one.history_1, one.superseding,
            f"restatements/{one.restatement}" if one.restatement else "",
        )  # fmt: skip
