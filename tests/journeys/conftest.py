from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.launch.layout import Layout
from shared.storage.embedded import EmbeddedPostgres
from tests.suite import running_suite


@pytest.fixture(scope="module")
def suite(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """One running suite for the tests of a module; each test uses accounts of its own."""
    var: Path = tmp_path_factory.mktemp("var")
    with running_suite(postgres, var) as supervisor:
        yield supervisor.layout
