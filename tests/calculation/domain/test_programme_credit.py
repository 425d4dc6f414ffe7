"""Which version credits: the most specific region, the day in force, one or none."""

from __future__ import annotations

from datetime import date

import pytest

from services.calculation.domain.library import load_library
from services.calculation.domain.methodology import Programme
from tests.calculation.domain.world import SHIPPED, files_of, whole_library

FILES = files_of(SHIPPED)
HELLO = FILES["hello-2022.toml"]
PROGRAMME = """
id = "layers"
title_zh = "分层"
title_en = "Layers"
demo = true
"""
ENTRY = """
[[entry]]
scene = "scenes/shared-bike-ride"
region = "{region}"
methodology = "{methodology}"
scene_approval = "demo {region}"
from_date = {start}
to_date = {end}
"""


def day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def layers() -> Programme:
    entries = [("", "hello-2022"), ("440000", "province"), ("440300", "city")]
    files = {"hello-2022.toml": HELLO}
    text = PROGRAMME
    for region, methodology in entries:
        files[f"{methodology}.toml"] = HELLO.replace('id = "hello-2022"', f'id = "{methodology}"')
        text += ENTRY.format(
            region=region, methodology=methodology, start="2023-01-01", end="2024-01-01"
        )
    return load_library({**files, "programmes/layers.toml": text}).programmes["layers"]


def approval(region: int, when: str = "2023-05-01", scene: str = "scenes/shared-bike-ride") -> str:
    credit = layers().credit_for(scene, region, day(when))
    return credit.scene_approval if credit else "none"


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (440300, "demo 440300"),
        (440305, "demo 440300"),
        (440000, "demo 440000"),
        (440400, "demo 440000"),
        (110000, "demo "),
        (0, "demo "),
    ],
)
def test_the_most_specific_region_wins(region: int, expected: str) -> None:
    assert approval(region) == expected


def test_a_credit_begins_on_its_from_date_and_ends_before_its_to_date() -> None:
    assert approval(440300, "2022-12-31") == "none"
    assert approval(440300, "2023-01-01") == "demo 440300"
    assert approval(440300, "2023-12-31") == "demo 440300"
    assert approval(440300, "2024-01-01") == "none"


def test_a_scene_that_no_entry_names_is_credited_by_nothing() -> None:
    assert approval(440300, scene="scenes/metro-ride") == "none"


DEMO = whole_library().programmes["demo"]


@pytest.mark.parametrize(
    ("scene", "name", "status"),
    [
        ("scenes/metro-ride", "methodologies/sz-pt-2021/versions/1", "reposted"),
        ("scenes/bus-ride", "methodologies/sz-pt-2021/versions/1", "reposted"),
        ("scenes/shared-bike-ride", "methodologies/hello-2022/versions/1", "operator"),
        ("scenes/ecard-application", "methodologies/citic-2022/versions/1", "operator"),
        ("scenes/e-statement", "methodologies/citic-2022/versions/1", "operator"),
        ("utility-payment", "methodologies/citic-2022/versions/1", "operator"),
    ],
)
def test_the_demo_programme_credits_its_scenes_in_shenzhen_and_nowhere_else(
    scene: str, name: str, status: str
) -> None:
    credit = DEMO.credit_for(scene, 440300, day("2026-04-01"))
    assert credit is not None
    assert (credit.programme, credit.version.name) == ("programmes/demo", name)
    assert (credit.version.status, credit.version.asset) == (status, "reduction")
    assert "demo" in credit.scene_approval
    assert DEMO.credit_for(scene, 310000, day("2026-04-01")) is None
    assert DEMO.credit_for(scene, 0, day("2026-04-01")) is None


def test_nothing_is_credited_before_a_version_is_in_force() -> None:
    first = day("2022-07-21")
    assert DEMO.credit_for("scenes/shared-bike-ride", 440300, first) is not None
    assert DEMO.credit_for("scenes/shared-bike-ride", 440300, first - 1) is None


def test_the_demo_programme_says_that_it_is_one() -> None:
    assert DEMO.demo
    assert any("Hello" in assumption for assumption in DEMO.assumptions)
