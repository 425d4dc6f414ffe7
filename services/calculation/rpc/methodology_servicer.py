"""MethodologyService: the library as it was loaded at start."""

from __future__ import annotations

from typing import Any

from carbonaccount.calculation.v1 import methodology_service_pb2 as pb
from carbonaccount.calculation.v1 import methodology_service_pb2_grpc as pb_grpc

from services.calculation.domain.library import Library
from services.calculation.rpc import messages
from shared.refusal import ResourceNotFound


class MethodologyServicer(pb_grpc.MethodologyServiceServicer):
    """Shows methodologies."""

    def __init__(self, library: Library) -> None:
        self._shown = {
            f"methodologies/{name}": messages.write_methodology(methodology)
            for name, methodology in sorted(library.methodologies.items())
        }

    async def ListMethodologies(
        self, request: pb.ListMethodologiesRequest, context: Any
    ) -> pb.ListMethodologiesResponse:
        """Every methodology, by name."""
        return pb.ListMethodologiesResponse(methodologies=self._shown.values())

    async def GetMethodology(
        self, request: pb.GetMethodologyRequest, context: Any
    ) -> pb.GetMethodologyResponse:
        """One methodology."""
        shown = self._shown.get(request.name)
        if shown is None:
            raise ResourceNotFound(request.name, f"the library has {', '.join(self._shown)}")
        return pb.GetMethodologyResponse(methodology=shown)
