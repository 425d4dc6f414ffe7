"""Measures that a mapping computes from cells: whole numbers, rounded down, before any domain.

Distances are computed in binary floating point here and nowhere else; what leaves is an integer
that is recorded as a fact, and a re-import compares that integer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import asin, cos, floor, radians, sin, sqrt
from typing import Any

from services.activity.feeds.columns import SECOND_US
from services.activity.feeds.mapping import MeasureRule

Measured = Callable[[Mapping[str, str], Mapping[str, Any]], int]


def compile_measure(rule: MeasureRule) -> Measured:
    """The function from (cells, values) of one line to the measure in base units."""
    return _great_circle(rule) if rule.kind == "great_circle" else _elapsed(rule)


def haversine_metre(
    latitude_1: float, longitude_1: float, latitude_2: float, longitude_2: float, radius: float
) -> float:
    """Metres along the great circle between two points in degrees on a sphere of that radius."""
    phi_1, phi_2 = radians(latitude_1), radians(latitude_2)
    across = sin((phi_2 - phi_1) / 2)
    along = sin((radians(longitude_2) - radians(longitude_1)) / 2)
    chord = across * across + cos(phi_1) * cos(phi_2) * along * along
    # Rounding may lift the chord of two opposite points a hair above 1, where asin has no value.
    return 2 * radius * asin(min(1.0, sqrt(chord)))


def _great_circle(rule: MeasureRule) -> Measured:
    (latitude_1, longitude_1), (latitude_2, longitude_2) = rule.start, rule.end
    radius = rule.earth_radius_metre or 0.0
    same = rule.same_place

    def measured(cells: Mapping[str, str], values: Mapping[str, Any]) -> int:
        if same and cells[same[0]] == cells[same[1]] != "":
            return 0
        return floor(
            haversine_metre(
                values[latitude_1],
                values[longitude_1],
                values[latitude_2],
                values[longitude_2],
                radius,
            )
        )

    return measured


def _elapsed(rule: MeasureRule) -> Measured:
    start, end = rule.start[0], rule.end[0]

    def measured(cells: Mapping[str, str], values: Mapping[str, Any]) -> int:
        return int(values[end] - values[start]) // SECOND_US

    return measured
