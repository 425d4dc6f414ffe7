"""Library files of the tests of the library's life, made of few words.

Rides by bike come to reductions; walks come to points of a scheme, at most so many a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from tests.calculation.calculators_world import shelf

BIKE, WALK = "scenes/shared-bike-ride", "scenes/walk"
STEPS = "point:steps"
BIKE_FILE, WALK_FILE, PROGRAMME = "life-bike.toml", "life-walk.toml", "programmes/life.toml"


@dataclass(frozen=True)
class Kind:
    """What the rule of a scene reads, and what its case asks and expects."""

    scene: str
    measure: str
    unit: str
    factor_unit: str
    case_measure: int
    expected: str
    times: int


RIDE = Kind(BIKE, "distance_metre", "metre", "g/km", 1000, "expected_mg", 1000)
STEP = Kind(WALK, "count", "count", "point/count", 1, "expected_point", 1)
STEP_MASS = Kind(WALK, "count", "count", "g/count", 1, "expected_mg", 1000)


def version(
    identity: str,
    begins: str,
    value: str,
    *,
    head: str = "",
    rule: str = "",
    formula: str = "",
    case: str = "",
    kind: Kind = RIDE,
) -> str:
    """A version by which a ride earns so many grams a kilometre.

    `head`, `rule` and `case` are more lines of these tables.
    """
    return f"""
[[version]]
id = "{identity}"
effective_date = {begins}
rounding = "floor"
{head}
[[version.rule]]
scenes = ["{kind.scene}"]
formula = "{formula or kind.measure + " * each"}"

[[version.rule.measure]]
name = "{kind.measure}"
unit = "{kind.unit}"
min = 0
max = 100_000
label_zh = "数量"
label_en = "how much"

[[version.rule.factor]]
key = "each"
value = "{value}"
unit = "{kind.factor_unit}"
source = "this test"
page = ""
status = "operator"
label_zh = "系数"
label_en = "factor"
{rule}
[[version.rule.case]]
id = "one"
measures = {{ {kind.measure} = {kind.case_measure} }}
{kind.expected} = {int(Decimal(value) * kind.times)}
source = "this test"
{case}
"""


def methodology(name: str, *versions: str, asset: str = "reduction") -> str:
    """A methodology's file."""
    head = f"""id = "{name}"
title_zh = "测试"
title_en = "Made up for a test"
gas_scope = "CO2"
asset = "{asset}"

[document]
title = "测试"
publisher = "this test"
date = "2026"
source = "this test"
"""
    return head + "".join(versions)


def cap(window: str, of: str, amount: int, identity: str = "most") -> str:
    """Lines of a cap."""
    return f"""
[[version.rule.cap]]
id = "{identity}"
window = "{window}"
of = "{of}"
amount = {amount}
source = "this test"
status = "decision"
"""


def first(head: str = "") -> str:
    """The version of the bike's rule that ships, with more lines in its head."""
    return version("1", "2025-01-01", "33.88", head=head)


def bike(*versions: str) -> str:
    """The bike's file; with no version told, the one that ships."""
    return methodology("life-bike", *(versions or (first(),)))


def ended(end: str) -> str:
    """The version of the bike's rule that ships, with an end."""
    return first(f"end_date = {end}")


def corrected(begins: str = "2026-03-01", value: str = "30") -> str:
    """The bike's file with another factor from a day on."""
    return bike(ended(begins), version("2", begins, value))


def walk(each: str = "10", a_day: int = 25) -> str:
    """The walk's file: so many points a walk, at most `a_day` a civil day."""
    rule = version("1", "2025-01-01", each, rule=cap("day", "result", a_day), kind=STEP)
    return methodology("life-walk", rule, asset=STEPS)


def entry(scene: str, name: str, region: str = "", begins: str = "2026-01-01") -> str:
    """A line of the programme."""
    place = f'region = "{region}"\n' if region else ""
    return (
        f'[[entry]]\nscene = "{scene}"\n{place}methodology = "{name}"\n'
        f'scene_approval = "demo: none"\nfrom_date = {begins}\n\n'
    )


def programme(*entries: str) -> str:
    """The crediting programme's file."""
    head = 'id = "life"\ntitle_zh = "测试"\ntitle_en = "Test"\ndemo = true\n\n'
    return head + "".join(entries)


RIDES, WALKS = entry(BIKE, "life-bike"), entry(WALK, "life-walk", "440300")
SHIPPED = {
    # The calculators quote the methodologies that ship, so these must be there.
    **{path: text for path, text in shelf().files.items() if "/" not in path},
    BIKE_FILE: bike(),
    WALK_FILE: walk(),
    PROGRAMME: programme(RIDES, WALKS),
}
