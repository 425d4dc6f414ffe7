"""Settings of calculation; CARBONACCOUNT_CALCULATION_<NAME> in the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from shared.service import ServiceSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    """What calculation is told."""

    identity_address: str = field(metadata={"help": "set it to the address of identity"})
    activity_address: str = field(metadata={"help": "set it to the address of activity"})
    programme: str = "demo"
    restate_reason_zh: str = ""
    restate_reason_en: str = ""
    methodologies_dir: Path = field(
        default=Path(__file__).parent / "methodologies",
        metadata={"help": "set it to a directory of methodology files"},
    )
    run_acts_max: int = field(default=16_000, metadata={"min": 1, "max": 1_000_000})
