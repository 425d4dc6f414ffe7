"""Reading an assessment out of protobuf's JSON mapping, with the standard library alone.

What cannot be read whole is refused: a result that is half read would be half checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal
from typing import Any, TypeVar

from services.calculation.domain.assess import Verdict
from services.calculation.domain.explain import Step
from services.calculation.domain.rule import GRADES
from shared.ids import date_to_day

Value = TypeVar("Value")

UNCOMPUTED = ("name", "programme", "assess_time", "superseding")
"""Fields of an assessment that say nothing of how it was computed."""
_WHOLES = ("reduction_mg", "uncapped_mg", "cap_used_before", "low_mg", "high_mg")
_TEXTS = ("methodology_version", "methodology_digest", "scene", "asset", "result_digest")
FIELDS = (
    *UNCOMPUTED, *_WHOLES, *_TEXTS, "verdict", "civil_date", "measures", "steps", "caps",
    "history", "labels", "region_code", "evidence_grade",
)  # fmt: skip
STEP_FIELDS = tuple(field.name for field in fields(Step))
VERDICTS = {
    "VERDICT_UNSPECIFIED": 0,
    **{f"VERDICT_{verdict.name}": verdict.value for verdict in Verdict},
}
EVIDENCE_GRADES = {
    "EVIDENCE_GRADE_UNSPECIFIED": 0,
    **{f"EVIDENCE_GRADE_{name.upper()}": code for name, code in GRADES.items()},
}
WHOLE_ANSWER = (
    "give the whole answer of GetAssessment or EstimateReduction as JSON, as it was received"
)

_WHOLE = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_EXACT = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40}|/[1-9][0-9]{0,39})?", re.ASCII)
_REGION = re.compile(r"([0-9]{6})?", re.ASCII)


class ResultUnreadable(Exception):
    """A result that cannot be verified at all; the text says why and how to mend it."""


@dataclass(frozen=True)
class Said:
    """What a result says of itself, as the fields of Assessment; a field that is absent is
    zero or empty. `uncomputed` names what it says beside and no file can confirm."""

    methodology_version: str
    methodology_digest: str
    verdict: int
    reduction_mg: int
    uncapped_mg: int
    day: int | None
    scene: str
    measures: Mapping[str, int]
    cap_used_before: int
    steps: tuple[Step, ...]
    caps: tuple[tuple[str, int], ...]
    history: Mapping[str, str]
    labels: Mapping[str, str]
    region: int
    grade: int
    low_mg: int
    high_mg: int
    asset: str
    result_digest: str
    uncomputed: tuple[str, ...]


def read_result(text: str) -> Said:
    """The assessment in the JSON of an Assessment, or of an answer that carries one.

    Field names may be those of the contract or lowerCamelCase. ResultUnreadable for anything
    that protobuf's JSON mapping would not write.
    """
    root = _parsed(text)
    if isinstance(root, dict) and root.keys() == {"assessment"}:
        root = root["assessment"]
    found = _fields(root, FIELDS, "the result")
    plain: dict[str, Any] = {name: _whole(found.get(name, 0), name) for name in _WHOLES}
    plain |= {name: _text(found.get(name, ""), name) for name in _TEXTS}
    region = _text(found.get("region_code", ""), "region_code")
    if not _REGION.fullmatch(region):
        raise ResultUnreadable(f"region_code is {region[:40]!r}; it has six digits or is empty")
    return Said(
        **plain,
        verdict=_word(found.get("verdict", 0), "verdict", VERDICTS),
        grade=_word(found.get("evidence_grade", 0), "evidence_grade", EVIDENCE_GRADES),
        day=_day(found["civil_date"]) if "civil_date" in found else None,
        measures=_map(found, "measures", _whole),
        labels=_map(found, "labels", _text),
        history=_map(found, "history", _exact),
        region=int(region or 0),
        caps=tuple(_cap(row, where) for row, where in _rows(found, "caps")),
        steps=tuple(_step(row, where) for row, where in _rows(found, "steps")),
        uncomputed=tuple(name for name in UNCOMPUTED if found.get(name)),
    )


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ResultUnreadable(
            f"the result is no JSON: {error.msg}, line {error.lineno}, column {error.colno}; "
            + WHOLE_ANSWER
        ) from None
    except (ValueError, RecursionError) as error:
        raise ResultUnreadable(f"the result is no assessment: {error}; {WHOLE_ANSWER}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a name that stands twice would let two readers read two results."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ResultUnreadable(f"{twice[:64]!r} stands twice in one object; {WHOLE_ANSWER}")
    return found


def _fields(value: Any, names: Collection[str], where: str) -> dict[str, Any]:
    """The fields that are there, by their names in the contract; null is an absent one."""
    if not isinstance(value, dict):
        raise ResultUnreadable(f"{where} is {_shown(value)} and no JSON object; {WHOLE_ANSWER}")
    spellings = {_camel(name): name for name in names} | {name: name for name in names}
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = spellings.get(key)
        if name is None:
            raise ResultUnreadable(
                f"{where} has {key[:64]!r}, which this release does not know and would not check; "
                f"verify it with the release that wrote it, or {WHOLE_ANSWER}"
            )
        if name in found:
            raise ResultUnreadable(f"{where} has {name} twice, spelt in two ways; {WHOLE_ANSWER}")
        found[name] = item
    return {name: item for name, item in found.items() if item is not None}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _rows(found: Mapping[str, Any], name: str) -> list[tuple[Any, str]]:
    """The items of a list, each with the words that say where it stands."""
    rows = found.get(name, [])
    if not isinstance(rows, list):
        raise ResultUnreadable(f"{name} is {_shown(rows)} and no JSON list; {WHOLE_ANSWER}")
    return [(row, f"{name}[{place}]") for place, row in enumerate(rows)]


def _map(
    found: Mapping[str, Any], name: str, read: Callable[[Any, str], Value]
) -> dict[str, Value]:
    items = found.get(name, {})
    if not isinstance(items, dict):
        raise ResultUnreadable(f"{name} is {_shown(items)} and no JSON object; {WHOLE_ANSWER}")
    return {key: read(item, f"{name}.{key[:64]}") for key, item in items.items()}


def _step(row: Any, where: str) -> Step:
    found = _fields(row, STEP_FIELDS, where)
    return Step(**{name: _text(found.get(name, ""), f"{where}.{name}") for name in STEP_FIELDS})


def _cap(row: Any, where: str) -> tuple[str, int]:
    found = _fields(row, ("cap", "used_before"), where)
    return (
        _text(found.get("cap", ""), f"{where}.cap"),
        _whole(found.get("used_before", 0), f"{where}.used_before"),
    )


def _day(value: Any) -> int:
    found = _fields(value, ("year", "month", "day"), "civil_date")
    year, month, day = (_whole(found.get(name, 0), name) for name in ("year", "month", "day"))
    try:
        return date_to_day(date(year, month, day))
    except (ValueError, OverflowError):
        raise ResultUnreadable(
            f"civil_date is {year}-{month}-{day}, which is no day; {WHOLE_ANSWER}"
        ) from None


def _whole(value: Any, where: str) -> int:
    """A whole number of 64 bits; protobuf's JSON writes it in quotes."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    raise ResultUnreadable(
        f'{where} is {_shown(value)}; it is a whole number of 64 bits such as "101640"'
    )


def _text(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    raise ResultUnreadable(f"{where} is {_shown(value)}; it is text in quotes")


def _exact(value: Any, where: str) -> str:
    if isinstance(value, str) and _EXACT.fullmatch(value):
        return value
    raise ResultUnreadable(
        f'{where} is {_shown(value)}; it is exact decimal text such as "11200.5", or p/q'
    )


def _word(value: Any, where: str, words: Mapping[str, int]) -> int:
    if isinstance(value, str) and value in words:
        return words[value]
    if isinstance(value, int) and not isinstance(value, bool) and value in words.values():
        return value
    raise ResultUnreadable(f"{where} is {_shown(value)}; it is one of {', '.join(words)}")


def _shown(value: Any) -> str:
    """A value of the file as it may be printed: short, and without control characters."""
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
