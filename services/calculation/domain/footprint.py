"""The annual footprint of one person: answers in, lines and sums in milligrams out.

Each line is exact until its end: the rule's value, times how often, divided by how many, and
then rounded up once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction

from services.calculation.domain.explain import Step, decimal_text
from services.calculation.domain.questionnaire import (
    HOUSEHOLD,
    HOUSEHOLD_MAX,
    Average,
    Line,
    Named,
    Question,
    Questionnaire,
)
from services.calculation.domain.rates import (
    Interval,
    Note,
    Priced,
    Where,
    price,
    rounding_step,
    summed,
)
from services.calculation.domain.wording import step
from shared.refusal import FieldInvalid


@dataclass(frozen=True)
class FootprintLine:
    """One number of a result; `steps` ends with the milligrams of the line."""

    line: Line
    emission_mg: int
    interval: Interval | None
    priced: Priced
    formula: Note
    steps: tuple[Step, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Comparison:
    """A result held against an average."""

    average: Average
    difference_mg: int


@dataclass(frozen=True)
class Footprint:
    """A year of one person by what was answered; `by_category` is in the questionnaire's order."""

    version: str
    lines: tuple[FootprintLine, ...]
    emission_mg: int
    interval: Interval | None
    by_category: tuple[tuple[Named, int], ...]
    unanswered: tuple[str, ...]
    comparison: Comparison | None
    notes: tuple[Note, ...]


_SUMMED = Note(
    "各项区间之和；没有区间的项按其数值计入。",
    "The sum of the lines' intervals; a line without one is taken as it is.",
)


def estimate_footprint(
    questionnaire: Questionnaire,
    answers: Mapping[str, int],
    *,
    where: Where,
    household_size: int = 1,
) -> Footprint:
    """What the answers come to in a year.

    FieldInvalid for an answer to no question or outside its range, for a count without its
    distance or the other way round, and where nothing was answered that a line could count.
    """
    _check_answers(questionnaire, answers)
    if not 1 <= household_size <= HOUSEHOLD_MAX:
        raise FieldInvalid(
            "household_size",
            f"household_size is {household_size}; it must be 1 to {HOUSEHOLD_MAX}",
        )
    lines = tuple(
        _priced_line(questionnaire, line, answers, where, household_size)
        for line in questionnaire.lines
        if _is_answered(questionnaire, line, answers)
    )
    if not lines:
        raise FieldInvalid(
            "answers", "answers has nothing that can be counted; answer at least one question "
            "with a number, GetQuestionnaire lists them",
        )  # fmt: skip
    total = sum(line.emission_mg for line in lines)
    comparison, why_not = _compared(questionnaire, lines, total)
    return Footprint(
        version=questionnaire.version,
        lines=lines,
        emission_mg=total,
        interval=summed([(line.emission_mg, line.interval) for line in lines], _SUMMED),
        by_category=tuple(
            (category, sum(x.emission_mg for x in lines if x.line.category == category.key))
            for category in questionnaire.categories
        ),
        unanswered=tuple(key for key in questionnaire.questions if key not in answers),
        comparison=comparison,
        notes=(Note(questionnaire.coverage_zh, questionnaire.coverage_en), *why_not),
    )


def _check_answers(questionnaire: Questionnaire, answers: Mapping[str, int]) -> None:
    for key, value in sorted(answers.items()):
        question = questionnaire.questions.get(key)
        if question is None:
            near = get_close_matches(key, list(questionnaire.questions), n=1, cutoff=0)
            raise FieldInvalid(
                f"answers.{key[:64]}",
                f"answers has {key[:64]!r}, which is no question; the nearest is {near[0]}, and "
                "GetQuestionnaire lists all",
            )
        if not question.min <= value <= question.max:
            raise FieldInvalid(
                f"answers.{key}",
                f"{key} is {value} {question.unit}; the question takes {question.min} to "
                f"{question.max} {question.unit} {question.period.label_en} ({_shown(question)})",
            )


def _shown(question: Question) -> str:
    most = decimal_text(Fraction(question.max, question.shown_size))
    return f"at most {most} {question.shown_en}"


def _is_answered(questionnaire: Questionnaire, line: Line, answers: Mapping[str, int]) -> bool:
    missing = [key for key in line.asks if key not in answers]
    if missing and len(missing) < len(line.asks):
        given = next(key for key in line.asks if key in answers)
        # None of them is no flight at all, however far it would have been.
        if given == line.count and answers[given] == 0:
            return False
        raise FieldInvalid(
            f"answers.{missing[0]}",
            f"{given} is answered and {missing[0]} is not; {line.label_en} needs both: "
            f"{questionnaire.questions[missing[0]].text_en}",
        )
    return not missing


def _priced_line(
    questionnaire: Questionnaire,
    line: Line,
    answers: Mapping[str, int],
    where: Where,
    household_size: int,
) -> FootprintLine:
    measures = {name: answers[key] for name, key in line.measures.items()}
    priced = price(line.rate, measures, where)
    steps, notes, words = list(priced.steps), list(priced.notes), [priced.formula.zh]
    words_en, share = [priced.formula.en], Fraction(1)
    for key in line.asks:
        question = questionnaire.questions[key]
        if key == line.count:
            share *= answers[key]
            steps.append(_count_step(question, answers[key]))
            words.append(f"× {answers[key]} {question.shown_zh}")
            words_en.append(f"x {answers[key]} {question.shown_en}")
        share *= question.period.times
        if question.period.times > 1:
            steps.append(_period_step(question))
            words.append(f"× {question.period.times}（{question.period.label_zh}）")
            words_en.append(f"x {question.period.times} ({question.period.label_en})")
    persons, told = _persons(questionnaire, line, answers, household_size)
    notes += told
    if line.divide:
        share /= persons
        steps.append(_persons_step(persons))
        words.append(f"÷ {persons} 人")
        words_en.append(f"/ {persons} persons")
    exact = priced.exact * share
    steps.append(rounding_step(priced.exact, share, exact))
    return FootprintLine(
        line=line,
        emission_mg=math.ceil(exact),
        interval=priced.interval(line.rate.meaning, share),
        priced=priced,
        formula=Note(" ".join(words), " ".join(words_en)),
        steps=tuple(steps),
        notes=tuple(notes),
    )


def _persons(
    questionnaire: Questionnaire, line: Line, answers: Mapping[str, int], household_size: int
) -> tuple[int, list[Note]]:
    if line.divide in ("", HOUSEHOLD):
        return household_size, []
    if line.divide in answers:
        return answers[line.divide], []
    question = questionnaire.questions[line.divide]
    return 1, [
        Note(f"“{question.text_zh}”没有回答，按 1 人计。",
             f"“{question.text_en}” is not answered; 1 is taken.")
    ]  # fmt: skip


def _count_step(question: Question, value: int) -> Step:
    return step(question.text_zh, question.text_en, question.key, str(value), "count")


def _period_step(question: Question) -> Step:
    period = question.period
    return step(
        f"{period.label_zh}，一年计 {period.times} 次",
        f"{period.label_en}, {period.times} times a year",
        period.key, str(period.times), "", period.source, "", period.status,
    )  # fmt: skip


def _persons_step(persons: int) -> Step:
    return step("分摊人数", "persons who share it", "persons", str(persons), "")


def _compared(
    questionnaire: Questionnaire, lines: Sequence[FootprintLine], total: int
) -> tuple[Comparison | None, list[Note]]:
    if not questionnaire.averages:
        return None, []
    answered = {line.line.category for line in lines}
    missing = [c for c in questionnaire.categories
               if c.key in questionnaire.compare_needs and c.key not in answered]  # fmt: skip
    if missing:
        names_zh = "、".join(c.label_zh for c in missing)
        names_en = ", ".join(c.label_en for c in missing)
        return None, [
            Note(f"未与平均值比较：{names_zh}没有回答。",
                 f"Not held against an average: nothing is answered under {names_en}.")
        ]  # fmt: skip
    average = questionnaire.averages[0]
    return Comparison(average, total - average.emission_mg), []


@dataclass(frozen=True)
class Difference:
    """What changed answers do; `by_category` has (category, before, after)."""

    base: Footprint
    changed: Footprint
    by_category: tuple[tuple[Named, int, int], ...]

    @property
    def difference_mg(self) -> int:
        """After less before; below zero where the changes emit less."""
        return self.changed.emission_mg - self.base.emission_mg


def compare_footprints(
    questionnaire: Questionnaire,
    answers: Mapping[str, int],
    changes: Mapping[str, int],
    *,
    where: Where,
    household_size: int = 1,
) -> Difference:
    """The answers as they are and with `changes` in their place; FieldInvalid as for one."""
    if not changes:
        raise FieldInvalid("changes", "changes is empty; name at least one question and its new "
                           "answer")  # fmt: skip
    base, changed = (
        estimate_footprint(questionnaire, own, where=where, household_size=household_size)
        for own in (answers, {**answers, **changes})
    )
    return Difference(
        base, changed,
        tuple(
            (category, before, after)
            for (category, before), (_, after) in zip(
                base.by_category, changed.by_category, strict=True
            )
        ),
    )  # fmt: skip
