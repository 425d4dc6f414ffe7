"""Between the contract's messages and the calculators' types; no rule is decided here."""

from __future__ import annotations

from carbonaccount.calculation.v1 import assessment_service_pb2 as assessment_pb
from carbonaccount.calculation.v1 import footprint_service_pb2 as pb

from services.calculation.domain.explain import Step
from services.calculation.domain.footprint import Comparison, Difference, Footprint, FootprintLine
from services.calculation.domain.questionnaire import Average, Named, Question, Questionnaire
from services.calculation.domain.rates import Interval, Note
from services.calculation.rpc.messages import read_region
from services.calculation.usecases.estimate_footprint import FootprintQuestion


def read_footprint(request: pb.EstimateFootprintRequest) -> FootprintQuestion:
    """What is asked."""
    return FootprintQuestion(
        version=request.questionnaire_version,
        answers=dict(request.answers),
        household_size=request.household_size,
        region=read_region(request.region_code),
        grid_year=request.grid_year,
    )


def write_questionnaire(questionnaire: Questionnaire) -> pb.GetQuestionnaireResponse:
    """The questions, and what a result is held against."""
    return pb.GetQuestionnaireResponse(
        version=questionnaire.version,
        title_zh=questionnaire.title_zh,
        title_en=questionnaire.title_en,
        coverage_zh=questionnaire.coverage_zh,
        coverage_en=questionnaire.coverage_en,
        categories=[pb.FootprintCategory(**vars(named)) for named in questionnaire.categories],
        questions=[_question(question) for question in questionnaire.questions.values()],
        averages=[_average(average) for average in questionnaire.averages],
    )


def write_footprint(footprint: Footprint) -> pb.AnnualFootprint:
    """A year with its working."""
    return pb.AnnualFootprint(
        questionnaire_version=footprint.version,
        emission_mg=footprint.emission_mg,
        interval=write_interval(footprint.interval),
        categories=[write_total(named, total) for named, total in footprint.by_category],
        lines=[_line(line) for line in footprint.lines],
        unanswered=footprint.unanswered,
        comparison=_comparison(footprint.comparison),
        notes=write_notes(footprint.notes),
    )


def write_difference(difference: Difference) -> pb.CompareFootprintsResponse:
    """Two years and what lies between them."""
    return pb.CompareFootprintsResponse(
        base=write_footprint(difference.base),
        changed=write_footprint(difference.changed),
        difference_mg=difference.difference_mg,
        categories=[
            pb.CompareFootprintsResponse.CategoryDifference(
                category=named.key, base_mg=before, changed_mg=after, difference_mg=after - before
            )
            for named, before, after in difference.by_category
        ],
    )


def write_total(named: Named, emission_mg: int) -> pb.CategoryTotal:
    """What a category comes to."""
    return pb.CategoryTotal(
        category=named.key, label_zh=named.label_zh, label_en=named.label_en,
        emission_mg=emission_mg,
    )  # fmt: skip


def write_interval(interval: Interval | None) -> pb.Interval | None:
    """An interval; None where there is none."""
    if interval is None:
        return None
    return pb.Interval(
        low_mg=interval.low_mg, high_mg=interval.high_mg,
        meaning_zh=interval.meaning.zh, meaning_en=interval.meaning.en,
    )  # fmt: skip


def write_notes(notes: tuple[Note, ...]) -> list[pb.Note]:
    """What the reader must know."""
    return [pb.Note(text_zh=note.zh, text_en=note.en) for note in notes]


def write_steps(steps: tuple[Step, ...]) -> list[assessment_pb.Step]:
    """The working, in order."""
    return [assessment_pb.Step(**vars(step)) for step in steps]


def _line(line: FootprintLine) -> pb.FootprintLine:
    version = line.priced.version
    return pb.FootprintLine(
        key=line.line.key,
        category=line.line.category,
        label_zh=line.line.label_zh,
        label_en=line.line.label_en,
        emission_mg=line.emission_mg,
        interval=write_interval(line.interval),
        gas_scope=version.gas_scope,
        status=line.priced.status,
        methodology_version=version.name,
        methodology_digest=version.digest,
        formula_zh=line.formula.zh,
        formula_en=line.formula.en,
        steps=write_steps(line.steps),
        notes=write_notes(line.notes),
    )


def _question(question: Question) -> pb.Question:
    return pb.Question(
        key=question.key,
        category=question.category,
        text_zh=question.text_zh,
        text_en=question.text_en,
        unit=question.unit,
        shown_unit_zh=question.shown_zh,
        shown_unit_en=question.shown_en,
        shown_unit_size=question.shown_size,
        min=question.min,
        max=question.max,
        period=question.period.key,
        times_a_year=question.period.times,
    )


def _average(average: Average) -> pb.FootprintAverage:
    return pb.FootprintAverage(
        label_zh=average.label_zh,
        label_en=average.label_en,
        emission_mg=average.emission_mg,
        year=average.year,
        source=average.source,
        status=average.status,
        scope_zh=average.scope_zh,
        scope_en=average.scope_en,
    )


def _comparison(comparison: Comparison | None) -> pb.FootprintComparison | None:
    if comparison is None:
        return None
    return pb.FootprintComparison(
        average=_average(comparison.average), difference_mg=comparison.difference_mg
    )
