"""Units of measures and factors: what may be multiplied, added, and called a reduction.

Every unit is a power of base units times an exact scale. Base units are those of the
measures themselves: metre, second, watt_hour, millilitre, count, fen, point, and milligram
for mass, so that a formula over base units gives milligrams without a further step.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

_KNOWN: dict[str, tuple[str, Fraction]] = {
    "mg": ("mass", Fraction(1)),
    "g": ("mass", Fraction(1000)),
    "gram": ("mass", Fraction(1000)),
    "kg": ("mass", Fraction(10**6)),
    "t": ("mass", Fraction(10**9)),
    "metre": ("length", Fraction(1)),
    "km": ("length", Fraction(1000)),
    "second": ("time", Fraction(1)),
    "minute": ("time", Fraction(60)),
    "hour": ("time", Fraction(3600)),
    "watt_hour": ("energy", Fraction(1)),
    "kWh": ("energy", Fraction(1000)),
    "MWh": ("energy", Fraction(10**6)),
    "millilitre": ("volume", Fraction(1)),
    "L": ("volume", Fraction(1000)),
    "count": ("count", Fraction(1)),
    "fen": ("money", Fraction(1)),
    "yuan": ("money", Fraction(100)),
    "point": ("point", Fraction(1)),
    "1": ("", Fraction(1)),
}


class UnitMismatch(Exception):
    """Two quantities do not go together; the text says which and how."""


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
        return " ".join(f"{n}^{p}" if p != 1 else n for n, p in self.powers) or "a plain number"


NUMBER = Unit()
MASS = Unit((("mass", 1),))
POINT = Unit((("point", 1),))


def parse_unit(text: str) -> tuple[Unit, Fraction]:
    """A unit such as "g/km" or "kg/kWh" and its size in base units; raises UnitMismatch."""
    unit, scale = NUMBER, Fraction(1)
    for place, name in enumerate(text.split("/")):
        if name not in _KNOWN:
            raise UnitMismatch(f"unit {name!r} is not known; use one of {', '.join(_KNOWN)}")
        dimension, size = _KNOWN[name]
        one = Unit(((dimension, 1),)) if dimension else NUMBER
        unit, scale = (unit * one, scale * size) if place == 0 else (unit / one, scale / size)
    return unit, scale
