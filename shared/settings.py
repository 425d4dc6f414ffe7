"""Strict settings: a frozen dataclass read once from the environment.

Field `database_url` of service `activity` is CARBONACCOUNT_ACTIVITY_DATABASE_URL. A missing
variable without a default, a value of the wrong type, and a variable of this service that no
field knows are faults; all of them are said at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

Settings = TypeVar("Settings")


class SettingsInvalid(Exception):
    """The environment breaks a rule; each line names variable, value, rule and way out."""


def read_settings(kind: type[Settings], service: str, environment: Mapping[str, str]) -> Settings:
    """An instance of the frozen dataclass `kind`; its fields are int, str, bool or Path.

    An int field whose metadata has `min` and `max` is held to them.
    """
    prefix = f"CARBONACCOUNT_{service.upper()}_"
    hints = get_type_hints(kind)
    fields = {prefix + field.name.upper(): field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # kind is a dataclass
    faults = [
        f"{name} is set and no setting of {service} has that name; did you mean one of "
        f"{', '.join(sorted(fields))}?"
        for name in sorted(environment)
        if name.startswith(prefix) and name not in fields
    ]
    values: dict[str, Any] = {}
    for name, field in fields.items():
        text = environment.get(name)
        if text is None:
            if field.default is dataclasses.MISSING:
                faults.append(f"{name} is not set; {field.metadata.get('help', 'it is required')}")
            continue
        try:
            values[field.name] = _read(text, hints[field.name], field.metadata)
        except ValueError as error:
            faults.append(f"{name} is {text[:64]!r}; {error}")
    if faults:
        raise SettingsInvalid("\n".join(faults))
    return kind(**values)


def _read(text: str, kind: type, metadata: Mapping[str, Any]) -> Any:
    if kind is bool:
        if text not in {"true", "false"}:
            raise ValueError("it must be true or false")
        return text == "true"
    if kind is int:
        low, high = metadata.get("min", 0), metadata.get("max", 2**31)
        if not text.isascii() or not text.lstrip("-").isdigit() or not low <= int(text) <= high:
            raise ValueError(f"it must be a whole number from {low} to {high}")
        return int(text)
    if not text:
        raise ValueError("it must not be empty")
    return Path(text) if kind is Path else text
