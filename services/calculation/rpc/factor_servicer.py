"""FactorService: the registry as it was loaded at start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonaccount.calculation.v1 import factor_service_pb2 as pb
from carbonaccount.calculation.v1 import factor_service_pb2_grpc as pb_grpc

from services.calculation.domain.factors import Series
from services.calculation.rpc import factor_messages as messages
from services.calculation.usecases.look_up_factor import find_series, look_up_factor
from shared.clock import ClockUs
from shared.ids import civil_day


class FactorServicer(pb_grpc.FactorServiceServicer):
    """Shows emission factors and looks them up."""

    def __init__(self, registry: Mapping[str, Series], clock: ClockUs) -> None:
        self._registry = registry
        self._clock = clock
        self._heads = [messages.write_head(series) for _, series in sorted(registry.items())]

    async def ListFactorSeries(
        self, request: pb.ListFactorSeriesRequest, context: Any
    ) -> pb.ListFactorSeriesResponse:
        """Every series, by name."""
        return pb.ListFactorSeriesResponse(factor_series=self._heads)

    async def GetFactorSeries(
        self, request: pb.GetFactorSeriesRequest, context: Any
    ) -> pb.GetFactorSeriesResponse:
        """One series with all its factors."""
        series = find_series(request.name, self._registry)
        return pb.GetFactorSeriesResponse(factor_series=messages.write_series(series))

    async def LookUpFactor(
        self, request: pb.LookUpFactorRequest, context: Any
    ) -> pb.LookUpFactorResponse:
        """The factor that holds there, by what was known then, and why."""
        question = messages.read_question(request, civil_day(self._clock()))
        return messages.write_found(look_up_factor(question, self._registry))
