"""SceneService and SourceService: the catalogue as it was read at start."""

from __future__ import annotations

from typing import Any

from carbonaccount.activity.v1 import scene_service_pb2 as scene_pb
from carbonaccount.activity.v1 import scene_service_pb2_grpc as scene_grpc
from carbonaccount.activity.v1 import source_service_pb2 as source_pb
from carbonaccount.activity.v1 import source_service_pb2_grpc as source_grpc

from services.activity.domain.catalogue import Catalogue
from services.activity.rpc import messages


class SceneServicer(scene_grpc.SceneServiceServicer):
    """Shows the scenes."""

    def __init__(self, catalogue: Catalogue) -> None:
        scenes = [messages.write_scene(scene) for _, scene in sorted(catalogue.scenes.items())]
        self._response = scene_pb.ListScenesResponse(scenes=scenes)

    async def ListScenes(
        self, request: scene_pb.ListScenesRequest, context: Any
    ) -> scene_pb.ListScenesResponse:
        """Every scene, by name."""
        return self._response


class SourceServicer(source_grpc.SourceServiceServicer):
    """Shows the sources."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._response = source_pb.ListSourcesResponse(sources=messages.write_sources(catalogue))

    async def ListSources(
        self, request: source_pb.ListSourcesRequest, context: Any
    ) -> source_pb.ListSourcesResponse:
        """Every source, by name."""
        return self._response
