"""Requests made from the contract: what is required and what names somebody is filled."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from carbonaccount.identity.v1.consent_pb2 import ConsentGrant
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from test_contract import IMAGE

from shared.clock import now_us
from shared.ids import account_id_of, civil_day, day_to_date, encode32, shard_of
from tests.suite import ride

F = FieldDescriptor
_PATTERN = re.compile(r"[a-z]\w*/\{[a-z]+\}(?:/(?:\{[a-z]+\}|[a-z]\w*))*")
_TEXTS = {
    "code": "ABCDEFGHJK",
    "etag": "",
    "file_name": "matrix.json",
    "key": "distance_metre",
    "path": "matrix.toml",
    "region_code": "440300",
    "screen": "matrix/consent",
}
"""By the name of the field, where any word would be refused before somebody is looked at."""
_OFTEN_NEEDED = {"purpose", "cause"}
"""Optional by the contract and required of some callers."""
_WORDS = {
    "activity": "0" * 26,
    "community": encode32(1, 13),
    "scene": "shared-bike-ride",
    "scope": "household-collect",
    "subject": "matrix",
}
"""Parts of resource names; what is not here is number 1 of its kind."""


class NotMade(Exception):
    """No request can be made from the contract; the text names the field that is in the way."""


@dataclass(frozen=True)
class Named:
    """Whom a request names: an account, and `names` of other kinds, such as sources/x.

    Where a field offers several kinds of name, that of the caller's own `kind` is taken.
    """

    account: str
    names: tuple[str, ...]
    kind: str


def make_request(method: MethodDescriptor, named: Named, grant: ConsentGrant) -> Any:
    """A request of `method` with everything that is required, about whom `named` says.

    `grant` stands wherever a consent is given. NotMade when a field cannot be filled.
    """
    persons = {field.name for field in method.input_type.fields if names_person(field)}
    return _Maker(named, grant).make(method.input_type, also=persons)


class _Maker:
    def __init__(self, named: Named, grant: ConsentGrant) -> None:
        self._named = named
        now, today = now_us(), day_to_date(civil_day(now_us()))
        self._ready: dict[str, Callable[[], Message]] = {
            "carbonaccount.activity.v1.ActivityReport": lambda: ride(
                named.account, f"matrix-{uuid.uuid4().hex}"
            ),
            "carbonaccount.identity.v1.ConsentGrant": lambda: grant,
            "google.protobuf.FieldMask": lambda: FieldMask(paths=["display_name"]),
            "google.protobuf.Timestamp": lambda: Timestamp(seconds=now // 10**6),
            "google.type.Date": lambda: Date(year=today.year, month=today.month, day=today.day),
        }
        self._digest = grant.notice_digest

    def make(self, kind: Descriptor, also: set[str], *, whole: bool = False) -> Any:
        """A message with what it requires, with `also`, and with one member of each oneof;
        `whole` with every field that a caller may set."""
        message = GetMessageClass(kind)()
        wanted = also | _OFTEN_NEEDED | {oneof.fields[0].name for oneof in kind.oneofs}
        for field in kind.fields:
            asked = whole and not _is(field, "OUTPUT_ONLY")
            if asked or _is(field, "REQUIRED") or field.name in wanted:
                self._fill(message, field)
        return message

    def _fill(self, message: Any, field: FieldDescriptor) -> None:
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            key, value = (kind.fields_by_name[name] for name in ("key", "value"))
            getattr(message, field.name)[self._value(key)] = self._value(value)
        elif kind is not None and field.is_repeated:
            getattr(message, field.name).append(self._message(kind))
        elif kind is not None:
            getattr(message, field.name).CopyFrom(self._message(kind))
        elif field.is_repeated:
            getattr(message, field.name).append(self._value(field))
        else:
            setattr(message, field.name, self._value(field))

    def _message(self, kind: Descriptor) -> Any:
        if kind.full_name in self._ready:
            return self._ready[kind.full_name]()
        if not kind.file.package.startswith("carbonaccount"):
            raise NotMade(f"nobody says how to fill a {kind.full_name}")
        requires = any(_is(field, "REQUIRED") for field in kind.fields)
        return self.make(kind, set(), whole=not requires)

    def _value(self, field: FieldDescriptor) -> Any:
        if field.name == "shard":
            return shard_of(account_id_of(self._named.account))
        if field.type == F.TYPE_STRING:
            return self._text(field)
        if field.type == F.TYPE_ENUM:
            return field.enum_type.values[1].number
        if field.type == F.TYPE_BYTES:
            return self._digest
        if field.type == F.TYPE_BOOL:
            return True
        if field.type in (F.TYPE_INT32, F.TYPE_INT64):
            return 0 if field.name == "position" else 1
        raise NotMade(f"nobody says how to fill {field.full_name}")

    def _text(self, field: FieldDescriptor) -> str:
        offered = patterns_of(field)
        if offered:
            fitting = [one for one in offered if one.startswith(f"{self._named.kind}s/")]
            return re.sub(r"\{([a-z]+)\}", self._word, (fitting or offered)[0])
        if field.name == "request_id":
            return str(uuid.uuid4())
        return _TEXTS.get(field.name, "matrix")

    def _word(self, part: re.Match[str]) -> str:
        whole = (self._named.account, *self._named.names)
        known = dict(one.split("s/", 1) for one in whole)
        return known.get(part[1]) or _WORDS.get(part[1], "1")


def _is(field: FieldDescriptor, behaviour: str) -> bool:
    said = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.FieldBehavior.Value(behaviour) in said


def patterns_of(field: FieldDescriptor) -> list[str]:
    """The forms of name that the comment of `field` begins with, such as accounts/{account}."""
    comment = _comments()[field.full_name] if not _in_map(field) else ""
    return _PATTERN.findall(comment) if _PATTERN.match(comment) else []


def names_person(field: FieldDescriptor) -> bool:
    """Whether `field` may name an account, something below one, or a session."""
    return any(one.startswith(("accounts/", "sessions/")) for one in patterns_of(field))


def settable_fields(kind: Descriptor, outer: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """Every field that a caller may set, by its path, into the messages of the contract."""
    for field in kind.fields:
        if _is(field, "OUTPUT_ONLY"):
            continue
        yield outer + field.name, field
        inner = field.message_type
        if inner is not None and inner.file.package.startswith("carbonaccount"):
            yield from settable_fields(inner, f"{outer}{field.name}.")


def _in_map(field: FieldDescriptor) -> bool:
    return bool(field.containing_type.GetOptions().map_entry)


@cache
def _comments() -> dict[str, str]:
    """What stands above each field of the contract, by the field's full name."""
    found: dict[str, str] = {}
    for file in descriptor_pb2.FileDescriptorSet.FromString(IMAGE.read_bytes()).file:
        said = {
            tuple(place.path): place.leading_comments.strip()
            for place in file.source_code_info.location
        }
        for number, message in enumerate(file.message_type):
            _note(found, said, f"{file.package}.{message.name}", message, (4, number))
    return found


def _note(
    found: dict[str, str],
    said: dict[tuple[int, ...], str],
    name: str,
    message: descriptor_pb2.DescriptorProto,
    path: tuple[int, ...],
) -> None:
    for number, field in enumerate(message.field):
        found[f"{name}.{field.name}"] = said.get((*path, 2, number), "")
    for number, inner in enumerate(message.nested_type):
        _note(found, said, f"{name}.{inner.name}", inner, (*path, 3, number))
