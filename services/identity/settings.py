"""Settings of identity; CARBONACCOUNT_IDENTITY_<NAME> in the environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.service import ServiceSettings


@dataclass(frozen=True)
class Settings(ServiceSettings):
    """What identity is told."""

    # A change by another worker may wait so long: far inside the bound within which consents bite.
    poll_ms: int = field(default=50, metadata={"min": 1, "max": 1000})
    heartbeat_ms: int = field(default=100, metadata={"min": 10, "max": 1000})
    # What new personal values are sealed with; those sealed before open under either.
    cipher: str = field(default="aes-256-gcm", metadata={"choices": ("aes-256-gcm", "sm4-gcm")})
    # The file of the bank's public keys (JWKS), by which its tickets are verified; without it a
    # development double takes the bank's place, and says so.
    bank_keys: str = ""
    # The `iss` of its tickets.
    bank_issuer: str = ""
