"""A running identity service for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from family_world import Clock
from identity_house import House, served, settings_for


@pytest.fixture
def clock() -> Clock:
    """The service's clock, for tests that move it."""
    return Clock()


@pytest.fixture
def house(database_url: str, tmp_path: Path, clock: Clock) -> Iterator[House]:
    with served(settings_for(database_url, tmp_path), clock) as running:
        yield running
