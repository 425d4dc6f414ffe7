"""Rules that leave something behind for each other are evaluated in record order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from services.calculation.domain.assess import _stretches


def rules(*keys: str) -> list[Any]:
    return [(SimpleNamespace(memory_keys=frozenset(some)), 0) for some in keys]


def stretches(order: list[int], *keys: str) -> list[list[int]]:
    return [rows.tolist() for rows in _stretches(np.array(order), rules(*keys))]


def test_rules_without_a_common_key_are_each_evaluated_at_once() -> None:
    assert stretches([0, 1, 0, 1], "a", "b") == [[0, 2], [1, 3]]
    assert stretches([0, -1, 0], "") == [[0, 2]]


def test_rules_with_a_common_key_take_turns() -> None:
    assert stretches([0, 1, 0, 0], "a", "a") == [[0], [1], [2, 3]]


def test_what_is_joined_by_one_rule_stays_joined_for_the_next() -> None:
    # The second shares a key with the first alone, the third with the first alone.
    assert stretches([0, 1, 2, 0], "ac", "a", "c") == [[0], [1], [2], [3]]
