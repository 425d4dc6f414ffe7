"""A running identity service for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from identity_house import House, served, settings_for


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    with served(settings_for(database_url, tmp_path)) as running:
        yield running
