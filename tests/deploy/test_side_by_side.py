"""What the side by side with OpenFisca promises apart from its figures."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy.bench.engine import DAY, Ints, Rides
from deploy.bench.openfisca import CALLS, NEAR_RULE, Ours, make_rides
from deploy.bench.openfisca_env import LOCK, RULE, NotMeasured, last_line, made_python
from services.calculation.domain.evaluate import NothingUsed, evaluate
from services.calculation.domain.library import load_library

PARAMETERS = RULE.with_name("openfisca_parameters") / "metro"


def earned_of(metre: Ints, account: Ints, day: Ints) -> list[int]:
    """Milligrams of rides under the rule that both sides have, with nothing used before."""
    version = load_library({"bench-metro.toml": NEAR_RULE}).version_on("bench-metro", DAY)
    assert version is not None
    evaluated = evaluate(
        version, {"distance_metre": metre}, accounts=account, days=day, caps_used=NothingUsed()
    )
    told: list[int] = evaluated.credited.tolist()
    return told


def earned(*metres: int) -> list[int]:
    """The same of one account on one day."""
    count = len(metres)
    return earned_of(np.array(metres), np.zeros(count, np.int64), np.full(count, DAY))


def test_the_rule_counts_twenty_kilometres_and_not_one_metre_more() -> None:
    assert earned(20_000) == [934_000]
    assert earned(20_001) == [934_000]
    assert earned(19_999) == [933_953]


def test_the_rule_credits_two_rides_a_day_and_not_a_third() -> None:
    assert earned(10, 11, 12) == [467, 513, 0]


@pytest.mark.parametrize(
    ("name", "value"), [("g_per_km", "46.7"), ("longest_metre", "20000"), ("rides_a_day", "2")]
)
def test_the_other_side_has_the_same_numbers_dated_and_with_a_unit(name: str, value: str) -> None:
    text = (PARAMETERS / f"{name}.yaml").read_text()
    assert re.search(rf"^  2022-01-01:\n    value: {re.escape(value)}$", text, re.M)
    assert re.search(r"^  unit: \S+$", text, re.M)


def test_runs_earn_what_all_at_once_earns_because_the_cap_remembers() -> None:
    rides = make_rides(3_000)
    assert rides.distance_metre.min() >= 1, "a ride of nothing asks no cap here and one there"
    ours = Ours(rides)
    at_once = ours.vector(trace=True, run_acts=3_000)["total_mg"]
    assert ours.vector(trace=False, run_acts=7)["total_mg"] == at_once


def test_runs_whose_cap_forgets_earn_more() -> None:
    rides = make_rides(3_000)
    halves = [
        Rides(rides.distance_metre[half], rides.account[half], rides.day[half], [])
        for half in (slice(0, 1_500), slice(1_500, 3_000))
    ]
    apart = sum(sum(earned_of(half.distance_metre, half.account, half.day)) for half in halves)
    assert apart > sum(earned_of(rides.distance_metre, rides.account, rides.day))


def test_one_act_a_call_earns_the_same_with_and_without_working() -> None:
    ours = Ours(make_rides(3_000))
    assert ours.scalar()["calls"] == CALLS
    assert ours.scalar()["total_mg"] == ours.scalar_exact()["total_mg"] > 0


def test_the_lock_of_the_bench_holds_hashes_and_no_address() -> None:
    text = LOCK.read_text()
    assert "://" not in text
    pins = re.findall(r"^([\w.\[\]-]+==\S+).*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.M)
    assert len(pins) == len(re.findall(r"^[\w.\[\]-]+", text, re.M)) > 0
    assert any(pin.startswith("openfisca-core==") for pin in pins)


def test_our_own_locks_know_nothing_of_openfisca() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        assert "openfisca" not in (LOCK.parents[2] / name).read_text().lower()


def test_an_environment_that_cannot_be_made_is_said_and_tried_again(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("this is no requirement\n")
    with pytest.raises(NotMeasured, match="could not be installed"):
        made_python(tmp_path / "home", lock)
    assert not (tmp_path / "home" / "env" / "lock.sha256").exists()


def test_an_environment_of_this_lock_is_taken_as_it_is(tmp_path: Path) -> None:
    made, lock = tmp_path / "env", tmp_path / "lock"
    (made / "bin").mkdir(parents=True)
    (made / "bin" / "python").symlink_to(sys.executable)
    lock.write_text("this is no requirement\n")
    (made / "lock.sha256").write_text(hashlib.sha256(lock.read_bytes()).hexdigest())
    assert made_python(tmp_path, lock) == made / "bin" / "python"


@pytest.mark.parametrize(
    ("said", "shown"),
    [("first\nlast \n\n", "last"), ("", "it said nothing"), ("x" * 400, "x" * 300)],
)
def test_the_last_words_are_the_last_line_that_says_something(said: str, shown: str) -> None:
    assert last_line(said) == shown
