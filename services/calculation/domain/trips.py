"""One distance by every mode: what a person emits, and what a methodology would credit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from services.calculation.domain.exact import Act, assess_act
from services.calculation.domain.explain import Step
from services.calculation.domain.methodology import Library, Programme, Version, full_scene
from services.calculation.domain.questionnaire import Named
from services.calculation.domain.rate_parts import read_rate
from services.calculation.domain.rates import (
    Interval,
    Note,
    Priced,
    Rate,
    Where,
    price,
    rounding_step,
)
from services.calculation.domain.reading import Section
from services.calculation.domain.refused import OK
from services.calculation.domain.rule import STATUSES
from services.calculation.domain.wording import step
from shared.refusal import FieldInvalid

MEASURE = "distance_metre"
PERSONS_MAX = 9
DISTANCE_MAX = 20_000_000
"""Metres; half way around the world."""


@dataclass(frozen=True)
class Mode:
    """A way to travel from `from_metre` to `to_metre`.

    Without a `rate` it is counted as nothing, by `nothing_source`. `by_persons`: the rate is of
    the vehicle. `credit_scene` is what reduction methodologies call it, "" where none does.
    """

    named: Named
    from_metre: int
    to_metre: int
    rate: Rate | None
    by_persons: bool
    nothing_source: str
    nothing_status: str
    credit_scene: str


@dataclass(frozen=True)
class Trips:
    """The modes, in the order of their file."""

    modes: Mapping[str, Mode]
    note: Note


@dataclass(frozen=True)
class Credited:
    """What a version makes of the trip with no cap used; `programme` is "" where none credits."""

    version: Version
    reduction_mg: int
    programme: str


@dataclass(frozen=True)
class TripMode:
    """One mode for the distance; `priced` is None where it is counted as nothing."""

    mode: Mode
    emission_mg: int
    interval: Interval | None
    priced: Priced | None
    status: str
    formula: Note
    steps: tuple[Step, ...]
    notes: tuple[Note, ...]
    credits: tuple[Credited, ...]


@dataclass(frozen=True)
class TripComparison:
    """The modes, the least emission first, and those that are left out with the reason."""

    modes: tuple[TripMode, ...]
    left_out: tuple[tuple[Mode, Note], ...]


def read_trips(root: Section, library: Library) -> Trips:
    """The modes of a file; raises FileInvalid."""
    root.text("id")
    modes: dict[str, Mode] = {}
    for row in root.sections("mode", 1):
        mode = _mode(row, library)
        if mode.named.key in modes:
            raise row.fault(f"key {mode.named.key[:60]!r} is there twice; rename one", "key")
        modes[mode.named.key] = mode
    trips = Trips(modes, Note(root.text("note_zh"), root.text("note_en")))
    root.close()
    return trips


def _mode(row: Section, library: Library) -> Mode:
    rate = None
    if row.has("methodology"):
        rate = read_rate(row, library, row.words("labels"))
    low = row.whole("from_metre", 0, DISTANCE_MAX)
    mode = Mode(
        named=Named(row.text("key"), row.text("label_zh"), row.text("label_en")),
        from_metre=low,
        to_metre=row.whole("to_metre", low, DISTANCE_MAX),
        rate=rate,
        by_persons=row.flag("by_persons", False),
        nothing_source="" if rate else row.text("nothing_source"),
        nothing_status="" if rate else row.choice("nothing_status", STATUSES),
        credit_scene=row.text("credit_scene", ""),
    )
    row.close()
    credited = {v.asset for m in library.methodologies.values() for v in m.versions
                if full_scene(mode.credit_scene) in v.scenes}  # fmt: skip
    if mode.credit_scene and "reduction" not in credited:
        raise row.fault(f"no reduction methodology prices {mode.credit_scene[:60]}; correct it or "
                        "leave it out", "credit_scene")  # fmt: skip
    for version in rate.methodology.versions if rate else ():
        if rate is None or rate.scene not in version.scenes:
            continue
        if [m.name for m in version.measures] != [MEASURE]:
            raise row.fault(f"{version.name} must take {MEASURE} and nothing else", "scene")
        measure = version.measures[0]
        if mode.from_metre < measure.min or mode.to_metre > measure.max:
            raise row.fault(f"{version.name} takes {measure.min} to {measure.max}; narrow the "
                            "distances", "to_metre")  # fmt: skip
    return mode


def compare_trips(
    trips: Trips,
    distance_metre: int,
    *,
    where: Where,
    persons: int,
    library: Library,
    programme: Programme,
) -> TripComparison:
    """What a person emits by each mode that goes that far; FieldInvalid outside the ranges."""
    if not 1 <= distance_metre <= DISTANCE_MAX:
        raise FieldInvalid(
            "distance_metre",
            f"distance_metre is {distance_metre}; it must be 1 to {DISTANCE_MAX} metres",
        )
    if not 1 <= persons <= PERSONS_MAX:
        raise FieldInvalid(
            "car_person_count", f"car_person_count is {persons}; it must be 1 to {PERSONS_MAX}"
        )
    going = [m for m in trips.modes.values() if m.from_metre <= distance_metre <= m.to_metre]
    modes = [
        _trip(mode, distance_metre, where, persons, _credits(mode, distance_metre, where, library,
                                                             programme))
        for mode in going
    ]  # fmt: skip
    return TripComparison(
        modes=tuple(sorted(modes, key=lambda one: (one.emission_mg, one.mode.named.key))),
        left_out=tuple(
            (mode, _too_far(mode, distance_metre))
            for mode in trips.modes.values()
            if mode not in going
        ),
    )


def _too_far(mode: Mode, distance_metre: int) -> Note:
    bounds = f"{mode.from_metre} .. {mode.to_metre}"
    return Note(
        f"{mode.named.label_zh}：只比较 {bounds} 米的行程，所问为 {distance_metre} 米。",
        f"{mode.named.label_en}: compared from {bounds} metres; {distance_metre} was asked.",
    )


def _trip(
    mode: Mode, distance_metre: int, where: Where, persons: int, credits: tuple[Credited, ...]
) -> TripMode:
    if mode.rate is None:
        nothing = step(mode.named.label_zh, mode.named.label_en, "0", "0", "mg",
                       mode.nothing_source, "", mode.nothing_status)  # fmt: skip
        return TripMode(mode, 0, None, None, mode.nothing_status, Note("0", "0"), (nothing,), (),
                        credits)  # fmt: skip
    priced = price(mode.rate, {MEASURE: distance_metre}, where)
    steps, share, formula = list(priced.steps), Fraction(1), priced.formula
    if mode.by_persons:
        share /= persons
        steps.append(step("车上人数", "persons in the car", "persons", str(persons), ""))
        formula = Note(f"{formula.zh} ÷ {persons} 人", f"{formula.en} / {persons} persons")
    exact = priced.exact * share
    return TripMode(
        mode=mode,
        emission_mg=math.ceil(exact),
        interval=priced.interval(mode.rate.meaning, share),
        priced=priced,
        status=priced.status,
        formula=formula,
        steps=(*steps, rounding_step(priced.exact, share, exact)),
        notes=priced.notes,
        credits=credits,
    )


def _credits(
    mode: Mode, distance_metre: int, where: Where, library: Library, programme: Programme
) -> tuple[Credited, ...]:
    """What each reduction methodology that needs the distance alone makes of the trip, by name."""
    if not mode.credit_scene:
        return ()
    scene = full_scene(mode.credit_scene)
    credit = programme.credit_for(scene, where.region, where.day)
    found = []
    for _, methodology in sorted(library.methodologies.items()):
        version = methodology.version_on(scene, where.day)
        if version is None or version.asset != "reduction" or version.labels or version.histories:
            continue
        if [m.name for m in version.measures] != [MEASURE]:
            continue
        act = Act({MEASURE: distance_metre}, region=where.region, day=where.day)
        exact = assess_act(version, act)
        if exact.refused == OK:
            credits = credit is not None and credit.version is version
            programme_name = credit.programme if credit and credits else ""
            found.append(Credited(version, exact.credited, programme_name))
    return tuple(found)
