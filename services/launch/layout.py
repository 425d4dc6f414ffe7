"""Where a checkout keeps what it runs with, and what each service is told."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.settings import SettingsInvalid

SERVICES = ("identity", "activity", "calculation", "settlement")
"""In the order of the calls: each one calls those before it."""

PORTS = {"identity": 50051, "activity": 50052, "calculation": 50053, "settlement": 50054}
UPSTREAM = {
    "identity": (),
    "activity": ("identity",),
    "calculation": ("activity", "identity"),
    "settlement": ("calculation", "identity"),
}
"""Whom each service calls, by a setting `<name>_address`."""
CHECKOUT = Path(__file__).resolve().parent.parent.parent
_KNOWN = re.compile(f"CARBONACCOUNT_(VAR_DIR|POSTGRES_HOME|({'|'.join(SERVICES).upper()})_.+)")


@dataclass(frozen=True)
class Layout:
    """Directories of one running suite, and the environment it was started with."""

    var: Path
    environment: Mapping[str, str]

    @property
    def keys(self) -> Path:
        """Token keys and secrets."""
        return self.var / "keys"

    @property
    def report(self) -> Path:
        """What the main job found."""
        return self.var / "run" / "report.json"

    @property
    def logs(self) -> Path:
        """A log file for each service."""
        return self.var / "log"

    def listen(self, service: str) -> str:
        """The address of a service."""
        name = f"CARBONACCOUNT_{service.upper()}_LISTEN"
        return self.environment.get(name, f"127.0.0.1:{PORTS[service]}")

    def database_url(self, service: str) -> str | None:
        """The database that the environment names for a service, if it does."""
        return self.environment.get(f"CARBONACCOUNT_{service.upper()}_DATABASE_URL")

    def service_environment(self, service: str, database_url: str) -> dict[str, str]:
        """What a service process is told: the caller's settings, and ours where it set none."""
        prefix = f"CARBONACCOUNT_{service.upper()}_"
        ours = {
            f"{prefix}DATABASE_URL": database_url,
            f"{prefix}LISTEN": self.listen(service),
            f"{prefix}KEYS_DIR": str(self.keys),
        }
        for upstream in UPSTREAM[service]:
            ours[f"{prefix}{upstream.upper()}_ADDRESS"] = self.listen(upstream)
        kept = {n: v for n, v in self.environment.items() if not n.startswith("CARBONACCOUNT_")}
        told = {n: v for n, v in self.environment.items() if n.startswith(prefix)}
        return {**kept, **ours, **told}


def this_checkout() -> Layout:
    """The layout of this checkout; CARBONACCOUNT_VAR_DIR may name another place for its data.

    SettingsInvalid when the environment has a CARBONACCOUNT_ variable that nobody reads.
    """
    for name in sorted(os.environ):
        if name.startswith("CARBONACCOUNT_") and not _KNOWN.fullmatch(name):
            raise SettingsInvalid(
                f"{name} is set and nobody reads it; there are CARBONACCOUNT_VAR_DIR, "
                "CARBONACCOUNT_POSTGRES_HOME and CARBONACCOUNT_<SERVICE>_<SETTING> with "
                f"{', '.join(SERVICES)}"
            )
    named = os.environ.get("CARBONACCOUNT_VAR_DIR")
    return Layout(Path(named).resolve() if named else CHECKOUT / "var", os.environ)
