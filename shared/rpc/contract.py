"""What the contract says about a method and a message, read from descriptors at start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from carbonaccount.options.v1 import options_pb2
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from shared.refusal import FieldInvalid, LimitReached, Refusal
from shared.rpc.caller import KINDS

TEXT_MAX = 256
ITEMS_MAX = 100

Check = Callable[[Any], None]
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
# Seconds that a google.protobuf.Timestamp may hold: the years 1 to 9999.
_SECONDS_MIN, _SECONDS_MAX = -62_135_596_800, 253_402_300_799


@dataclass(frozen=True)
class Policy:
    """What the server enforces for one method."""

    method: str
    callers: frozenset[str]
    calls_per_second: int
    reads_only: bool

    @property
    def is_public(self) -> bool:
        """Whether anyone may call, without a token."""
        return "public" in self.callers


@cache
def policy_of(method: MethodDescriptor) -> Policy:
    """The policy that the method's options state."""
    options = method.GetOptions()
    kinds = options.Extensions[options_pb2.callers]
    return Policy(
        method=f"/{method.containing_service.full_name}/{method.name}",
        callers=frozenset(KINDS[kind - 1] for kind in kinds if kind),
        calls_per_second=options.Extensions[options_pb2.calls_per_second],
        reads_only=options.idempotency_level == options.NO_SIDE_EFFECTS,
    )


@cache
def check_of(message: Descriptor) -> Check:
    """A function that refuses a message which breaks the rules stated on its fields.

    Looks at required fields, lengths, counts and moments, into single sub-messages and the
    set member of a oneof, and clears what only the server writes. Items of a repeated message
    field are counted only: a service judges each item of a batch by itself, so that one bad
    item never spoils the rest. A refusal names the field by its path.
    """
    checks = [check for field in message.fields for check in _field_checks(field)]

    def run(value: Message) -> None:
        for check in checks:
            check(value)

    return run


def _field_checks(field: FieldDescriptor) -> list[Check]:
    options = field.GetOptions()
    behaviours = options.Extensions[field_behavior_pb2.field_behavior]
    longest = options.Extensions[options_pb2.max_length] or TEXT_MAX
    most = options.Extensions[options_pb2.max_items] or ITEMS_MAX
    name = field.name
    if field_behavior_pb2.OUTPUT_ONLY in behaviours:
        return [lambda value: value.ClearField(name)]
    required = field_behavior_pb2.REQUIRED in behaviours
    checks: list[Check] = []
    if field.is_repeated:
        checks.append(_at_most(name, most))
        checks += _items_checks(field, longest)
    elif field.type in _TEXTS:
        return [_text(name, longest, required)]
    elif field.message_type is not None:
        checks += _message_checks(field)
    if required:
        checks.insert(0, _required(field))
    return checks


def _message_checks(field: FieldDescriptor) -> list[Check]:
    inner = field.message_type
    assert inner is not None
    if inner.full_name == "google.protobuf.Timestamp":
        return [_moment(field.name)]
    if inner.file.package.startswith("carbonaccount"):
        return [_inner(field.name, inner)]
    return []


def _items_checks(field: FieldDescriptor, longest: int) -> list[Check]:
    """Lengths of the texts in a list or map; messages in it are the service's to judge."""
    name, entry = field.name, field.message_type
    if entry is None:
        return [_texts(name, longest, lambda items: items)] if field.type in _TEXTS else []
    if not entry.GetOptions().map_entry:
        return []
    checks = []
    if entry.fields_by_name["key"].type in _TEXTS:
        checks.append(_texts(name, longest, lambda items: items.keys()))
    if entry.fields_by_name["value"].type in _TEXTS:
        checks.append(_texts(name, longest, lambda items: items.values()))
    return checks


def _missing(name: str) -> FieldInvalid:
    return FieldInvalid(name, f"{name} is not set; it is required")


def _required(field: FieldDescriptor) -> Check:
    name = field.name
    if field.is_repeated or not field.has_presence:

        def check_filled(value: Any) -> None:
            if not getattr(value, name):
                raise _missing(name)

        return check_filled

    def check_set(value: Any) -> None:
        if not value.HasField(name):
            raise _missing(name)

    return check_set


def _at_most(name: str, most: int) -> Check:
    def check(value: Any) -> None:
        count = len(getattr(value, name))
        if count > most:
            raise LimitReached(
                f"{name} has {count} items and may have {most}; send several requests",
                field=name,
                metadata={"limit": f"{name} items", "value": most},
            )

    return check


def _text(name: str, longest: int, required: bool) -> Check:
    def check(value: Any) -> None:
        length = len(getattr(value, name))
        if length > longest:
            raise _too_long(name, length, longest)
        if required and not length:
            raise _missing(name)

    return check


def _texts(name: str, longest: int, of: Callable[[Any], Iterable[Any]]) -> Check:
    def check(value: Any) -> None:
        for item in of(getattr(value, name)):
            if len(item) > longest:
                raise _too_long(name, len(item), longest)

    return check


def _too_long(name: str, length: int, longest: int) -> FieldInvalid:
    return FieldInvalid(name, f"{name} is {length} long and may be {longest}; send less")


def _moment(name: str) -> Check:
    """Refuses what is no moment, which would fail wherever it is first read."""

    def check(value: Any) -> None:
        if not value.HasField(name):
            return
        at = getattr(value, name)
        if not (_SECONDS_MIN <= at.seconds <= _SECONDS_MAX and 0 <= at.nanos < 1_000_000_000):
            raise FieldInvalid(
                name,
                f"{name} is {at.seconds} seconds and {at.nanos} nanoseconds, which is no moment "
                "of the years 1 to 9999",
            )

    return check


def _inner(name: str, message: Descriptor) -> Check:
    inner: Check | None = None

    def check(value: Any) -> None:
        nonlocal inner
        if not value.HasField(name):
            return
        if inner is None:  # not before the first use, because a message may contain itself
            inner = check_of(message)
        try:
            inner(getattr(value, name))
        except Refusal as refusal:
            raise _below(name, refusal) from None

    return check


def _below(name: str, refusal: Refusal) -> Refusal:
    """The same refusal with its field named from one message further out."""
    field, message = f"{name}.{refusal.field}", f"{name}.{refusal.message}"
    if isinstance(refusal, LimitReached):
        limit = {**refusal.metadata, "limit": f"{name}.{refusal.metadata['limit']}"}
        return LimitReached(message, field=field, metadata=limit)
    return FieldInvalid(field, message)
