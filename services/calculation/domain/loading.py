"""One methodology file to its versions: read, checked, compiled, and its cases run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from services.calculation.domain.evaluate import SHARE, NothingUsed, evaluate, share_denominator
from services.calculation.domain.explain import explain
from services.calculation.domain.formula import INT64_MAX, Formula, Quantity, compile_formula
from services.calculation.domain.methodology import (
    GRADES,
    STATUSES,
    Case,
    Condition,
    Document,
    Methodology,
    Version,
    full_scene,
)
from services.calculation.domain.parse import (
    Binary,
    FormulaInvalid,
    Name,
    Node,
    parse_condition,
    parse_value,
    tokens_of,
)
from services.calculation.domain.parts import (
    read_cap,
    read_factor,
    read_grade,
    read_measure,
    unit_of,
)
from services.calculation.domain.reading import FileInvalid, Section
from services.calculation.domain.units import MASS, NUMBER, POINT, TRUTH

_ASSET = re.compile(r"reduction|point:[a-z][a-z0-9-]{0,62}")
_KEBAB = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SHARE_AT = next(tokens_of(""))


def read_methodology(root: Section) -> Methodology:
    """The methodology of a file; raises FileInvalid."""
    name = root.text("id")
    if not _KEBAB.fullmatch(name):
        raise root.fault("id must be lower-case letters, digits and hyphens", "id")
    document = root.section("document")
    head = Methodology(
        id=name,
        title_zh=root.text("title_zh"),
        title_en=root.text("title_en"),
        document=Document(
            title=document.text("title"),
            number=document.text("number", ""),
            publisher=document.text("publisher"),
            date=document.text("date"),
            source=document.text("source"),
            note=document.text("note", ""),
        ),
        scenes=frozenset(),
        versions=(),
    )
    document.close()
    asset, gas_scope = root.text("asset"), root.choice("gas_scope", ("CO2", "CO2e"))
    if not _ASSET.fullmatch(asset):
        raise root.fault('asset must be "reduction" or "point:" and the scheme\'s name', "asset")
    read = []
    for row in root.sections("version", at_least=1):
        read += _version_rules(row, root.table, name, asset, gas_scope)
    root.close()
    _check_days(read)
    _check_caps(read)
    versions = sorted((version for _, version in read), key=lambda v: v.effective_day)
    scenes = frozenset(scene for version in versions for scene in version.scenes)
    return Methodology(
        head.id, head.title_zh, head.title_en, head.document, scenes, tuple(versions)
    )


def _version_rules(
    row: Section, file: Mapping[str, Any], methodology: str, asset: str, gas_scope: str
) -> list[tuple[Section, Version]]:
    identity = row.text("id")
    if not _KEBAB.fullmatch(identity):
        raise row.fault("id must be lower-case letters, digits and hyphens", "id")
    row.choice("rounding", ("floor",))
    common: dict[str, Any] = {
        "name": f"methodologies/{methodology}/versions/{identity}",
        "digest": _digest(file, row.table),
        "gas_scope": gas_scope,
        "asset": asset,
        "draft": row.flag("draft", False),
        "effective_day": row.day("effective_date"),
        "end_day": row.day("end_date", required=False),
    }
    if common["end_day"] is not None and common["end_day"] <= common["effective_day"]:
        raise row.fault("end_date must be after effective_date", "end_date")
    versions = [(rule, _rule(rule, methodology, common)) for rule in row.sections("rule", 1)]
    row.close()
    return [(row, version) for _, version in versions]


def _rule(row: Section, methodology: str, common: dict[str, Any]) -> Version:
    measures = [read_measure(part) for part in row.sections("measure", at_least=1)]
    factors = [read_factor(part) for part in row.sections("factor", at_least=1)]
    caps = [read_cap(part, methodology, measures) for part in row.sections("cap")]
    if len(caps) > 1:
        raise row.fault(f"there are {len(caps)} caps; this format takes one yet", "cap")
    quantities = _quantities(row, measures, factors, {cap.of for cap in caps})
    grades = dict(read_grade(part) for part in row.sections("grade"))
    text, tree, formula = _formula(row, quantities, common["asset"])
    result = formula
    if any(grade.share != 1 for grade in grades.values()):
        result = _graded(row, tree, quantities, share_denominator(grades))
    if max(abs(result.low), abs(result.high)) > INT64_MAX:
        raise row.fault("a result can pass 2**63; narrow the measures' ranges", "formula")
    conditions = [_condition(part, quantities) for part in row.sections("condition")]
    _check_used(row, quantities, [formula, *(c.formula for c in conditions)], factors)
    rules = [*(c.status for c in caps), *(c.status for c in conditions)]
    rules += [grade.status for grade in grades.values()]
    version = Version(
        **common,
        scenes=frozenset(map(full_scene, row.texts("scenes"))),
        measures=tuple(measures), factors=tuple(factors), conditions=tuple(conditions),
        caps=tuple(caps), grades=grades, formula_text=text, formula_tree=tree, result=result,
        cases=tuple(_case(part, common["asset"]) for part in row.sections("case", at_least=1)),
        status=_weakest([factor.status for factor in factors], rules),
        values={k: q.scale if q.value is None else q.value for k, q in quantities.items()},
    )  # fmt: skip
    row.close()
    for part, case in zip(row.sections("case"), version.cases, strict=True):
        _run_case(part, version, case)
    return version


def _quantities(
    row: Section, measures: Sequence[Any], factors: Sequence[Any], capped: set[str]
) -> dict[str, Quantity]:
    quantities: dict[str, Quantity] = {}
    named = [*((m.name, m, "measure") for m in measures), *((f.key, f, "factor") for f in factors)]
    for name, part, kind in named:
        if name in quantities:
            raise row.fault(f"{name} is declared twice; rename one", kind)
        unit, size = unit_of(row, part.unit, kind)
        if kind == "factor":
            quantities[name] = Quantity(unit, Fraction(1), value=Fraction(part.value) * size)
        else:
            # A cap trims its measure, down to nothing.
            low = min(part.min, 0) if name in capped else part.min
            quantities[name] = Quantity(unit, size, low, part.max)
    return quantities


def _formula(
    row: Section, quantities: Mapping[str, Quantity], asset: str
) -> tuple[str, Node, Formula]:
    text = row.text("formula")
    try:
        tree = parse_value(text)
        formula = compile_formula(tree, quantities)
    except FormulaInvalid as error:
        raise _moved(row, error) from error
    wanted = POINT if asset.startswith("point:") else MASS
    if formula.unit != wanted:
        raise row.fault(
            f"the formula gives {formula.unit} and {asset} is {wanted}; mend a unit or the formula",
            "formula",
        )
    return text, tree, formula


def _graded(
    row: Section, tree: Node, quantities: Mapping[str, Quantity], denominator: int
) -> Formula:
    share = Quantity(NUMBER, Fraction(1, denominator), 0, denominator)
    graded = Binary(_SHARE_AT, "*", tree, Name(_SHARE_AT, SHARE))
    return compile_formula(graded, {**quantities, SHARE: share})


def _condition(row: Section, quantities: Mapping[str, Quantity]) -> Condition:
    text = row.text("formula")
    try:
        tree = parse_condition(text)
        formula = compile_formula(tree, quantities)
    except FormulaInvalid as error:
        raise _moved(row, error) from error
    assert formula.unit == TRUTH
    condition = Condition(
        text, tree, formula, row.text("source"), row.choice("status", STATUSES),
        row.text("label_zh"), row.text("label_en"),
    )  # fmt: skip
    row.close()
    return condition


def _moved(row: Section, error: FormulaInvalid) -> FileInvalid:
    """The fault of a formula at its place in the file."""
    line, column = row.place("formula")
    at = f"line {error.line}, column {error.column} of the formula"
    if error.line > 1:
        return FileInvalid(f"{error.message} ({at})", line + error.line - 1, error.column)
    return FileInvalid(f"{error.message} ({at})", line, column + error.column - 1)


def _check_used(
    row: Section,
    quantities: Mapping[str, Quantity],
    formulas: list[Formula],
    factors: Sequence[Any],
) -> None:
    used = frozenset().union(*(formula.names for formula in formulas))
    for number, factor in enumerate(factors):
        if factor.key not in used:
            part = row.sections("factor")[number]
            raise part.fault("nothing reads this factor; use it in the formula or remove it", "key")


def _weakest(factors: list[str], rules: list[str]) -> str:
    """The weakest status; a rule of our own making (`decision`) weakens nothing."""
    return max([*factors, *(s for s in rules if s != "decision")], key=STATUSES.index)


def _case(row: Section, asset: str) -> Case:
    expected = "expected_point" if asset.startswith("point:") else "expected_mg"
    case = Case(
        id=row.text("id"),
        measures=row.wholes("measures"),
        grade=GRADES[row.choice("grade", tuple(GRADES), "recorded")],
        expected=row.whole(expected, 0, INT64_MAX),
        tolerance=row.whole("tolerance", 0, INT64_MAX, 0),
        source=row.text("source"),
    )
    row.close()
    return case


def _run_case(row: Section, version: Version, case: Case) -> None:
    declared = {measure.name for measure in version.measures}
    if set(case.measures) != declared:
        names = ", ".join(sorted(declared))
        raise row.fault(f"measures must be exactly those of the rule: {names}", "measures")
    columns = {name: np.array([value], np.int64) for name, value in case.measures.items()}
    one = np.zeros(1, np.int64)
    evaluated = evaluate(
        version, columns, accounts=one, days=one, grades=one + case.grade, caps_used=NothingUsed()
    )
    got = int(evaluated.credited[0])
    told = explain(version, case.measures, used_before=0, grade=case.grade).credited
    if abs(got - case.expected) > case.tolerance or told != got:
        raise row.fault(
            f"must give {case.expected} and gives {got}; mend the formula, a factor or the case"
        )


def _check_days(read: Sequence[tuple[Section, Version]]) -> None:
    for scene in {scene for _, version in read for scene in version.scenes}:
        pricing = [(row, version) for row, version in read if scene in version.scenes]
        pricing.sort(key=lambda one: one[1].effective_day)
        for (_, older), (row, newer) in pairwise(pricing):
            if older.end_day is None or older.end_day > newer.effective_day:
                raise row.fault(
                    f"{older.name} and this one both price {scene} on the same day; give the "
                    "older one an end_date, or let only one rule name the scene", "effective_date"
                )  # fmt: skip


def _check_caps(read: Sequence[tuple[Section, Version]]) -> None:
    kinds: dict[str, tuple[str, str]] = {}
    for row, version in read:
        for cap in version.caps:
            kind = (cap.window, cap.of)
            if kinds.setdefault(cap.key, kind) != kind:
                raise row.fault(
                    f"cap {cap.key} has another window or `of` elsewhere in this file; "
                    "give them one, or this cap an id of its own"
                )


def _digest(file: Mapping[str, Any], version: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical form: JSON, keys sorted, of all that decides or sources a result.

    Titles of the methodology and its cases are left out: they change no milligram.
    """
    rules = [{k: v for k, v in rule.items() if k != "case"} for rule in version.get("rule", [])]
    head = {key: file.get(key) for key in ("id", "asset", "gas_scope", "document")}
    form = {"format": 1, "methodology": head, "version": {**version, "rule": rules}}
    text = json.dumps(form, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
