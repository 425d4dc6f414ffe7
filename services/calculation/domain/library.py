"""Loading the library: every file is checked whole before anything serves.

A fault names the file, the line where it can be found, and how to mend it; all faults of all
files are said at once. Published cases are run: a version that misses one does not load.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Any

from services.calculation.domain.evaluate import one
from services.calculation.domain.formula import (
    Formula,
    FormulaInvalid,
    Name,
    compile_formula,
    is_condition,
)
from services.calculation.domain.methodology import (
    GRADES,
    STATUSES,
    Cap,
    Case,
    Condition,
    Entry,
    Factor,
    Measure,
    Methodology,
    Programme,
    Version,
)
from services.calculation.domain.units import MASS, POINT, UnitMismatch, parse_unit
from shared.ids import date_to_day

_MG_MAX = 2**62


@dataclass(frozen=True)
class Fault:
    """What is wrong in a file, where, and how to mend it."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class LibraryInvalid(Exception):
    """The library does not load; `faults` says everything that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True)
class Library:
    """Every methodology and programme, by id."""

    methodologies: Mapping[str, Methodology]
    programmes: Mapping[str, Programme]


class _Invalid(Exception):
    """A rule is broken; `near` is text to look for in the file."""

    def __init__(self, message: str, near: str = "") -> None:
        super().__init__(message)
        self.near = near


def load_library(files: Mapping[str, str]) -> Library:
    """The library of `files` (relative path -> text); raises LibraryInvalid."""
    faults: list[Fault] = []
    methodologies: dict[str, Methodology] = {}
    programmes: dict[str, Programme] = {}
    for path in sorted(files, key=lambda path: (path.startswith("programmes/"), path)):
        try:
            data = tomllib.loads(files[path])
            if path.startswith("programmes/"):
                programme = _programme(data, methodologies)
                _add(programmes, programme.id, programme)
            else:
                methodology = _methodology(data)
                _add(methodologies, methodology.id, methodology)
        except tomllib.TOMLDecodeError as error:
            faults.append(Fault(path, 1, f"this is not TOML: {error}"))
        except _Invalid as error:
            faults.append(Fault(path, _line_of(files[path], error.near), str(error)))
        except FormulaInvalid as error:
            line = _line_of(files[path], "formula")
            at = f"line {error.line} column {error.column} of the formula"
            faults.append(Fault(path, line, f"{error.message} ({at})"))
    if faults:
        raise LibraryInvalid(faults)
    return Library(methodologies, programmes)


def _add(things: dict[str, Any], key: str, thing: Any) -> None:
    if key in things:
        raise _Invalid(f"id {key!r} is taken by another file; choose another id", key)
    things[key] = thing


def _line_of(text: str, near: str) -> int:
    lines = text.splitlines()
    return next((n for n, line in enumerate(lines, 1) if near and near in line), 1)


def _get(row: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    value = row.get(key)
    if not isinstance(value, kind) or (kind is str and not value):
        raise _Invalid(f"{where} lacks {key}; add it", where.rsplit(maxsplit=1)[-1])
    return value


def _methodology(data: Mapping[str, Any]) -> Methodology:
    name = _get(data, "id", str, "the file")
    document = _get(data, "document", dict, "the file")
    for key in ("title", "publisher", "source"):
        _get(document, key, str, "document")
    versions = [
        _version(name, data, row, rule)
        for row in _get(data, "version", list, "the file")
        for rule in _get(row, "rule", list, f"version {row.get('id', '')}")
    ]
    versions.sort(key=lambda version: version.effective_day)
    for scene in {scene for version in versions for scene in version.scenes}:
        pricing = [version for version in versions if scene in version.scenes]
        for older, newer in zip(pricing, pricing[1:], strict=False):
            if older.end_day is None or older.end_day > newer.effective_day:
                raise _Invalid(
                    f"{older.name} and {newer.name} both price {scene} on the same day; "
                    "end the older one",
                    "effective_date",
                )
    return Methodology(
        id=name,
        title_zh=_get(data, "title_zh", str, "the file"),
        title_en=_get(data, "title_en", str, "the file"),
        document=" ".join(document[k] for k in ("title", "number") if document.get(k)),
        scenes=frozenset(scene for version in versions for scene in version.scenes),
        versions=tuple(versions),
    )


def _version(
    methodology: str, data: Mapping[str, Any], row: Mapping[str, Any], rule: Mapping[str, Any]
) -> Version:
    where = f"version {_get(row, 'id', str, 'a version')}"
    measures = tuple(_measure(measure) for measure in _get(rule, "measure", list, where))
    factors = tuple(_factor(factor) for factor in rule.get("factor", []))
    names = dict(_names(measures, factors))
    asset = _get(data, "asset", str, "the file")
    formula = _formula(_get(rule, "formula", str, where), names, asset)
    conditions = tuple(_condition(condition, names) for condition in rule.get("condition", []))
    used = formula.names.union(*(condition.formula.names for condition in conditions))
    unused = {factor.key for factor in factors} - used
    if unused:
        raise _Invalid(f"{where} never uses {min(unused)}; remove it or use it", min(unused))
    statuses = [factor.status for factor in factors] or ["decision"]
    version = Version(
        name=f"methodologies/{methodology}/versions/{row['id']}",
        digest=_digest(data, row),
        scenes=frozenset(_get(rule, "scenes", list, where)),
        gas_scope=_get(data, "gas_scope", str, "the file"),
        asset=asset,
        effective_day=_day(_get(row, "effective_date", date, where)),
        end_day=_day(row["end_date"]) if "end_date" in row else None,
        measures=measures,
        factors=factors,
        conditions=conditions,
        caps=tuple(_cap(methodology, cap, measures) for cap in rule.get("cap", [])),
        grades=_grades(rule.get("grade", {}), where),
        formula=formula,
        cases=tuple(_case(case, measures) for case in rule.get("case", [])),
        status=max(statuses, key=STATUSES.index),
    )
    if len(version.caps) > 1:
        raise _Invalid(f"{where} has {len(version.caps)} caps; one is supported", "cap")
    _run_cases(version, where)
    return version


def _measure(row: Mapping[str, Any]) -> Measure:
    measure = Measure(**{key: row[key] for key in ("name", "unit", "min", "max")})
    if not measure.min <= measure.max <= 2**53 or measure.min < 0:
        raise _Invalid(f"measure {measure.name} needs 0 <= min <= max", measure.name)
    return measure


def _factor(row: Mapping[str, Any]) -> Factor:
    where = f"factor {row.get('key', '')}"
    for key in ("key", "value", "unit", "source", "status", "label_zh", "label_en"):
        _get(row, key, str, where)
    if row["status"] not in STATUSES:
        raise _Invalid(f"{where} has status {row['status']!r}; one of {STATUSES}", row["key"])
    return Factor(**{**row, "page": row.get("page", "")})


def _names(
    measures: tuple[Measure, ...], factors: tuple[Factor, ...]
) -> Iterator[tuple[str, Name]]:
    try:
        for measure in measures:
            near = measure.name
            unit, scale = parse_unit(measure.unit)
            if scale != 1 and measure.unit != "gram":
                raise _Invalid(
                    f"measure {near} is in {measure.unit}; measures are in base units", near
                )
            yield near, Name(unit, Fraction(measure.min), Fraction(measure.max), False)
        for factor in factors:
            near = factor.key
            unit, scale = parse_unit(factor.unit)
            value = Fraction(factor.value) * scale
            yield near, Name(unit, value, value, True)
    except (UnitMismatch, ValueError, ZeroDivisionError) as error:
        raise _Invalid(f"{near}: {error}", near) from error


def _formula(text: str, names: Mapping[str, Name], asset: str) -> Formula:
    formula = compile_formula(text, names)
    wanted = POINT if asset.startswith("point:") else MASS
    if formula.unit != wanted:
        raise FormulaInvalid(f"the formula gives {formula.unit} and must give {wanted}")
    if max(abs(formula.low), abs(formula.high)) >= _MG_MAX:
        raise FormulaInvalid("the formula can exceed 2**62 mg; narrow the measures' ranges")
    return formula


def _condition(row: Mapping[str, Any], names: Mapping[str, Name]) -> Condition:
    formula = compile_formula(_get(row, "formula", str, "a condition"), names)
    if not is_condition(formula):
        raise FormulaInvalid("a condition is a comparison")
    return Condition(formula, row.get("label_zh", ""), row.get("label_en", ""))


def _cap(methodology: str, row: Mapping[str, Any], measures: tuple[Measure, ...]) -> Cap:
    where = f"cap {row.get('id', '')}"
    for key in ("id", "window", "of", "source", "status"):
        _get(row, key, str, where)
    allowed = {"count", "result", *(measure.name for measure in measures)}
    if row["window"] not in {"day", "month"} or row["of"] not in allowed:
        raise _Invalid(
            f"{where} must be by day or month and of one of {sorted(allowed)}", row["id"]
        )
    amount = _get(row, "amount", int, where)
    key = f"{methodology}/{row['id']}"
    return Cap(key, row["window"], row["of"], amount, row["source"], row["status"])


def _grades(rows: Mapping[str, Any], where: str) -> dict[int, Fraction]:
    grades = dict.fromkeys(GRADES.values(), Fraction(1))
    for name, share in rows.items():
        if name not in GRADES or not 0 <= Fraction(str(share)) <= 1:
            raise _Invalid(
                f"{where}: grade {name} must be recorded, shown or declared, 0 to 1", name
            )
        grades[GRADES[name]] = Fraction(str(share))
    return grades


def _case(row: Mapping[str, Any], measures: tuple[Measure, ...]) -> Case:
    where = f"case {row.get('id', '')}"
    given = _get(row, "measures", dict, where)
    if set(given) - {measure.name for measure in measures}:
        raise _Invalid(f"{where} gives a measure that the version does not declare", row["id"])
    return Case(
        row["id"], given, _get(row, "expected", int, where), _get(row, "source", str, where)
    )


def _run_cases(version: Version, where: str) -> None:
    if not version.cases:
        raise _Invalid(f"{where} has no case; add one with a source", where.rsplit(maxsplit=1)[-1])
    for case in version.cases:
        got = int(one(version, case.measures).credited[0])
        if got != case.expected:
            raise _Invalid(
                f"case {case.id} must give {case.expected} and gives {got}; mend formula or case",
                case.id,
            )


def _programme(data: Mapping[str, Any], methodologies: Mapping[str, Methodology]) -> Programme:
    name = _get(data, "id", str, "the file")
    entries = [_entry(row, methodologies) for row in _get(data, "credit", list, "the file")]
    for number, one_entry in enumerate(entries):
        for other in entries[number + 1 :]:
            if (one_entry.scene, one_entry.region_prefix) == (
                other.scene,
                other.region_prefix,
            ) and (
                (one_entry.to_day is None or other.from_day < one_entry.to_day)
                and (other.to_day is None or one_entry.from_day < other.to_day)
            ):
                raise _Invalid(
                    f"two lines credit {other.scene} in {other.region_prefix or 'every region'} "
                    "on the same day; end one before the other begins",
                    other.scene,
                )
    titles = {key: _get(data, key, str, "the file") for key in ("title_zh", "title_en")}
    return Programme(
        name, **titles, demo=_get(data, "demo", bool, "the file"), entries=tuple(entries)
    )


def _entry(row: Mapping[str, Any], methodologies: Mapping[str, Methodology]) -> Entry:
    scene = _get(row, "scene", str, "a credit line")
    methodology = methodologies.get(_get(row, "methodology", str, f"credit of {scene}"))
    if methodology is None or scene not in methodology.scenes:
        raise _Invalid(
            f"{row['methodology']} is not in the library or does not price {scene}; "
            "name one that does",
            row["methodology"],
        )
    weak = [version.name for version in methodology.versions if not version.creditable]
    if weak:
        raise _Invalid(
            f"{weak[0]} may not credit: its weakest value was not published by a source that "
            "counts (official, reposted or operator)",
            row["methodology"],
        )
    return Entry(
        scene=scene,
        region_prefix=str(row.get("region", "")).rstrip("0") if row.get("region") else "",
        methodology=methodology,
        scene_approval=_get(row, "scene_approval", str, f"credit of {scene}"),
        from_day=_day(_get(row, "from_date", date, f"credit of {scene}")),
        to_day=_day(row["to_date"]) if "to_date" in row else None,
    )


def _day(value: date) -> int:
    return date_to_day(value)


def _digest(data: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical form: the header and the version, keys sorted, as JSON."""
    header = {key: value for key, value in data.items() if key != "version"}
    text = json.dumps([header, row], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
