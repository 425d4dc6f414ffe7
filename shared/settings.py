"""Strict settings: a frozen dataclass read once from the environment.

Field `database_url` of service `activity` is CARBONACCOUNT_ACTIVITY_DATABASE_URL. A missing
variable without a default, a value that breaks its field's rule, and a variable of this
service that no field knows are faults; all of them are said at once.

A field is int, str, bool or Path. Its metadata may hold `help` (what to set it to), for an
int `min` and `max`, for a str `choices`. A duration is an int whose name ends in its unit,
such as grace_ms.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

Settings = TypeVar("Settings")
_INT_MAX = 2**31
_WHOLE = re.compile(r"-?[0-9]{1,18}")


class StartRefused(Exception):
    """A process cannot start; the text is one line, or one for each fault, that says what to do."""


class SettingsInvalid(StartRefused):
    """The environment breaks a rule; each line names variable, value, rule and way out."""


def read_settings(kind: type[Settings], service: str, environment: Mapping[str, str]) -> Settings:
    """An instance of the frozen dataclass `kind`; SettingsInvalid with every fault there is."""
    prefix = f"CARBONACCOUNT_{service.upper()}_"
    hints = get_type_hints(kind)
    fields = {prefix + field.name.upper(): field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # kind is a dataclass
    faults = [
        f"{name} is set and no setting of {service} has that name; {_hint(name, prefix, fields)}"
        for name in sorted(environment)
        if name.startswith(prefix) and name not in fields
    ]
    values: dict[str, Any] = {}
    for name, field in fields.items():
        text = environment.get(name)
        if text is None:
            if not _has_default(field):
                faults.append(f"{name} is not set; {field.metadata.get('help', 'it is required')}")
            continue
        try:
            values[field.name] = _read(text, hints[field.name], field.metadata)
        except ValueError as error:
            faults.append(f"{name} is {text[:64]!r}; {error}")
    if faults:
        raise SettingsInvalid("\n".join(faults))
    return kind(**values)


def _hint(name: str, prefix: str, known: Mapping[str, object]) -> str:
    endings = [each.removeprefix(prefix) for each in known]
    near = get_close_matches(name.removeprefix(prefix), endings, n=1)
    if near:
        return f"did you mean {prefix}{near[0]}?"
    return f"take it away or use one of {', '.join(sorted(known))}"


def _has_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _read(text: str, kind: type, metadata: Mapping[str, Any]) -> Any:
    if kind is bool:
        if text not in {"true", "false"}:
            raise ValueError("it must be true or false")
        return text == "true"
    if kind is int:
        low, high = metadata.get("min", 0), metadata.get("max", _INT_MAX)
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(f"it must be a whole number from {low} to {high}")
        return int(text)
    if kind not in (str, Path):
        raise TypeError(f"a setting is int, str, bool or Path, and this one is {kind}")
    if not text:
        raise ValueError("it must not be empty")
    choices = metadata.get("choices")
    if choices and text not in choices:
        raise ValueError(f"it must be one of {', '.join(choices)}")
    return Path(text) if kind is Path else text
