"""A result computed again from nothing but its methodology file, and compared in every number.

No service, database or network has a part in it: whoever holds the file and what GetAssessment
or EstimateReduction answered comes to the same, or sees what differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from services.calculation.domain.assess import Verdict, absent_value
from services.calculation.domain.exact import Act
from services.calculation.domain.explain import Step, Working, explain, history_text
from services.calculation.domain.faults import LibraryInvalid
from services.calculation.domain.history import mean_times
from services.calculation.domain.library import load_library
from services.calculation.domain.methodology import Version
from services.calculation.domain.reading import FileInvalid, read_toml
from services.calculation.domain.refused import NOT_ELIGIBLE, OUT_OF_RANGE
from services.calculation.domain.registry import load_registry
from services.calculation.domain.result import label_words, result_digest
from services.calculation.result_json import (
    STEP_FIELDS,
    VERDICTS,
    WHOLE_ANSWER,
    ResultUnreadable,
    Said,
    read_result,
)
from shared.ids import day_to_date

__all__ = [
    "Finding", "Report", "ResultUnreadable", "compare", "methodology_id", "read_result", "rule_of",
    "verify",
]  # fmt: skip

_VERSION = re.compile(r"methodologies/([a-z0-9][a-z0-9-]{0,62})/versions/[a-z0-9-]{1,63}")
_VERDICT_WORDS = {code: word for word, code in VERDICTS.items()}
_REFUSED = {OUT_OF_RANGE: Verdict.OUT_OF_RANGE, NOT_ELIGIBLE: Verdict.NOT_ELIGIBLE}
_SHOWN_MAX = 120


@dataclass(frozen=True)
class Finding:
    """One thing that was checked. Where it does not agree, `said` is what the result has and
    `instead` what was computed, or what the rule is."""

    what: str
    agrees: bool
    said: str = ""
    instead: str = ""

    def __str__(self) -> str:
        if self.agrees:
            return f"{self.what}: ok"
        return f"{self.what}: differs: said {self.said}, {self.instead}"


@dataclass(frozen=True)
class Report:
    """What came of it: each thing that was checked, the working as it was computed here, what
    is beyond the file, and a note where there was nothing to compute."""

    subject: str
    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    unchecked: tuple[str, ...]
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether everything that was checked is as the result says."""
        return all(finding.agrees for finding in self.findings)


def methodology_id(said: Said) -> str:
    """The methodology whose file is needed; "" for a result that has nothing to compute."""
    if said.verdict == Verdict.WITHDRAWN:
        return ""
    if not said.methodology_version:
        if said.verdict == Verdict.NO_METHODOLOGY:
            return ""
        raise ResultUnreadable(
            f"verdict is {_VERDICT_WORDS[said.verdict]} and methodology_version is empty, so "
            f"nothing says by which rule to compute; {WHOLE_ANSWER}"
        )
    found = _VERSION.fullmatch(said.methodology_version)
    if found is None:
        raise ResultUnreadable(
            f"methodology_version is {said.methodology_version[:96]!r}; it must be "
            f"methodologies/{{methodology}}/versions/{{version}}: {WHOLE_ANSWER}"
        )
    return found[1]


def verify(said: Said, text: str = "", factors: Mapping[str, str] | None = None) -> Report:
    """Computes the result again from `text`, the file of `methodology_id(said)`.

    `factors` are the files of the factor registry that the text may quote, by name.
    ResultUnreadable when the file does not load or does not have that version and scene.
    """
    if not methodology_id(said):
        return _uncomputed(said)
    return compare(said, rule_of(said, text, factors or {}))


def compare(said: Said, version: Version) -> Report:
    """Computes the result again by the rule, and compares everything that it says."""
    act = _act(said, version)
    caps = dict(said.caps)
    ids = [cap.key.partition("/")[2] for cap in version.windowed_caps]
    used = tuple(caps.get(cap, 0) for cap in ids)
    working = explain(version, act, used)
    findings = [
        _same("methodology_digest", said.methodology_digest, version.digest),
        _same("asset", said.asset, version.asset),
        _in_force(act.day, version),
        *_words(said, version, act),
        *_caps(said, ids, used),
        _same("verdict", _VERDICT_WORDS[said.verdict], _VERDICT_WORDS[_verdict(working)]),
        _same("reduction_mg", said.reduction_mg, working.credited),
        _same("uncapped_mg", said.uncapped_mg, working.uncapped),
        _same("low_mg", said.low_mg, working.low),
        _same("high_mg", said.high_mg, working.high),
        *_steps(said.steps, working.steps),
        _same("result_digest", said.result_digest,
              result_digest(version, said.scene, act, used, working.credited)),
    ]  # fmt: skip
    day = day_to_date(act.day).isoformat()
    subject = f"{version.name}, {said.scene[:96]}, {day}"
    return Report(subject, tuple(findings), working.steps, tuple(_unchecked(said, version)))


def _uncomputed(said: Said) -> Report:
    """Of a result without a working: it must earn nothing and show nothing."""
    note = "nothing credits such an activity, so there is no working to compute"
    amounts = {"reduction_mg": said.reduction_mg, "low_mg": said.low_mg, "high_mg": said.high_mg}
    if said.verdict == Verdict.WITHDRAWN:
        # What it would have earned is still said in uncapped_mg, and earns nothing.
        note = "the activity was withdrawn: it earns nothing, and has no working to compute"
    else:
        amounts["uncapped_mg"] = said.uncapped_mg
    findings = [_same(name, value, 0) for name, value in amounts.items()]
    findings.append(_same("number of steps", len(said.steps), 0))
    findings.append(_same("result_digest", said.result_digest, ""))
    return Report(_VERDICT_WORDS[said.verdict], tuple(findings), (), said.uncomputed, note)


def rule_of(said: Said, text: str, factors: Mapping[str, str]) -> Version:
    """The rule that the result names, out of the file; ResultUnreadable without one."""
    wanted = methodology_id(said)
    file = f"{wanted}.toml"
    try:
        given = read_toml(text).table.get("id")
        if given != wanted:
            raise ResultUnreadable(
                f"the methodology file has the id {given!r:.80} and the result was computed by "
                f"{wanted}; give the file of {wanted}"
            )
        library = load_library({file: text}, load_registry(factors))
    except FileInvalid as error:
        raise _not_loading(f"{file}:{error.line}:{error.column}: {error.message}") from None
    except LibraryInvalid as error:
        raise _not_loading(str(error)) from None
    version = library.version_named(said.methodology_version, said.scene)
    if version is None:
        rules = library.rules_of(said.methodology_version)
        held = library.methodologies[wanted].versions
        scenes = ", ".join(sorted(scene for rule in rules for scene in rule.scenes))
        raise ResultUnreadable(
            f"{said.methodology_version} does not price {said.scene[:96]!r} in this file, but "
            f"{scenes}; give the file, and the result, as they were"
            if rules
            else f"the methodology file has no {said.methodology_version}; it has "
            f"{', '.join(sorted({one.name for one in held}))}; give the file that has it"
        )
    return version


def _not_loading(said: str) -> ResultUnreadable:
    return ResultUnreadable(f"the methodology file does not load: {said}")


def _act(said: Said, version: Version) -> Act:
    if said.day is None:
        raise ResultUnreadable(f"the result has no civil_date; {WHOLE_ANSWER}")
    labels = {
        label.name: label.values.index(word) + 1
        for label in version.labels
        if (word := said.labels.get(label.name, "")) in label.values
    }
    # What is no whole number of parts is no such mean, and shows when it is written again.
    history = {
        one.name: int(Fraction(said.history.get(one.name, "0")) * mean_times(one))
        for one in version.histories
    }
    measures = {m.name: said.measures.get(m.name, absent_value(m.name)) for m in version.measures}
    return Act(measures, said.grade, said.region, said.day, labels=labels, history=history)


def _in_force(day: int, version: Version) -> Finding:
    first = day_to_date(version.effective_day).isoformat()
    last = f" until before {day_to_date(version.end_day)}" if version.end_day is not None else ""
    said = day_to_date(day).isoformat()
    return Finding("civil_date", version.in_force(day), said,
                   f"the version holds from {first} on{last}")  # fmt: skip


def _words(said: Said, version: Version, act: Act) -> Iterator[Finding]:
    """Labels and the account's own past, which the version reads as far as it knows them."""
    if said.labels or version.labels:
        yield _same("labels", dict(said.labels), label_words(version, act))
    if said.history or version.histories:
        yield _same("history", dict(said.history), history_text(version, act))
    for one in version.histories:
        most = one.max * mean_times(one)
        if not 0 <= act.history[one.name] <= most:
            yield Finding(f"history.{one.name}", False, said.history[one.name],
                          f"a day counts 0 to {one.max}")  # fmt: skip


def _caps(said: Said, ids: list[str], used: tuple[int, ...]) -> Iterator[Finding]:
    yield _same("caps", [cap for cap, _ in said.caps], ids)
    yield _same("cap_used_before", said.cap_used_before, used[0] if used else 0)
    for cap, before in zip(ids, used, strict=True):
        if before < 0:
            yield Finding(f"used_before of {cap}", False, str(before), "no cap is used below zero")


def _verdict(working: Working) -> Verdict:
    granted = Verdict.CAPPED if working.credited != working.uncapped else Verdict.GRANTED
    return _REFUSED.get(working.refused, granted)


def _steps(said: tuple[Step, ...], computed: tuple[Step, ...]) -> Iterator[Finding]:
    """One finding when all agree, else one for each field; of another number of steps, where
    they part."""
    if len(said) != len(computed):
        pairs = zip(said, computed, strict=False)
        place = next((n for n, (one, other) in enumerate(pairs, 1) if one != other), None)
        part = f", and they part at step {place or min(len(said), len(computed)) + 1}"
        yield Finding("steps", False, f"{len(said)} steps", f"computed {len(computed)}{part}")
        return
    apart = [
        _same(f"step {n}, {name}", getattr(one, name), getattr(other, name))
        for n, (one, other) in enumerate(zip(said, computed, strict=True), 1)
        for name in STEP_FIELDS
        if getattr(one, name) != getattr(other, name)
    ]
    yield from apart or [Finding(f"all {len(computed)} steps", True)]


def _unchecked(said: Said, version: Version) -> Iterator[str]:
    """What the result says and the methodology file cannot confirm."""
    yield from said.uncomputed
    read = {measure.name for measure in version.measures}
    yield from (f"measures.{name[:64]} (the rule does not read it)"
                for name in said.measures if name not in read)  # fmt: skip


def _same(what: str, said: Any, computed: Any) -> Finding:
    if said == computed:
        return Finding(what, True)
    left, right = (one if isinstance(one, str) else str(one) for one in (said, computed))
    # Of long texts the part is shown in which they differ.
    apart = (n for n, (one, other) in enumerate(zip(left, right, strict=False)) if one != other)
    first = next(apart, min(len(left), len(right)))
    start = max(0, first - _SHOWN_MAX // 3) if max(len(left), len(right)) > _SHOWN_MAX else 0
    shown = [repr(text[start : start + _SHOWN_MAX]) for text in (left, right)]
    if not isinstance(said, str):
        shown = [text[1:-1] for text in shown]
    before = "..." if start else ""
    return Finding(what, False, before + shown[0], f"computed {before}{shown[1]}")
