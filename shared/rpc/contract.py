"""What the contract says about a method and a message, read from descriptors at start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from carbonaccount.options.v1 import options_pb2
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from shared.refusal import FieldInvalid, LimitReached
from shared.rpc.caller import KINDS

TEXT_MAX = 256
ITEMS_MAX = 100

Check = Callable[[Any], None]


@dataclass(frozen=True)
class Policy:
    """What the server enforces for one method."""

    method: str
    callers: frozenset[str]
    calls_per_second: int
    reads_only: bool


@cache
def policy_of(method: MethodDescriptor) -> Policy:
    """The policy that the method's options state."""
    options = method.GetOptions()
    kinds = options.Extensions[options_pb2.callers]
    return Policy(
        method=f"/{method.containing_service.full_name}/{method.name}",
        callers=frozenset(KINDS[kind - 1] for kind in kinds),
        calls_per_second=options.Extensions[options_pb2.calls_per_second],
        reads_only=options.idempotency_level == 1,
    )


@cache
def check_of(message: Descriptor) -> Check:
    """A function that refuses a message which breaks the rules stated on its fields.

    Looks at required fields, lengths and counts, into single sub-messages and the set member
    of a oneof. Items of a repeated message field are counted only: a service judges each item
    of a batch by itself, so that one bad item never spoils the rest.
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
    checks: list[Check] = []
    if field_behavior_pb2.OUTPUT_ONLY in behaviours:
        return [lambda value: value.ClearField(name)]
    if field_behavior_pb2.REQUIRED in behaviours:
        checks.append(_required(field))
    if field.is_repeated:
        checks.append(_at_most(name, most))
    elif field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        checks.append(_no_longer(name, longest))
    elif field.message_type is not None and field.message_type.file.package.startswith("carbon"):
        checks.append(_inner(name, field.message_type))
    return checks


def _required(field: FieldDescriptor) -> Check:
    name = field.name
    if field.is_repeated or field.message_type is None:

        def missing(value: Any) -> bool:
            return not getattr(value, name)
    else:

        def missing(value: Any) -> bool:
            return not value.HasField(name)

    def check(value: Any) -> None:
        if missing(value):
            raise FieldInvalid(name, f"{name} is not set; it is required")

    return check


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


def _no_longer(name: str, longest: int) -> Check:
    def check(value: Any) -> None:
        length = len(getattr(value, name))
        if length > longest:
            raise FieldInvalid(name, f"{name} is {length} long and may be {longest}")

    return check


def _inner(name: str, message: Descriptor) -> Check:
    def check(value: Any) -> None:
        if value.HasField(name):
            check_of(message)(getattr(value, name))

    return check


def redacted(message: Message) -> dict[str, Any]:
    """A message as a log may show it: sensitive fields replaced, long ones cut."""
    shown: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.GetOptions().Extensions[options_pb2.sensitive]:
            shown[field.name] = "[redacted]"
        elif field.is_repeated:
            shown[field.name] = f"[{len(value)} items]"
        elif isinstance(value, Message):
            shown[field.name] = redacted(value)
        else:
            shown[field.name] = str(value)[:64]
    return shown
