"""One methodology file to its versions: read, checked, compiled, and its cases run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from services.calculation.domain.cases import read_case, run_case
from services.calculation.domain.compiling import (
    compile_result,
    quantities_of,
    read_condition,
    read_formula,
)
from services.calculation.domain.evaluate import share_denominator
from services.calculation.domain.factor_parts import read_factor
from services.calculation.domain.factors import Series
from services.calculation.domain.formula import INT64_MAX
from services.calculation.domain.methodology import Document, Methodology, Version
from services.calculation.domain.parts import (
    KEBAB,
    read_history,
    read_measure,
    read_name,
)
from services.calculation.domain.reading import Section
from services.calculation.domain.rule import STATUSES, Factor, History, Label
from services.calculation.domain.rule_lists import (
    read_caps,
    read_grades,
    read_labels,
    read_scenes,
)

_ASSET = re.compile(r"reduction|emission|point:[a-z][a-z0-9-]{0,62}")
_CONDITIONS_MAX = 16


def read_methodology(root: Section, registry: Mapping[str, Series]) -> Methodology:
    """The methodology of a file, which may quote series of `registry`; raises FileInvalid."""
    name = root.text("id")
    if not KEBAB.fullmatch(name):
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
        raise root.fault(
            'asset must be "reduction", "emission", or "point:" and the scheme\'s name', "asset"
        )
    read: list[tuple[Section, Version]] = []
    for row in root.sections("version", at_least=1):
        if any(row.table.get("id") == other.table.get("id") for other, _ in read):
            raise row.fault("another version of this file has this id; choose another", "id")
        read += _version_rules(row, root.table, name, asset, gas_scope, registry)
    root.close()
    _check_days(read)
    _check_caps(read)
    versions = sorted((version for _, version in read), key=lambda v: v.effective_day)
    scenes = frozenset(scene for version in versions for scene in version.scenes)
    return Methodology(
        head.id, head.title_zh, head.title_en, head.document, scenes, tuple(versions)
    )


def _version_rules(
    row: Section,
    file: Mapping[str, Any],
    methodology: str,
    asset: str,
    gas_scope: str,
    registry: Mapping[str, Series],
) -> list[tuple[Section, Version]]:
    identity = row.text("id")
    if not KEBAB.fullmatch(identity):
        raise row.fault("id must be lower-case letters, digits and hyphens", "id")
    # A reduction that is rounded up, or an emission that is rounded down, flatters.
    allowed = "ceiling" if asset == "emission" else "floor"
    common: dict[str, Any] = {
        "name": f"methodologies/{methodology}/versions/{identity}",
        "gas_scope": gas_scope,
        "asset": asset,
        "draft": row.text("draft", ""),
        "rounding": row.choice("rounding", (allowed,)),
        "below_zero_counts": row.choice("below_zero", ("zero", "counts"), "zero") == "counts",
        "effective_day": row.day("effective_date"),
        "end_day": row.day("end_date", required=False),
    }
    if common["end_day"] is not None and common["end_day"] <= common["effective_day"]:
        raise row.fault("end_date must be after effective_date", "end_date")
    rules = [_rule(rule, methodology, common, registry) for rule in row.sections("rule", 1)]
    row.close()
    digest = _digest(file, row.table, rules)
    return [(row, replace(version, digest=digest)) for version in rules]


def _rule(
    row: Section, methodology: str, common: dict[str, Any], registry: Mapping[str, Series]
) -> Version:
    measures = [read_measure(part) for part in row.sections("measure", at_least=1)]
    labels = read_labels(row)
    factors = [
        read_factor(part, read_name(part, "key"), labels, registry)
        for part in row.sections("factor", at_least=1)
    ]
    histories = [read_history(part, methodology, measures) for part in row.sections("history")]
    caps = read_caps(row, methodology, measures)
    grades = read_grades(row)
    quantities = quantities_of(row, measures, factors, histories, {cap.of for cap in caps})
    for part, label in zip(row.sections("label"), labels, strict=True):
        if label.name in quantities:
            raise part.fault(f"{label.name} is declared twice; rename one", "name")
    trees = read_formula(row, quantities, factors, common["asset"])
    credits_low = row.choice("credit", ("value", "low"), "value") == "low"
    graded = any(grade.share != 1 for grade in grades.values())
    result = compile_result(
        trees.low if credits_low else trees.tree, quantities,
        share_denominator(grades) if graded else None,
    )  # fmt: skip
    if max(abs(result.low), abs(result.high)) > INT64_MAX:
        raise row.fault("a result can pass 2**63; narrow the measures' ranges", "formula")
    conditions = [read_condition(part, quantities) for part in row.sections("condition")]
    if len(conditions) > _CONDITIONS_MAX:
        raise row.fault(f"there are {len(conditions)} conditions; at most {_CONDITIONS_MAX} may be")
    used = trees.names.union(*(condition.formula.names for condition in conditions))
    _check_used(row, used, factors, labels, histories)
    version = Version(
        **common,
        digest="",
        scenes=read_scenes(row),
        credits_low=credits_low,
        measures=tuple(measures), labels=tuple(labels), factors=tuple(factors),
        histories=tuple(histories), conditions=tuple(conditions), caps=tuple(caps), grades=grades,
        formula_text=trees.text, formula_tree=trees.tree, low_tree=trees.low,
        high_tree=trees.high, result=result,
        cases=tuple(read_case(part, common["asset"], labels)
                    for part in row.sections("case", at_least=1)),
        status=_weakest(factors, [*caps, *histories, *conditions, *grades.values()]),
        values={name: q.scale if q.value is None else q.value for name, q in quantities.items()},
    )  # fmt: skip
    row.close()
    _check_case_ids(row, version)
    for part, case in zip(row.sections("case"), version.cases, strict=True):
        run_case(part, version, case)
    return version


def _check_used(
    row: Section,
    used: Collection[str],
    factors: Sequence[Factor],
    labels: Sequence[Label],
    histories: Sequence[History],
) -> None:
    by = {name for f in factors if f.table for name in f.table.labels}
    for kind, names, read in (
        ("factor", [factor.key for factor in factors], used),
        ("label", [label.name for label in labels], by),
        ("history", [history.name for history in histories], used),
    ):
        for part, name in zip(row.sections(kind), names, strict=True):
            if name not in read:
                key = "key" if kind == "factor" else "name"
                where = "a factor's `by`" if kind == "label" else "the formula"
                raise part.fault(f"nothing reads this {kind}; use it in {where} or remove it", key)
    if len(histories) > 1:
        raise row.sections("history")[1].fault("a rule takes one history; join the two", "name")


def _check_case_ids(row: Section, version: Version) -> None:
    seen: set[str] = set()
    for part, case in zip(row.sections("case"), version.cases, strict=True):
        if case.id in seen:
            raise part.fault("another case of this rule has this id; rename one", "id")
        seen.add(case.id)


def _weakest(factors: Sequence[Factor], rules: Sequence[Any]) -> str:
    """The weakest status; a rule of our own making (`decision`) weakens nothing."""
    own: list[str] = [row.status for f in factors for row in (f.table.rows if f.table else (f,))]
    own += [rule.status for rule in rules if rule.status != "decision"]
    return max(own, key=STATUSES.index)


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
    kinds: dict[str, tuple[object, ...]] = {}
    for row, version in read:
        for cap in version.caps:
            kind: tuple[object, ...] = (cap.window, cap.of)
            if kinds.setdefault(cap.key, kind) != kind:
                raise row.fault(
                    f"cap {cap.key} has another window or `of` elsewhere in this file; "
                    "give them one, or this cap an id of its own"
                )
        for history in version.histories:
            # What acts leave behind is kept under the name, so it must mean one thing.
            kind = (history.of, version.scenes)
            if kinds.setdefault(history.key, kind) != kind:
                raise row.fault(
                    f"history {history.key} is another cap or history elsewhere in this file; "
                    "give this one a name of its own"
                )


def _digest(file: Mapping[str, Any], version: Mapping[str, Any], rules: Sequence[Version]) -> str:
    """SHA-256 over the canonical form: JSON, keys sorted, of all that decides or sources a result.

    Titles of the methodology, its cases and the day it ends are left out: they change no
    milligram. What was quoted of the registry is put in, as it was read.
    """
    own = {key: value for key, value in version.items() if key != "end_date"}
    texts = [
        {key: value for key, value in rule.items() if key != "case"}
        for rule in version.get("rule", [])
    ]
    head = {key: file.get(key) for key in ("id", "asset", "gas_scope", "document")}
    form = {"format": 1, "methodology": head, "version": {**own, "rule": texts}}
    quoted = [
        [factor.key, *_quoted(factor)]
        for rule, text in zip(rules, texts, strict=True)
        for factor, source in zip(rule.factors, text["factor"], strict=True)
        if "series" in source
    ]
    if quoted:
        form["quoted"] = quoted
    said = json.dumps(form, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(said.encode()).hexdigest()


def _quoted(factor: Factor) -> list[Any]:
    rows: Sequence[Any] = factor.table.rows if factor.table else (factor,)
    keys = ("value", "low", "high", "source", "page", "status", "region_prefix", "from_day")
    return [factor.unit, *([getattr(row, key, "") for key in keys] for row in rows)]
