"""Units of measures and factors: what may be multiplied, added, and called a reduction.

A unit is a product of powers of dimensions; its text also has a size in base units. Base
units are mg for mass, and metre, second, watt_hour, millilitre, count, fen, point.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

_KNOWN: dict[str, tuple[str, int]] = {
    "mg": ("mass", 1),
    "g": ("mass", 10**3),
    "gram": ("mass", 10**3),
    "kg": ("mass", 10**6),
    "t": ("mass", 10**9),
    "metre": ("length", 1),
    "km": ("length", 10**3),
    "second": ("time", 1),
    "minute": ("time", 60),
    "hour": ("time", 3600),
    "watt_hour": ("energy", 1),
    "kWh": ("energy", 10**3),
    "MWh": ("energy", 10**6),
    "millilitre": ("volume", 1),
    "litre": ("volume", 10**3),
    "L": ("volume", 10**3),
    "count": ("count", 1),
    "fen": ("money", 1),
    "yuan": ("money", 100),
    "point": ("point", 1),
    "1": ("", 1),
}
MEASURE_UNITS = ("metre", "gram", "watt_hour", "millilitre", "litre", "second", "count", "fen")
"""Units that activities report whole numbers in."""


class UnitMismatch(Exception):
    """Two quantities do not go together; the text says which and how to mend it."""


@dataclass(frozen=True)
class Unit:
    """A product of powers of dimensions, sorted by name, without zero powers."""

    powers: tuple[tuple[str, int], ...] = ()

    def __mul__(self, other: Unit) -> Unit:
        return self._combined(other, 1)

    def __truediv__(self, other: Unit) -> Unit:
        return self._combined(other, -1)

    def _combined(self, other: Unit, sign: int) -> Unit:
        powers = dict(self.powers)
        for name, power in other.powers:
            powers[name] = powers.get(name, 0) + sign * power
        return Unit(tuple(sorted((name, power) for name, power in powers.items() if power)))

    def __str__(self) -> str:
        if not self.powers:
            return "a plain number"
        return " * ".join(name if power == 1 else f"{name}^{power}" for name, power in self.powers)


NUMBER = Unit()
MASS = Unit((("mass", 1),))
POINT = Unit((("point", 1),))
TRUTH = Unit((("truth", 1),))


def parse_unit(text: str) -> tuple[Unit, Fraction]:
    """A unit such as "g/km" and its size in base units (g/km is 1); raises UnitMismatch."""
    unit, size = NUMBER, Fraction(1)
    for place, name in enumerate(text.split("/")):
        if name not in _KNOWN:
            raise UnitMismatch(
                f"unit {name!r} is not known; use {', '.join(_KNOWN)} or one / other"
            )
        dimension, own = _KNOWN[name]
        one = Unit(((dimension, 1),)) if dimension else NUMBER
        unit, size = (unit * one, size * own) if place == 0 else (unit / one, size / own)
    return unit, size
