"""The annual questionnaire as data: what is asked, and which rule prices each answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.calculation.domain.methodology import Library, Version
from services.calculation.domain.rate_parts import read_rate
from services.calculation.domain.rates import Rate
from services.calculation.domain.reading import Section
from services.calculation.domain.rule import STATUSES
from services.calculation.domain.units import MEASURE_UNITS

HOUSEHOLD = "household"
_TIMES_MAX = 366
_ANSWER_MAX = 2**53  # what JSON carries exactly
_LINE_MAX_MG = 2**53  # 9,007 tonnes; 128 lines of it still fit into 64 bits
_LINES_MAX = 128
YEAR_MIN, YEAR_MAX = 1990, 2100
HOUSEHOLD_MAX = 20

_Part = TypeVar("_Part", "Named", "Period", "Question", "Line")


@dataclass(frozen=True)
class Named:
    """A key with what to call it."""

    key: str
    label_zh: str
    label_en: str


@dataclass(frozen=True)
class Period:
    """How often an answer is counted in a year."""

    key: str
    times: int
    label_zh: str
    label_en: str
    source: str
    status: str


@dataclass(frozen=True)
class Question:
    """One question; answers are whole numbers from `min` to `max` in `unit`.

    `shown_size` of these make one of the unit that people read.
    """

    key: str
    category: str
    text_zh: str
    text_en: str
    unit: str
    shown_zh: str
    shown_en: str
    shown_size: int
    min: int
    max: int
    period: Period


@dataclass(frozen=True)
class Line:
    """What one rule makes of answers: measures, times a count, divided by persons.

    `measures` names a question for each measure of the rule; `count` is a question or "";
    `divide` is a question, "household" or "".
    """

    key: str
    category: str
    label_zh: str
    label_en: str
    rate: Rate
    measures: Mapping[str, str]
    count: str
    divide: str

    @property
    def asks(self) -> tuple[str, ...]:
        """The questions without which it cannot be computed."""
        return (*self.measures.values(), *([self.count] if self.count else []))


@dataclass(frozen=True)
class Average:
    """An average that a result may be held against, and what it covers."""

    key: str
    label_zh: str
    label_en: str
    emission_mg: int
    year: int
    source: str
    status: str
    scope_zh: str
    scope_en: str


@dataclass(frozen=True)
class QuestionCase:
    """Answers and what they must come to; run at every start."""

    id: str
    day: int
    region: int
    grid_year: int
    household_size: int
    answers: Mapping[str, int]
    expected_mg: int


@dataclass(frozen=True)
class Questionnaire:
    """The annual footprint: questions and lines, in order."""

    version: str
    title_zh: str
    title_en: str
    coverage_zh: str
    coverage_en: str
    compare_needs: tuple[str, ...]
    categories: tuple[Named, ...]
    questions: Mapping[str, Question]
    lines: tuple[Line, ...]
    averages: tuple[Average, ...]


def read_questionnaire(
    root: Section, library: Library
) -> tuple[Questionnaire, list[tuple[Section, QuestionCase]]]:
    """The questionnaire of a file and its cases, which are still to be run; raises FileInvalid."""
    periods = _keyed(root, "period", [_period(row) for row in root.sections("period", 1)])
    categories = _keyed(root, "category", [read_named(row) for row in root.sections("category", 1)])
    questions = _keyed(
        root, "question",
        [_question(row, categories, periods) for row in root.sections("question", 1)],
    )  # fmt: skip
    rows = root.sections("line", 1)
    lines = _keyed(root, "line", [_line(row, library, categories, questions) for row in rows])
    if len(lines) > _LINES_MAX:
        raise root.fault(f"there are {len(lines)} lines; at most {_LINES_MAX} may be", "line")
    _check_asked(root, questions, tuple(lines.values()))
    needs = root.texts("compare_needs", [])
    if unknown := set(needs) - set(categories):
        raise root.fault(f"compare_needs has {min(unknown)[:40]!r}, which is no category",
                         "compare_needs")  # fmt: skip
    questionnaire = Questionnaire(
        version=root.text("version"),
        title_zh=root.text("title_zh"), title_en=root.text("title_en"),
        coverage_zh=root.text("coverage_zh"), coverage_en=root.text("coverage_en"),
        compare_needs=tuple(needs), categories=tuple(categories.values()), questions=questions,
        lines=tuple(lines.values()),
        averages=tuple(_average(row) for row in root.sections("average")),
    )  # fmt: skip
    cases = [(row, _case(row)) for row in root.sections("case", 1)]
    root.text("id")
    root.close()
    return questionnaire, cases


def read_named(row: Section) -> Named:
    """A key with its labels, and nothing else."""
    named = Named(row.text("key"), row.text("label_zh"), row.text("label_en"))
    row.close()
    return named


def _keyed(root: Section, kind: str, parts: Sequence[_Part]) -> dict[str, _Part]:
    keyed: dict[str, _Part] = {}
    for row, part in zip(root.sections(kind), parts, strict=True):
        if part.key in keyed:
            raise row.fault(f"key {part.key[:60]!r} is there twice; rename one", "key")
        keyed[part.key] = part
    return keyed


def _period(row: Section) -> Period:
    period = Period(
        row.text("key"), row.whole("times", 1, _TIMES_MAX), row.text("label_zh"),
        row.text("label_en"), row.text("source"), row.choice("status", STATUSES),
    )  # fmt: skip
    row.close()
    return period


def _question(row: Section, categories: Collection[str], periods: Mapping[str, Period]) -> Question:
    low = row.whole("min", 0, _ANSWER_MAX)
    question = Question(
        key=row.text("key"),
        category=row.choice("category", categories),
        text_zh=row.text("text_zh"), text_en=row.text("text_en"),
        unit=row.choice("unit", MEASURE_UNITS),
        shown_zh=row.text("shown_zh"), shown_en=row.text("shown_en"),
        shown_size=row.whole("shown_size", 1, _ANSWER_MAX),
        min=low, max=row.whole("max", low, _ANSWER_MAX),
        period=periods[row.choice("period", tuple(periods))],
    )  # fmt: skip
    row.close()
    return question


def _line(
    row: Section,
    library: Library,
    categories: Collection[str],
    questions: Mapping[str, Question],
) -> Line:
    line = Line(
        key=row.text("key"),
        category=row.choice("category", categories),
        label_zh=row.text("label_zh"), label_en=row.text("label_en"),
        rate=read_rate(row, library, row.words("labels")),
        measures=row.words("measures"),
        count=row.choice("count", ("", *questions), ""),
        divide=row.choice("divide", ("", HOUSEHOLD, *questions), ""),
    )  # fmt: skip
    row.close()
    for version in line.rate.methodology.versions:
        if line.rate.scene in version.scenes:
            _check_measures(row, line, version, questions)
    counts = [line.count, line.divide if line.divide != HOUSEHOLD else ""]
    for key, part in zip(counts, ("count", "divide"), strict=True):
        if key and questions[key].unit != "count":
            raise row.fault(f"{part} is {key}, which is asked in {questions[key].unit}; it must be "
                            "asked in count", part)  # fmt: skip
    if line.divide not in ("", HOUSEHOLD) and questions[line.divide].min < 1:
        raise row.fault(f"{line.divide} can be 0, and nothing is divided by 0; give it min = 1",
                        "divide")  # fmt: skip
    return line


def _check_measures(
    row: Section, line: Line, version: Version, questions: Mapping[str, Question]
) -> None:
    """Every answer that the question accepts is one that the rule accepts."""
    if set(line.measures) != {measure.name for measure in version.measures}:
        names = ", ".join(measure.name for measure in version.measures)
        raise row.fault(f"measures must be exactly those of {version.name}: {names}", "measures")
    for measure in version.measures:
        question = questions.get(line.measures[measure.name])
        if question is None:
            raise row.fault(f"{measure.name} names {line.measures[measure.name][:60]!r}, which is "
                            "no question", "measures")  # fmt: skip
        if question.unit != measure.unit:
            raise row.fault(f"{question.key} is asked in {question.unit} and {measure.name} is in "
                            f"{measure.unit}", "measures")  # fmt: skip
        if question.min < measure.min or question.max > measure.max:
            raise row.fault(
                f"{question.key} goes from {question.min} to {question.max}, and {version.name} "
                f"takes {measure.min} to {measure.max}; narrow the question", "measures",
            )  # fmt: skip
    # Bounds proved for the whole range of the rule, which holds that of the questions.
    most = max(abs(version.result.low), abs(version.result.high))
    most *= questions[line.count].max if line.count else 1
    for key in line.asks:
        most *= questions[key].period.times
    if most > _LINE_MAX_MG:
        raise row.fault(f"{line.key} can pass {_LINE_MAX_MG} mg a year; narrow the range of its "
                        "count, or of the rule", "measures")  # fmt: skip


def _check_asked(root: Section, questions: Mapping[str, Question], lines: Sequence[Line]) -> None:
    used = {key for line in lines for key in (*line.asks, line.divide)}
    for row, key in zip(root.sections("question"), questions, strict=True):
        if key not in used:
            raise row.fault(f"no line reads the answer of {key}; add one or take it away", "key")


def _average(row: Section) -> Average:
    average = Average(
        key=row.text("key"), label_zh=row.text("label_zh"), label_en=row.text("label_en"),
        emission_mg=row.whole("emission_mg", 1, _LINE_MAX_MG),
        year=row.whole("year", YEAR_MIN, YEAR_MAX), source=row.text("source"),
        status=row.choice("status", STATUSES),
        scope_zh=row.text("scope_zh"), scope_en=row.text("scope_en"),
    )  # fmt: skip
    row.close()
    return average


def _case(row: Section) -> QuestionCase:
    region = row.text("region", "")
    case = QuestionCase(
        id=row.text("id"), day=row.day("day") or 0, region=int(region) if region else 0,
        grid_year=row.whole("grid_year", 0, YEAR_MAX, 0),
        household_size=row.whole("household_size", 1, HOUSEHOLD_MAX, 1),
        answers=row.wholes("answers"), expected_mg=row.whole("expected_mg", 0, 2**62),
    )  # fmt: skip
    row.text("source")
    row.close()
    return case
