"""The seal on published factors: a digest for each, so that none is edited or lost in silence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date

from services.calculation.domain.factors import FactorValue, Series
from services.calculation.domain.faults import LibraryFault

SUMS = "published.sum"

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_NAME_PARTS = 5
_DIGEST_LENGTH = 64
_MEND = (
    "a published factor is never edited: put it back as it was, and write the new value as a "
    "[[value]] with a later publish_date"
)


def sums(registry: Mapping[str, Series]) -> str:
    """The text of published.sum for a registry: a line a value, in the order of their names."""
    lines = [
        f"{digest(series, value)}  {label(value)}"
        for _, series in sorted(registry.items())
        for value in series.values
    ]
    return "".join(f"{line}\n" for line in lines)


def digest(series: Series, value: FactorValue) -> str:
    """SHA-256 (hex) over canonical JSON of all that the value says; titles and notes stay free."""
    form = {
        "format": 1,
        "series": {"id": series.id, "unit": series.unit, "gas_scope": series.gas_scope},
        "value": {
            key: getattr(value, key)
            for key in ("region", "key", "year", "value", "low", "high", "source", "page", "status")
        }
        | {"publish_date": _publish_date(value)},
    }
    text = json.dumps(form, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def label(value: FactorValue) -> str:
    """What names a value for ever: series, region, key, year, publish_date; "-" where empty."""
    parts = (value.series, value.region, value.key, str(value.year), _publish_date(value))
    return " ".join(part or "-" for part in parts)


def changed_values(
    text: str, registry: Mapping[str, Series], lines: Mapping[FactorValue, int]
) -> list[LibraryFault]:
    """Faults for values that are not what published.sum says, and for its lines without a value.

    `lines` says where in its file each value stands. A value without a line is new and no fault.
    """
    held = {label(v): (s, v) for s in registry.values() for v in s.values}
    faults, seen = [], set()
    for number, line in enumerate(text.splitlines(), 1):
        said, _, name = line.partition("  ")
        if len(said) != _DIGEST_LENGTH or len(name.split(" ")) != _NAME_PARTS or name in seen:
            faults.append(
                LibraryFault(
                    SUMS, number, 1,
                    f"{line[:80]!r} is no line of this file, or its second; the command in "
                    "factors/README.md writes it, put back what it wrote",
                )
            )  # fmt: skip
            continue
        seen.add(name)
        if name not in held:
            faults.append(
                LibraryFault(SUMS, number, 1, f"{name} was published and is gone; {_MEND}")
            )
        elif digest(*held[name]) != said:
            series, value = held[name]
            faults.append(
                LibraryFault(
                    f"{series.id}.toml", lines[value], 1,
                    f"{name} is not what was published (digest {said[:16]}); {_MEND}",
                )
            )  # fmt: skip
    return faults


def _publish_date(value: FactorValue) -> str:
    if value.publish_day is None:
        return ""
    return date.fromordinal(_EPOCH_ORDINAL + value.publish_day).isoformat()
