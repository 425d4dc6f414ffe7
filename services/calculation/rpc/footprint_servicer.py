"""FootprintService: reads, calls, writes."""

from __future__ import annotations

import asyncio
from typing import Any

from carbonaccount.calculation.v1 import footprint_service_pb2 as pb
from carbonaccount.calculation.v1 import footprint_service_pb2_grpc as pb_grpc

from services.calculation.domain.trips import compare_trips
from services.calculation.rpc import calculator_messages, footprint_messages
from services.calculation.storage.shelf import Shelf
from services.calculation.usecases import estimate_footprint, estimate_spending
from shared.clock import ClockUs
from shared.ids import civil_day


class FootprintServicer(pb_grpc.FootprintServiceServicer):
    """The calculators; nothing is kept."""

    def __init__(self, shelf: Shelf, clock: ClockUs) -> None:
        self._shelf = shelf
        self._clock = clock

    async def GetQuestionnaire(
        self, request: pb.GetQuestionnaireRequest, context: Any
    ) -> pb.GetQuestionnaireResponse:
        """The questions of the annual footprint."""
        return footprint_messages.write_questionnaire(self._shelf.calculators.questionnaire)

    async def EstimateFootprint(
        self, request: pb.EstimateFootprintRequest, context: Any
    ) -> pb.EstimateFootprintResponse:
        """A year from answers."""
        asked = footprint_messages.read_footprint(request)
        footprint = estimate_footprint.estimate(
            asked, self._shelf.calculators.questionnaire, self._today()
        )
        return pb.EstimateFootprintResponse(footprint=footprint_messages.write_footprint(footprint))

    async def CompareFootprints(
        self, request: pb.CompareFootprintsRequest, context: Any
    ) -> pb.CompareFootprintsResponse:
        """What changed answers would change."""
        asked = footprint_messages.read_footprint(request.base)
        difference = estimate_footprint.compare(
            asked, dict(request.changes), self._shelf.calculators.questionnaire, self._today()
        )
        return footprint_messages.write_difference(difference)

    async def ListSpendingCategories(
        self, request: pb.ListSpendingCategoriesRequest, context: Any
    ) -> pb.ListSpendingCategoriesResponse:
        """Every kind of merchant with its working."""
        spending = self._shelf.calculators.spending
        rates = estimate_spending.list_categories(spending, self._today())
        version = spending.version_for(self._today()).name
        return calculator_messages.write_categories(rates, spending, version)

    async def EstimateSpending(
        self, request: pb.EstimateSpendingRequest, context: Any
    ) -> pb.EstimateSpendingResponse:
        """Payments one by one and by month."""
        payments = calculator_messages.read_payments(request)
        spending = self._shelf.calculators.spending
        # A thousand payments take a tenth of a second, in which nobody else should wait.
        answer = await asyncio.to_thread(
            estimate_spending.estimate, payments, spending, self._today()
        )
        return calculator_messages.write_spending(answer, spending)

    async def CompareTrips(
        self, request: pb.CompareTripsRequest, context: Any
    ) -> pb.CompareTripsResponse:
        """One distance by every mode, the least emission first."""
        comparison = compare_trips(
            self._shelf.calculators.trips,
            request.distance_metre,
            where=calculator_messages.read_where(request, self._today()),
            persons=request.car_person_count or 1,
            library=self._shelf.library,
            programme=self._shelf.programme,
        )
        return calculator_messages.write_trips(comparison, self._shelf.calculators.trips)

    def _today(self) -> int:
        return civil_day(self._clock())
