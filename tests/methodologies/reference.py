"""Reference cases as acts: what the handbook's case says in the words of its methodology file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from services.calculation.domain.evaluate import CapStore, Evaluated, NothingUsed, evaluate
from services.calculation.domain.history import mean_times
from services.calculation.domain.library import Library, load_library
from services.calculation.domain.methodology import Version
from services.calculation.domain.registry import load_registry
from services.calculation.domain.rule import GRADES
from shared.ids import date_to_day

ROOT = Path(__file__).parents[2]
METHODOLOGIES = ROOT / "services/calculation/methodologies"
FACTORS = ROOT / "services/calculation/factors"
ACCOUNT = 7

MG_PER = {"gCO2": 10**3, "kgCO2": 10**6, "tCO2": 10**9, "kgCO2/kg": 10**6, "kgCO2/kWh": 10**6}
POINTS = ("g energy", "points")
GALLON_ML = Fraction("3785.411784")
WH_PER_KG = Fraction(8_000) / Fraction("2.5")
GALLONS = 1_000_000
"""One gallon is no whole number of millilitres; this many are."""

BEHAVIOURS = {
    "ecard_apply": "ecard-application", "e_statement": "e-statement",
    "utility_payment": "utility-payment", "offline_payment": "offline-payment",
    "film_ticket": "film-ticket", "rail_ticket": "rail-ticket", "etc": "etc-passage",
    "e_invoice": "e-invoice", "clothes_donation": "clothes-donation", "bus": "bus-ride",
    "metro": "metro-ride", "bus_electric": "bus-ride", "bike": "shared-bike-ride",
    "rail": "metro-ride", "walk": "walk", "ev": "ev-ride",
}  # fmt: skip
EVIDENCE = {"screenshot": "shown", "self": "declared"}
WUHAN = {"84": "shared-bike-ride", "829": "metro-ride"}
FUELS = {"42652": "diesel-use", "50179": "lpg-use"}
REGIONS = {"national": 0, "guangdong": 440_000, "shanghai": 310_000, "beijing": 110_000}
GRID_DAYS = {"2022": date(2025, 6, 1), "2023": date(2026, 1, 15)}
"""A day on which the factor of that data year was the newest published."""
GIVEN_FACTORS = (
    "be", "pe", "ef", "ef_g", "ef_t_per_mwh", "baseline_kg", "ncv_kj_per_kg", "carbon_tc_per_tj",
    "oxidation",
)  # fmt: skip


@dataclass(frozen=True)
class Deed:
    """One act of a case; `history` is in the measure's base unit."""

    methodology: str
    scene: str
    measures: Mapping[str, int]
    day: int = date_to_day(date(2026, 3, 2))
    grade: str = "recorded"
    region: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    history: Mapping[str, int] = field(default_factory=dict)


@cache
def library() -> Library:
    """The shipped library, with the shipped registry."""
    return load_library(files_below(METHODOLOGIES), load_registry(files_below(FACTORS)))


def files_below(root: Path) -> dict[str, str]:
    """Every file of text below `root` by its path relative to it."""
    return {
        path.relative_to(root).as_posix(): path.read_text("utf-8")
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def cases_of(path: Path) -> list[dict[str, Any]]:
    """The cases of a file, every number as the text that was written."""
    return list(yaml.load(path.read_text("utf-8"), yaml.BaseLoader)["vectors"])


def expected_of(case: Mapping[str, Any]) -> tuple[Fraction, Fraction]:
    """The published answer in mg or points, and how far from it an answer may lie."""
    size = Fraction(1 if case["expected"]["unit"] in POINTS else MG_PER[case["expected"]["unit"]])
    size *= GALLONS if case["methodology"] == "FUEL-EPA2025" else 1
    return Fraction(case["expected"]["value"]) * size, Fraction(case.get("tolerance", 0)) * size


def deeds_of(case: Mapping[str, Any]) -> list[Deed]:
    """The acts of a case: a count for a period is that many acts in one day or month."""
    inputs, name = case["inputs"], case["methodology"].lower()
    if name in _READERS:
        return [
            Deed(name, scene, measures, **more) for scene, measures, more in _READERS[name](inputs)
        ]
    if name == "grid-cn":
        return [_grid(inputs)]
    acted = inputs.get("behaviour") or inputs["mode"]
    if "distance_km" in inputs:
        return [Deed(name, BEHAVIOURS[acted], {"distance_metre": whole(inputs["distance_km"])})]
    return _counted(name, inputs, acted)


def _counted(name: str, inputs: Mapping[str, Any], acted: str) -> list[Deed]:
    fen = whole(inputs.get("amount_yuan", "1.00"), 100)
    paid = {"amount_fen": fen} if name == "ant-forest" and acted.endswith("payment") else {}
    first = Deed(name, BEHAVIOURS[acted], {"count": 1, **paid})
    step = 1 if inputs.get("period") == "month" else 0
    return [replace(first, day=first.day + step * place) for place in range(int(inputs["count"]))]


Told = Iterable[tuple[str, dict[str, int], dict[str, Any]]]
"""Scene, measures, and what else an act carries."""
# Cases whose inputs do not name a behaviour as the others do.
_READERS: dict[str, Callable[[Mapping[str, Any]], Told]] = {
    "wuhan-wtjh": lambda i: [(WUHAN[act], {"count": 1}, {}) for act in i["acts"]],
    "sz-he-2022": lambda i: [
        (
            "home-electricity-day",
            {"energy_watt_hour": whole(i["actual_kg"], WH_PER_KG)},
            {"history": {"own_mean_watt_hour": whole(i["own_mean_7d_kg"], WH_PER_KG)}},
        )
    ],
    "gz-metro-study": lambda i: [
        ("metro-ride", {"count": int(i["trips"])}, {"labels": {"method": i["method"]}})
    ],
    "hubei-ttxq-2021": lambda i: [
        (BEHAVIOURS[i["behaviour"]], {"count": 1}, {"grade": EVIDENCE[i["evidence"]]})
    ],
    "sh-dpv-2024": lambda i: [
        ("home-solar", {"energy_watt_hour": whole(i["generation_mwh"], 10**6)}, {})
    ],
    "calc-flight-cn": lambda i: [("flight", {"distance_metre": whole(i["distance_km"])}, {})],
    "calc-cn": lambda i: [
        ("paper-use", {"sheet_count": int(i["sheets"])}, {})
        if "sheets" in i
        else ("water-use", {"mass_gram": whole(i["mass_t"], 10**6)}, {})
    ],
    "fuel-cn": lambda i: [(FUELS[i["ncv_kj_per_kg"]], {"mass_gram": 1000}, {})],
    "fuel-epa2025": lambda i: [
        ("petrol-use", {"volume_millilitre": whole(i["volume_gal"], GALLON_ML * GALLONS)}, {})
    ],
    "secondhand-phone": lambda i: [("phone-resale", {"count": int(i["count"])}, {})],
    "clothes-bir2008": lambda i: [("clothes-donation", {"mass_gram": whole(i["mass_kg"])}, {})],
}


def _grid(inputs: Mapping[str, Any]) -> Deed:
    if "as_of" in inputs:
        day = date_to_day(date.fromisoformat(inputs["as_of"]))
        return Deed("grid-cn", "electricity-use", {"energy_watt_hour": 1000}, day=day)
    place, year = inputs["region_year"].split("-")
    used = {"energy_watt_hour": whole(inputs["kwh"])}
    day = date_to_day(GRID_DAYS[year])
    if place not in REGIONS:
        return Deed("grid-area-cn", f"electricity-{place}-grid", used, day=day)
    return Deed("grid-cn", "electricity-use", used, day=day, region=REGIONS[place])


def whole(text: str, times: Fraction | int = 1000) -> int:
    """`text` in a unit `times` finer, which must be a whole number there."""
    value = Fraction(text) * times
    assert value.denominator == 1, f"{text} is no whole number of base units"
    return int(value)


def version_of(deed: Deed) -> Version:
    """The rule that prices the act on its day."""
    version = library().version_on(deed.methodology, deed.day, deed.scene)
    assert version is not None, f"nothing prices {deed.scene} on day {deed.day}"
    return version


def evaluated(
    version: Version, deeds: Sequence[Deed], store: CapStore | None = None, past: bool = True
) -> Evaluated:
    """What acts of one rule and one account earn; `past` gives their histories ready made."""

    def column(values: Sequence[int]) -> Any:
        return np.array(values, np.int64)

    named = {label.name: label.values for label in version.labels}
    means = {history.name: mean_times(history) for history in version.histories}
    return evaluate(
        version,
        {m.name: column([deed.measures[m.name] for deed in deeds]) for m in version.measures},
        accounts=column([ACCOUNT for _ in deeds]),
        days=column([deed.day for deed in deeds]),
        grades=column([GRADES[deed.grade] for deed in deeds]),
        regions=column([deed.region for deed in deeds]),
        labels={
            name: column([words.index(deed.labels[name]) + 1 for deed in deeds])
            for name, words in named.items()
        },
        histories={
            name: column([deed.history[name] * parts for deed in deeds])
            for name, parts in means.items()
        }
        if past and means
        else None,
        caps_used=store or NothingUsed(),
    )


def credited(deeds: Sequence[Deed]) -> int:
    """What the acts of a case come to, each rule's in record order."""
    groups: dict[tuple[str, str], list[Deed]] = {}
    for deed in deeds:
        groups.setdefault((version_of(deed).name, deed.scene), []).append(deed)
    results = [evaluated(version_of(group[0]), group).credited for group in groups.values()]
    return sum(int(result.sum()) for result in results)
