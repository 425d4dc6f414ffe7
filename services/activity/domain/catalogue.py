"""Scenes and sources: what may be reported, and by whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

MEASURES_MAX = 2
LABEL_VALUES_MAX = 64
CLAIMS = ("none", "reference", "account_reference")
NAMES_RIDERS_BY = ("account", "subject")
_LABEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Short, so that all 64 words of a label fit into one refusal.
_LABEL_WORD = re.compile(r"(?=.{1,32}\Z)[a-z0-9]+(?:[-_][a-z0-9]+)*")


class CatalogueInvalid(Exception):
    """A catalogue file breaks a rule; the text names the entry and the rule."""


@dataclass(frozen=True)
class Measure:
    """One whole number of an activity: `min` <= value <= `max`, in base units of `unit`."""

    name: str
    unit: str
    min: int
    max: int
    required: bool


@dataclass(frozen=True)
class Label:
    """One word of an activity out of `values`; facts carry its place in them, from 1."""

    name: str
    values: tuple[str, ...]
    required: bool

    @cached_property
    def codes(self) -> Mapping[str, int]:
        """What facts carry for each word."""
        return {word: code for code, word in enumerate(self.values, 1)}


@dataclass(frozen=True)
class Scene:
    """One kind of low-carbon behaviour; `code` is what facts carry."""

    code: int
    name: str
    title_zh: str
    title_en: str
    category: str
    consent_scope: str
    scope_code: int
    claim: str
    measures: tuple[Measure, ...]
    label: Label | None = None

    def labels_of(self, code: int) -> dict[str, str]:
        """The labels of an activity whose fact carries `code`, by name; none for 0."""
        return {self.label.name: self.label.values[code - 1]} if self.label and code else {}


@dataclass(frozen=True)
class Source:
    """A system that reports; `scenes` are those that it may report.

    `names_riders_by` is "account" for a system of the bank, which knows it, and "subject" for a
    partner, which names its own user and never learns the account.
    """

    code: int
    name: str
    title: str
    scenes: frozenset[str]
    names_riders_by: str

    @property
    def by_subject(self) -> bool:
        """Whether reports name a subject and no account."""
        return self.names_riders_by == "subject"


@dataclass(frozen=True)
class Catalogue:
    """Every scene and source, by name and by code."""

    scenes: Mapping[str, Scene]
    sources: Mapping[str, Source]
    scope_codes: Mapping[str, int]

    def scene_of_code(self, code: int) -> Scene:
        """The scene that facts call `code`; KeyError when there is none."""
        return next(scene for scene in self.scenes.values() if scene.code == code)

    def source_of_code(self, code: int) -> Source:
        """The source that facts call `code`; StopIteration when there is none."""
        return next(source for source in self.sources.values() if source.code == code)


def read_catalogue(scenes: Mapping[str, Any], sources: Mapping[str, Any]) -> Catalogue:
    """The catalogue of two parsed files; raises CatalogueInvalid."""
    scope_codes: dict[str, int] = scenes["scope_codes"]
    by_name = {row["name"]: _scene(row, scope_codes) for row in scenes["scene"]}
    sources_by_name = {row["name"]: _source(row, by_name) for row in sources["source"]}
    for things, rows in ((by_name, scenes["scene"]), (sources_by_name, sources["source"])):
        codes = {thing.code for thing in things.values()}
        if len(things) != len(rows) or len(codes) != len(rows):
            raise CatalogueInvalid("two entries share a name or a code; each needs its own")
    return Catalogue(by_name, sources_by_name, scope_codes)


def _scene(row: Mapping[str, Any], scope_codes: Mapping[str, int]) -> Scene:
    measures = tuple(Measure(**measure) for measure in row["measures"])
    if not 1 <= len(measures) <= MEASURES_MAX:
        raise CatalogueInvalid(f"{row['name']} has {len(measures)} measures; 1 to 2 are kept")
    if row["claim"] not in CLAIMS:
        raise CatalogueInvalid(f"{row['name']} has claim {row['claim']!r}; one of {CLAIMS}")
    if row["consent_scope"] not in scope_codes:
        raise CatalogueInvalid(f"{row['name']} asks for {row['consent_scope']}, which has no code")
    scope_code = scope_codes[row["consent_scope"]]
    label = _label(row["name"], row["label"]) if "label" in row else None
    return Scene(**{**row, "measures": measures, "label": label}, scope_code=scope_code)


def _label(scene: str, row: Mapping[str, Any]) -> Label:
    if set(row) != {"name", "values", "required"} or type(row["required"]) is not bool:
        raise CatalogueInvalid(
            f"the label of {scene} has {sorted(row)}; write name, values, and required as true "
            "or false"
        )
    name, values = row["name"], row["values"]
    if not _is(_LABEL_NAME, name):
        raise CatalogueInvalid(f"label {name!r} of {scene}: use lower-case letters, digits and _")
    if not (isinstance(values, list) and 1 <= len(values) <= LABEL_VALUES_MAX):
        raise CatalogueInvalid(
            f"label {name} of {scene} needs a list of values, 1 to {LABEL_VALUES_MAX}"
        )
    for place, word in enumerate(values):
        if not _is(_LABEL_WORD, word) or word in values[:place]:
            raise CatalogueInvalid(
                f"label {name} of {scene} has value {word!r}; each is another lower-case word of "
                "at most 32 characters, such as petrol or plug-in"
            )
    return Label(name, tuple(values), row["required"])


def _is(rule: re.Pattern[str], text: object) -> bool:
    return isinstance(text, str) and rule.fullmatch(text) is not None


def _source(row: Mapping[str, Any], scenes: Mapping[str, Scene]) -> Source:
    unknown = set(row["scenes"]) - set(scenes)
    if unknown:
        raise CatalogueInvalid(f"{row['name']} may report {sorted(unknown)}, which are no scenes")
    if row.get("names_riders_by") not in NAMES_RIDERS_BY:
        raise CatalogueInvalid(
            f"{row['name']} has names_riders_by {row.get('names_riders_by')!r}; write "
            '"account" for a system of the bank and "subject" for a partner'
        )
    return Source(
        row["code"], row["name"], row["title"], frozenset(row["scenes"]), row["names_riders_by"]
    )
