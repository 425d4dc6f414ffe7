"""Strict reading of a TOML table into a frozen dataclass: unknown and missing keys are faults."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

Shape = TypeVar("Shape")


class MappingInvalid(Exception):
    """A mapping file breaks a rule; the text names the key, the value and the rule."""


def read_shape(kind: type[Shape], value: Any, where: str) -> Shape:
    """`value`, a parsed TOML table, as an instance of the dataclass `kind`.

    Fields may be str, int, float, bool, date, tuple[X, ...], dict[str, X], X | None or another
    dataclass. `where` is the table's name in messages. Raises MappingInvalid.
    """
    if not isinstance(value, Mapping):
        raise MappingInvalid(f"{where} is {value!r}; it must be a table")
    hints = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(typing.cast(Any, kind))}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise MappingInvalid(f"{where} has {unknown}; it may have {sorted(fields)}")
    missing = sorted(
        name
        for name, item in fields.items()
        if name not in value
        and item.default is dataclasses.MISSING
        and item.default_factory is dataclasses.MISSING
    )
    if missing:
        raise MappingInvalid(f"{where} lacks {missing}; they are required")
    return kind(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in value})


def _read(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return read_shape(kind, value, where)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        # TOML has no null: an absent key is the None of `X | None`.
        return _read(next(one for one in inner if one is not types.NoneType), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise MappingInvalid(f"{where} is {value!r}; it must be a list")
        return tuple(_read(inner[0], item, f"{where}[{at}]") for at, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise MappingInvalid(f"{where} is {value!r}; it must be a table")
        return {name: _read(inner[1], item, f"{where}.{name}") for name, item in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    # `type is`, because True is an int and a datetime is a date to isinstance.
    if type(value) is not kind:
        raise MappingInvalid(f"{where} is {value!r}; it must be of type {kind.__name__}")
    return value
