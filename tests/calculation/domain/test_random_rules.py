"""Rules that nobody would write are evaluated exactly too, or refused before they serve."""

from __future__ import annotations

import pytest

from services.calculation.domain.library import LibraryInvalid, load_library
from services.calculation.domain.methodology import Version
from tests.calculation.domain.drawn import random_columns
from tests.calculation.domain.oracle import oracles
from tests.calculation.domain.random_rules import NAME, random_file
from tests.calculation.domain.world import (
    DictStore,
    difference,
    differing,
    evaluate_columns,
    outcomes_of,
)

SEEDS = range(200)
REFUSED = ("can pass 2**6", "this is always", "reads no measure", "shorten it to")


def loaded(seed: int) -> tuple[Version, str] | None:
    """The rule of a random file and its text; None for a file that is refused for a good reason."""
    text = random_file(seed)
    try:
        library = load_library({f"{NAME}.toml": text})
    except LibraryInvalid as refused:
        (fault,) = refused.faults
        assert any(words in fault.message for words in REFUSED), fault
        return None
    return library.methodologies[NAME].versions[0], text


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_rule_is_refused_or_earns_what_the_independent_reader_says(seed: int) -> None:
    found = loaded(seed)
    if found is None:
        return
    version, text = found
    (oracle,) = oracles(text)
    columns = random_columns(version, 300, seed, accounts=5)
    ours = evaluate_columns(version, columns, DictStore())
    wrong = differing(version, ours, outcomes_of(oracle.afresh(), version, columns))
    assert not wrong, difference(version, oracle, columns, wrong[0])


def test_most_random_rules_load_and_every_part_of_the_format_is_among_them() -> None:
    versions = [found[0] for seed in range(60) if (found := loaded(seed))]
    assert len(versions) > 30
    assert any(version.histories for version in versions)
    assert any(version.credits_low and version.factors[0].uncertain for version in versions)
    assert any(len(version.caps) == 3 for version in versions)
    assert any(version.below_zero_counts for version in versions)
    assert any(version.conditions for version in versions)
    assert any(factor.table for version in versions for factor in version.factors)
    assert {version.result.fits_int64 for version in versions} == {True, False}
