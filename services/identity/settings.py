"""Settings of identity; CARBONACCOUNT_IDENTITY_<NAME> in the environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.service import ServiceSettings


@dataclass(frozen=True)
class Settings(ServiceSettings):
    """What identity is told."""

    heartbeat_ms: int = field(default=100, metadata={"min": 10, "max": 1000})
