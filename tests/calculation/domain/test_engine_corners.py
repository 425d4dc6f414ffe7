"""Small rules in which the evaluator once came to something else than the independent reader."""

from __future__ import annotations

import pytest

from services.calculation.domain.library import load_library
from tests.calculation.domain.drawn import random_columns
from tests.calculation.domain.oracle import oracles
from tests.calculation.domain.random_rules import HEAD, NAME, NAMED, SCENE, TOLD
from tests.calculation.domain.world import (
    DictStore,
    difference,
    differing,
    evaluate_columns,
    faults_of,
    outcomes_of,
)


def head(formula: str, credit: str = "") -> str:
    marks = {"@asset": "reduction", "@rounding": "floor", "@below": "", "@formula": formula}
    text = HEAD.replace("@credit", credit)
    for mark, value in marks.items():
        text = text.replace(mark, value)
    return text


def measure(name: str = "distance_metre", high: int = 1_000) -> str:
    return (
        f'[[version.rule.measure]]\nname = "{name}"\nunit = "metre"\nmin = 0\nmax = {high}\n{NAMED}'
    )


def factor(key: str, value: str, unit: str, low: str = "", high: str = "") -> str:
    ends = f'low = "{low}"\nhigh = "{high}"\n' if low else ""
    text = f'[[version.rule.factor]]\nkey = "{key}"\nvalue = "{value}"\nunit = "{unit}"\n'
    return f"{text}{ends}{NAMED}{TOLD}"


def case(expected: int, *names: str, labels: str = "") -> str:
    zeros = ", ".join(f"{name} = 0" for name in names or ("distance_metre",))
    text = f'[[version.rule.case]]\nid = "zero"\nsource = "arithmetic"\nmeasures = {{ {zeros} }}\n'
    return f"{text}{labels}expected_mg = {expected}\n"


PAST = f"""[[version.rule.history]]
name = "own_metre"
of = "distance_metre"
days = 3
days_least = 1
{NAMED}{TOLD}"""

CORNERS = {
    # Constants alone stand in both branches, so their column is made of them and of no measure.
    "a choice of constants whose scale passes 64 bits": (
        head("(a if distance_metre > near else b) + (c if distance_metre > near else d)"),
        measure(), factor("near", "5", "metre"), factor("a", "3000001", "g"),
        factor("b", "3000002", "g"), factor("c", "0.000000000000000001", "g"),
        factor("d", "0.000000000000000003", "g"), case(3_000_002_000),
    ),
    "a choice of constants beside a measure that passes 64 bits": (
        head("((1 if distance_metre > near else 2) + distance_metre / near * e * e) * mass"),
        measure(), factor("near", "5", "metre"), factor("e", "0.000000000001", "1"),
        factor("mass", "1", "g"), case(2_000),
    ),
    "a row whose high end alone passes 64 bits": (
        head("min(max(distance_metre, least), most) * mass"),
        measure(), factor("least", "2", "metre"), factor("mass", "1", "mg/metre"),
        '[[version.rule.label]]\nname = "kind"\nvalues = ["one"]\n', NAMED,
        f'[[version.rule.factor]]\nkey = "most"\nunit = "metre"\nby = ["kind"]\n{NAMED}',
        '[[version.rule.factor.row]]\nkind = "one"\nvalue = "7"\nlow = "1"\n'
        f'high = "100000000000.000000001"\n{TOLD}',
        case(2, labels='labels = { kind = "one" }\n'),
    ),
    "an end of zero that decides a branch": (
        head("distance_metre * mass if distance_metre * f < limit else distance_metre * mass / 2",
             'credit = "low"'),
        measure(), factor("mass", "3", "g/km"), factor("f", "1", "1", "0", "2"),
        factor("limit", "500", "metre"), case(0),
    ),
    "an end of zero": (
        head("distance_metre * f", 'credit = "low"'),
        measure(), factor("f", "1", "g/km", "0", "2"), case(0),
    ),
    "a day's sum that passes what one act may bring": (
        head("(own_metre + distance_metre) * mass"),
        measure(), factor("mass", "1", "mg/metre"), PAST, case(0),
    ),
    "an act whose other measure is out of range": (
        head("(own_metre + distance_metre) * mass - walk_metre * mass"),
        measure(), measure("walk_metre", 20), factor("mass", "1", "mg/metre"), PAST,
        case(0, "distance_metre", "walk_metre"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("acts", [1, 2_000])
def test_what_once_differed_is_now_the_same(name: str, acts: int) -> None:
    text = "".join(CORNERS[name])
    version = load_library({f"{NAME}.toml": text}).methodologies[NAME].versions[0]
    (oracle,) = oracles(text)
    columns = random_columns(version, acts, seed=31, accounts=7)
    ours = evaluate_columns(version, columns, DictStore())
    wrong = differing(version, ours, outcomes_of(oracle.afresh(), version, columns))
    assert not wrong, difference(version, oracle, columns, wrong[0])


def test_a_past_of_two_rules_would_be_of_both_their_scenes_and_is_refused() -> None:
    parts = measure(high=10**6), factor("mass", "1", "mg/metre"), PAST, case(0)
    text = head("own_metre * mass + distance_metre * mass") + "".join(parts)
    rule = text[text.index("[[version.rule]]") :].replace(SCENE, f"{SCENE}-too")
    (fault,) = faults_of({f"{NAME}.toml": f"{text}{rule}"})
    assert "give this one a name of its own" in fault.message
