"""Settings of settlement; CARBONACCOUNT_SETTLEMENT_<NAME> in the environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.service import ServiceSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    """What settlement is told."""

    identity_address: str = field(metadata={"help": "set it to the address of identity"})
    calculation_address: str = field(metadata={"help": "set it to the address of calculation"})
    run_acts_max: int = field(default=16_000, metadata={"min": 1, "max": 1_000_000})
    commit_transfers_max: int = field(default=10_000, metadata={"min": 1, "max": 100_000})
    waiting_transfers_max: int = field(default=100_000, metadata={"min": 5000, "max": 10**7})
    linger_ms: int = field(default=2, metadata={"min": 0, "max": 100})
    audit_interval_ms: int = field(default=50, metadata={"min": 1, "max": 3_600_000})
