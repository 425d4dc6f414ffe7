"""The JSON Schema of the format takes every file that loads, and none that is broken in shape."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from copy import deepcopy
from datetime import date
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from services.calculation.domain.library import LibraryInvalid, load_library
from tests.calculation.domain.random_rules import random_file
from tests.calculation.domain.world import SHIPPED, TESTSET, files_of, registry

SCHEMA = json.loads((SHIPPED / "schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
FILES = files_of(SHIPPED, TESTSET)


def document_of(text: str) -> Any:
    """A TOML file as JSON has it: dates as their text."""

    def plain(value: Any) -> Any:
        match value:
            case dict():
                return {key: plain(inner) for key, inner in value.items()}
            case list():
                return [plain(inner) for inner in value]
            case date():
                return value.isoformat()
        return value

    return plain(tomllib.loads(text))


def faults(document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(document)]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", FILES)
def test_every_file_of_the_library_and_the_test_set_has_the_shape(path: str) -> None:
    assert faults(document_of(FILES[path])) == []


def test_random_files_that_load_have_the_shape() -> None:
    assert [faults(document_of(random_file(seed))) for seed in range(40)] == [[]] * 40


def rule(document: Any) -> Any:
    return document["version"][0]["rule"][0]


def put(*path: str | int, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        here = document
        for step in path[:-1]:
            here = here[step]
        here[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        here = document
        for step in path[:-1]:
            here = here[step]
        del here[path[-1]]

    return change


def twice(*path: str | int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        here = document
        for step in path:
            here = here[step]
        here.append(deepcopy(here[0]))

    return change


RULE = ("version", 0, "rule", 0)
BROKEN: dict[str, tuple[str, Callable[[Any], None]]] = {
    "no id": ("hello-2022", drop("id")),
    "id in capitals": ("hello-2022", put("id", value="Hello")),
    "unknown gas": ("hello-2022", put("gas_scope", value="CH4")),
    "unknown asset": ("hello-2022", put("asset", value="money")),
    "blank title": ("hello-2022", put("title_zh", value=" ")),
    "unknown key": ("hello-2022", put("titel", value="x")),
    "unknown key of a version": ("hello-2022", put("version", 0, "cap_per_day", value=1)),
    "unknown key of a rule": ("hello-2022", put(*RULE, "conditions", value=[])),
    "no publisher": ("hello-2022", drop("document", "publisher")),
    "no version": ("hello-2022", put("version", value=[])),
    "no rule": ("hello-2022", put("version", 0, "rule", value=[])),
    "date of another shape": ("hello-2022", put("version", 0, "effective_date", value="2022-7")),
    "draft that is no text": ("hello-2022", put("version", 0, "draft", value=True)),
    "rounding up": ("hello-2022", put("version", 0, "rounding", value="ceiling")),
    "emission rounded down": ("emission", put("version", 0, "rounding", value="floor")),
    "below zero, otherwise": ("history-counts", put("version", 0, "below_zero", value="yes")),
    "no scene": ("hello-2022", put(*RULE, "scenes", value=[])),
    "scene twice": ("hello-2022", twice(*RULE, "scenes")),
    "scene in capitals": ("hello-2022", put(*RULE, "scenes", value=["Ride"])),
    "long formula": ("hello-2022", put(*RULE, "formula", value="x" * 501)),
    "blank formula": ("hello-2022", put(*RULE, "formula", value="\n")),
    "credit high": ("uncertain-low", put(*RULE, "credit", value="high")),
    "no measure": ("hello-2022", put(*RULE, "measure", value=[])),
    "measure in km": ("hello-2022", put(*RULE, "measure", 0, "unit", value="km")),
    "measure named otherwise": ("hello-2022", put(*RULE, "measure", 0, "name", value="distance")),
    "range in floats": ("hello-2022", put(*RULE, "measure", 0, "max", value=0.5)),
    "range too wide": ("hello-2022", put(*RULE, "measure", 0, "max", value=2**53 + 1)),
    "float value": ("hello-2022", put(*RULE, "factor", 0, "value", value=33.88)),
    "exponent": ("hello-2022", put(*RULE, "factor", 0, "value", value="3e1")),
    "unknown unit": ("hello-2022", put(*RULE, "factor", 0, "unit", value="g/mile")),
    "no source": ("hello-2022", drop(*RULE, "factor", 0, "source")),
    "unknown status": ("hello-2022", put(*RULE, "factor", 0, "status", value="rumour")),
    "reserved key": ("hello-2022", put(*RULE, "factor", 0, "key", value="min")),
    "low alone": ("uncertain-low", drop(*RULE, "factor", 0, "high")),
    "value beside a table": ("table-fuel", put(*RULE, "factor", 0, "value", value="1")),
    "table without rows": ("table-fuel", put(*RULE, "factor", 0, "row", value=[])),
    "row without its day": ("table-fuel", drop(*RULE, "factor", 0, "row", 0, "from_date")),
    "row with a needless day": (
        "table-fuel",
        put(*RULE, "factor", 1, "row", 0, "from_date", value="2022-01-01"),
    ),
    "row with a needless region": (
        "table-fuel",
        put(*RULE, "factor", 1, "row", 0, "region", value="440000"),
    ),
    "row without status": ("table-fuel", drop(*RULE, "factor", 0, "row", 0, "status")),
    "label of a row as a number": (
        "table-fuel",
        put(*RULE, "factor", 0, "row", 0, "fuel", value=1),
    ),
    "region of four digits": (
        "table-fuel",
        put(*RULE, "factor", 0, "row", 1, "region", value="4403"),
    ),
    "label twice": ("table-fuel", put(*RULE, "label", 0, "values", value=["a", "a"])),
    "65 labels": (
        "table-fuel",
        put(*RULE, "label", 0, "values", value=[f"{n}" for n in range(65)]),
    ),
    "quotation with a value": ("quoted-grid", put(*RULE, "factor", 0, "value", value="1")),
    "quotation by label": ("quoted-grid", put(*RULE, "factor", 0, "by", value=["fuel"])),
    "quotation without a day": ("quoted-grid", drop(*RULE, "factor", 0, "as_of")),
    "region said twice": ("quoted-grid", put(*RULE, "factor", 0, "region", value="440000")),
    "two histories": ("history-household", twice(*RULE, "history")),
    "a history of 32 days": ("history-household", put(*RULE, "history", 0, "days", value=32)),
    "two caps of one window": ("day-count", twice(*RULE, "cap")),
    "cap a week": ("day-count", put(*RULE, "cap", 0, "window", value="week")),
    "negative cap": ("day-count", put(*RULE, "cap", 0, "amount", value=-1)),
    "acts of one act": ("day-count", put(*RULE, "cap", 0, "window", value="act")),
    "grade twice": ("day-distance", twice(*RULE, "grade")),
    "share above one": ("day-distance", put(*RULE, "grade", 0, "share", value="1.5")),
    "unknown grade": ("day-distance", put(*RULE, "grade", 0, "grade", value="sworn")),
    "condition without label": ("day-count", drop(*RULE, "condition", 0, "label_zh")),
    "no case": ("hello-2022", put(*RULE, "case", value=[])),
    "case without an answer": ("hello-2022", drop(*RULE, "case", 0, "expected_mg")),
    "case in points of a reduction": (
        "hello-2022",
        lambda document: rule(document)["case"][0].update(
            expected_point=rule(document)["case"][0].pop("expected_mg")
        ),
    ),
    "case in floats": ("hello-2022", put(*RULE, "case", 0, "measures", value={"x": 0.5})),
    "no entry": ("programmes/demo", put("entry", value=[])),
    "entry without a day": ("programmes/demo", drop("entry", 0, "from_date")),
    "entry of four digits": ("programmes/demo", put("entry", 0, "region", value="4403")),
    "an approval that does not say demo": (
        "programmes/demo",
        put("entry", 0, "scene_approval", value="none"),
    ),
    "demo as text": ("programmes/demo", put("demo", value="true")),
    "unknown key of an entry": ("programmes/demo", put("entry", 0, "scheme", value="x")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_broken_in_shape_does_not_satisfy_the_schema(name: str) -> None:
    path, change = BROKEN[name]
    document = document_of(FILES[f"{path}.toml"])
    assert faults(document) == []
    change(document)
    assert faults(document), name


@pytest.mark.parametrize("name", BROKEN)
def test_the_loader_refuses_what_the_schema_refuses(name: str) -> None:
    # The schema is a help for editors; it is not the stricter of the two by accident.
    path, change = BROKEN[name]
    document = document_of(FILES[f"{path}.toml"])
    whole = toml_of(document)
    change(document)
    files = {"hello-2022.toml": FILES["hello-2022.toml"]} if "/" in path else {}
    files |= {f: FILES[f] for f in FILES if "/" in path and f.count("/") == 0}
    assert load_library({**files, f"{path}.toml": whole}, registry())
    with pytest.raises(LibraryInvalid):
        load_library({**files, f"{path}.toml": toml_of(document)}, registry())


DAYS = {"effective_date", "end_date", "from_date", "to_date", "as_of", "day"}


def toml_of(document: dict[str, Any]) -> str:
    """The document as TOML again, each key of the file on its line."""
    return "".join(f"{key} = {_inline(value)}\n" for key, value in document.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        inside = (
            f"{key} = {inner if key in DAYS else _inline(inner)}" for key, inner in value.items()
        )
        return f"{{ {', '.join(inside)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return json.dumps(value)
