"""FootprintService over a real server: callers without a token, every answer explained."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from carbonaccount.calculation.v1 import footprint_service_pb2 as pb
from carbonaccount.calculation.v1 import footprint_service_pb2_grpc as pb_grpc
from google.type import date_pb2

from services.calculation.rpc.footprint_servicer import FootprintServicer
from shared.ids import DAY_US
from shared.rpc.server import Server
from shared.rpc.status import reason_of
from shared.rpc.tokens import VERIFYING_FILE, TokenVerifier, load_or_make_key
from tests.calculation.calculators_world import TODAY, shelf

Ask = Callable[[Any], Awaitable[Any]]
DATE = date_pb2.Date(year=2026, month=1, day=15)


@asynccontextmanager
async def served(keys: Path) -> AsyncIterator[Any]:
    """The servicer behind the suite's own server; callers have no token."""
    load_or_make_key(keys)
    server = Server("127.0.0.1:0", verifier=TokenVerifier(keys / VERIFYING_FILE), grace_ms=200)
    servicer = FootprintServicer(shelf(), lambda: TODAY * DAY_US)
    server.add(pb_grpc.add_FootprintServiceServicer_to_server, servicer)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        try:
            yield pb_grpc.FootprintServiceStub(channel)
        finally:
            await server.stop()


def answer(keys: Path, ask: Ask) -> Any:
    async def run() -> Any:
        async with served(keys) as stub:
            return await ask(stub)

    return asyncio.run(run())


def refusal(keys: Path, ask: Ask) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answer(keys, ask)
    return str(reason_of(caught.value)), caught.value.details() or ""


def estimated(keys: Path, **asked: Any) -> Any:
    request = pb.EstimateFootprintRequest(**asked)
    return answer(keys, lambda stub: stub.EstimateFootprint(request, timeout=10)).footprint


def test_the_questionnaire_has_questions_in_both_languages_and_the_average(tmp_path: Path) -> None:
    asked = answer(tmp_path, lambda stub: stub.GetQuestionnaire(pb.GetQuestionnaireRequest()))
    assert asked.version == shelf().calculators.questionnaire.version
    assert len(asked.questions) == 50
    electricity = next(question for question in asked.questions if question.key == "electricity")
    assert (electricity.unit, electricity.shown_unit_en, electricity.shown_unit_size) == (
        "watt_hour", "kWh", 1000,
    )  # fmt: skip
    assert (electricity.period, electricity.times_a_year) == ("month", 12)
    assert asked.averages[0].emission_mg == 4_200_000_000


def test_a_year_comes_with_its_lines_and_their_working(tmp_path: Path) -> None:
    footprint = estimated(
        tmp_path, answers={"electricity": 300_000, "petrol-car-distance": 100_000},
        household_size=3, region_code="440300", grid_year=2023,
    )  # fmt: skip
    electricity, car = footprint.lines
    assert electricity.emission_mg == 530_280_000
    assert footprint.emission_mg == electricity.emission_mg + car.emission_mg
    assert electricity.methodology_version == "methodologies/grid-year-cn/versions/2"
    assert len(electricity.methodology_digest) == 64
    assert electricity.gas_scope == "CO2"
    assert [step.status for step in electricity.steps if step.source] == ["secondary", "decision"]
    assert not electricity.HasField("interval")
    assert (car.interval.low_mg, car.interval.high_mg) == (747_240_000, 1_398_020_000)
    assert not footprint.HasField("comparison")


def test_zero_persons_and_year_mean_one_and_this_one(tmp_path: Path) -> None:
    footprint = estimated(tmp_path, answers={"electricity": 1000})
    assert footprint.emission_mg == 12 * 530_600
    assert any("there is none for 2026" in note.text_en for note in footprint.lines[0].notes)


def test_a_what_if_names_the_difference_of_every_category(tmp_path: Path) -> None:
    request = pb.CompareFootprintsRequest(
        base=pb.EstimateFootprintRequest(
            answers={"petrol-car-distance": 100_000, "metro-distance": 0}
        ),
        changes={"petrol-car-distance": 60_000, "metro-distance": 40_000},
    )
    found = answer(tmp_path, lambda stub: stub.CompareFootprints(request, timeout=10))
    assert found.difference_mg == found.changed.emission_mg - found.base.emission_mg < 0
    assert sum(one.difference_mg for one in found.categories) == found.difference_mg
    assert [one.category for one in found.categories if one.difference_mg] == ["transport"]


def test_payments_are_answered_in_order_and_by_month(tmp_path: Path) -> None:
    request = pb.EstimateSpendingRequest(
        items=[
            pb.SpendingItem(merchant_code="5812", amount_fen=10_000, civil_date=DATE),
            pb.SpendingItem(category="clothing", amount_fen=5_000, civil_date=DATE),
            pb.SpendingItem(merchant_code="5541", amount_fen=30_000, civil_date=DATE),
        ]
    )
    found = answer(tmp_path, lambda stub: stub.EstimateSpending(request, timeout=10))
    assert [item.category for item in found.items] == ["restaurants", "clothing", "fuel"]
    assert [item.left_out for item in found.items] == [False, False, True]
    assert found.months[0].emission_mg == sum(item.emission_mg for item in found.items)
    assert found.months[0].left_out_fen == 30_000
    assert [one.key for one in found.categories] == ["restaurants", "clothing", "fuel"]
    assert found.categories[0].uncertainty_en.startswith("Not given by the source")
    assert "burning" in found.categories[2].left_out_en
    assert found.methodology_version == "methodologies/calculators-spending/versions/1"


def test_every_kind_of_merchant_is_listed_with_its_yuan(tmp_path: Path) -> None:
    request = pb.ListSpendingCategoriesRequest()
    found = answer(tmp_path, lambda stub: stub.ListSpendingCategories(request, timeout=10))
    assert len(found.categories) == 54
    assert all(bool(one.left_out_en) != bool(one.emission_mg_per_yuan) for one in found.categories)


def test_a_trip_is_compared_with_credits_where_it_is_made(tmp_path: Path) -> None:
    request = pb.CompareTripsRequest(distance_metre=5_000, region_code="440300", car_person_count=2)
    found = answer(tmp_path, lambda stub: stub.CompareTrips(request, timeout=10))
    assert found.modes[0].key == "walk"
    emissions = [one.emission_mg for one in found.modes]
    assert emissions == sorted(emissions)
    metro = next(one for one in found.modes if one.key == "metro")
    credited = [one for one in metro.credits if one.programme]
    assert [(one.reduction_mg, one.programme) for one in credited] == [(233_500, "programmes/demo")]
    assert "flight" in {one.key for one in found.left_out}


def test_a_full_batch_of_payments_is_answered_and_one_more_is_refused(tmp_path: Path) -> None:
    item = pb.SpendingItem(merchant_code="5812", amount_fen=10_000, civil_date=DATE)
    full = pb.EstimateSpendingRequest(items=[item] * 1000)
    found = answer(tmp_path, lambda stub: stub.EstimateSpending(full, timeout=10))
    assert len(found.items) == 1000
    over = pb.EstimateSpendingRequest(items=[item] * 1001)
    reason, message = refusal(tmp_path, lambda stub: stub.EstimateSpending(over, timeout=10))
    assert reason == "LIMIT_REACHED"
    assert "items" in message


WRONG: dict[str, tuple[Ask, str, str]] = {
    "answer outside its range": (
        lambda stub: stub.EstimateFootprint(
            pb.EstimateFootprintRequest(answers={"rice": 30_001}), timeout=10
        ),
        "rice is 30001 gram",
        "0 to 30000",
    ),
    "no answers": (
        lambda stub: stub.EstimateFootprint(pb.EstimateFootprintRequest(), timeout=10),
        "answers",
        "",
    ),
    "another questionnaire": (
        lambda stub: stub.EstimateFootprint(
            pb.EstimateFootprintRequest(questionnaire_version="1999", answers={"rice": 1}),
            timeout=10,
        ),
        "questionnaire_version is '1999'",
        "read GetQuestionnaire again",
    ),
    "region of five digits": (
        lambda stub: stub.EstimateFootprint(
            pb.EstimateFootprintRequest(region_code="44030", answers={"rice": 1}), timeout=10
        ),
        "region_code is '44030'",
        "six digits",
    ),
    "a year after every year": (
        lambda stub: stub.EstimateFootprint(
            pb.EstimateFootprintRequest(grid_year=2101, answers={"rice": 1}), timeout=10
        ),
        "grid_year is 2101",
        "1990 to 2100",
    ),
    "a household below zero": (
        lambda stub: stub.EstimateFootprint(
            pb.EstimateFootprintRequest(household_size=-1, answers={"rice": 1}), timeout=10
        ),
        "household_size is -1",
        "1 to 20",
    ),
    "a payment on no day": (
        lambda stub: stub.EstimateSpending(
            pb.EstimateSpendingRequest(
                items=[
                    pb.SpendingItem(
                        category="books", amount_fen=1,
                        civil_date=date_pb2.Date(year=2026, month=2, day=30),
                    )
                ]
            ),
            timeout=10,
        ),
        "items[0].civil_date is 2026-2-30",
        "no date",
    ),
    "a payment to nobody": (
        lambda stub: stub.EstimateSpending(
            pb.EstimateSpendingRequest(items=[pb.SpendingItem(amount_fen=1, civil_date=DATE)]),
            timeout=10,
        ),
        "items[0] names no merchant",
        "set category or merchant_code",
    ),
    "a trip of nothing": (
        lambda stub: stub.CompareTrips(pb.CompareTripsRequest(), timeout=10),
        "distance_metre",
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_question_that_cannot_be_answered_says_what_to_write(tmp_path: Path, case: str) -> None:
    ask, value, rule = WRONG[case]
    reason, message = refusal(tmp_path, ask)
    assert reason == "FIELD_INVALID"
    assert value in message
    assert rule in message
