"""What tests of calculation may ask for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.storage.embedded import EmbeddedPostgres
from shared.storage.migrate import migrate

if TYPE_CHECKING:  # this file may be read before there are stubs of the contract
    from tests.calculation.life_world import Life


@pytest.fixture(scope="module")
def life_url(postgres: EmbeddedPostgres) -> str:
    """A database for the tests of one file: to make one takes longer than most of them."""
    from services.calculation.wiring import MIGRATIONS

    name = f"life_{uuid.uuid4().hex}"
    postgres.create_database(name)
    migrate(postgres.url(name), MIGRATIONS)
    return postgres.url(name)


@pytest.fixture
def life(life_url: str, tmp_path: Path) -> Iterator[Life]:
    """Calculation behind a server, with made-up methodologies and nothing recorded."""
    from tests.calculation.life_world import living

    with living(life_url, tmp_path) as life:
        yield life
