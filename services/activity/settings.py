"""Settings of activity; CARBONACCOUNT_ACTIVITY_<NAME> in the environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.service import ServiceSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    """What activity is told."""

    identity_address: str = field(metadata={"help": "set it to the address of identity"})
    consent_staleness_max_ms: int = field(default=1500, metadata={"min": 200, "max": 2000})
    commit_acts_max: int = field(default=4000, metadata={"min": 1, "max": 32_000})
    waiting_acts_max: int = field(default=100_000, metadata={"min": 5000, "max": 10**7})
    linger_ms: int = field(default=25, metadata={"min": 0, "max": 100})
    window_appends: int = field(default=16, metadata={"min": 1, "max": 256})
