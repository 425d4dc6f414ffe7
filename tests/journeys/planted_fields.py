"""Every text that the contract takes from outside, out of its descriptors, and what each one is."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import carbonaccount
from carbonaccount.options.v1 import options_pb2
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from shared.rpc.caller import KINDS
from shared.rpc.redaction import is_sensitive

PACKAGES = ("identity", "activity", "calculation", "settlement")
TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
_PREFIX = "carbonaccount."

NOBODYS = {
    # Names and numbers of our own, words out of closed lists, digests of what is published.
    **dict.fromkeys(
        ("name", "parent", "account", "member", "members", "community", "partner", "scope",
         "scene", "source", "methodology", "series", "feed", "before", "after", "asset",
         "from_pocket", "to_pocket", "questionnaire_version", "category", "merchant_code"),
        "a name of ours or a word of a closed list; anything else is refused",
    ),
    **dict.fromkeys(
        ("request_id", "page_token", "freshness_token", "etag"),
        "made by us or at random",
    ),
    **dict.fromkeys(
        ("notice_digest", "mandate_digest", "account_id", "occur_time_us", "digest"),
        "a digest or packed numbers",
    ),
    **dict.fromkeys(("key", "value"), "a name or word of a scene, a method or a count"),
    "region_code": "the district of an act or of an estimate, of the facts that feeds carry (D12)",
    "path": "a file of the library", "content": "a file of the library",
    "file_name": "a sibling's name of a file of a copy",
    "what": "a sibling's words on what it keeps", "why": "a sibling's words on why it keeps it",
    "review_note": "a reviewer's words on a file of the library",
    "reason_zh": "published words on a change of method", "reason_en": "the same in English",
    "Post.cause": "the name of what a posting rests on",
}  # fmt: skip
"""By field, or by message and field: what is not personal, and why. A text that is neither here,
nor marked sensitive, nor in IN_CLEAR is not known yet, and the test of this table says so."""


@dataclass(frozen=True)
class Kept:
    """Where a text may be found in clear, by decision."""

    places: frozenset[str]
    why: str


def _kept(why: str, *places: str) -> Kept:
    return Kept(frozenset((*places, "database files")), why)


READER = "the name of a reader"
_CAUSE = _kept(
    "staff's and holders' words on a change of the account, for the holder and for auditors",
    "identity.event",
)
_PURPOSE = _kept("the reader's words, which the holder reads", "identity.access_log")
IN_CLEAR = {
    "GetAccountRequest.purpose": _PURPOSE,
    "LookUpAccountRequest.purpose": _PURPOSE,
    "SuspendAccountRequest.cause": _CAUSE,
    "ReinstateAccountRequest.cause": _CAUSE,
    "CloseAccountRequest.cause": _CAUSE,
    "EraseAccountDataRequest.cause": _CAUSE,
    "WithdrawActivityRequest.cause": _kept(
        "why an act was taken back, for auditors, until its details are erased",
        "activity.withdrawal",
    ),
    "CreateCommunityRequest.title_zh": _kept("published", "identity.community", "log"),
    "CreateCommunityRequest.title_en": _kept("published", "identity.community", "log"),
    "Confirmation.screen": _kept(
        "the app's name of a screen, part of the evidence of a consent",
        "identity.consent", "feed WatchAccounts", "log",
    ),
    "Open.lane": _kept("the source's own name of a stream", "activity.lane", "log"),
    READER: _kept("who of the staff read it, which the holder reads", "identity.access_log", "log"),
}  # fmt: skip
"""Texts that are not sealed, and the places where each may stand. Everything else that was
planted may stand nowhere."""


@dataclass(frozen=True)
class Text:
    """One text of a request: its place in it, such as account.display_name, and its field."""

    method: MethodDescriptor
    path: str
    field: FieldDescriptor

    @property
    def label(self) -> str:
        """Message and field, as the tables here name it."""
        return label(self.field)

    @property
    def known(self) -> bool:
        """Whether somebody decided what this text is."""
        return (
            is_sensitive(self.field)
            or self.label in IN_CLEAR
            or self.label in NOBODYS
            or self.field.name in NOBODYS
        )


def label(field: FieldDescriptor) -> str:
    """Message and name of a field: Account.display_name."""
    assert field.containing_type is not None
    return f"{field.containing_type.name}.{field.name}"


@cache
def methods() -> tuple[MethodDescriptor, ...]:
    """Every method of the four services."""
    for module in pkgutil.walk_packages(carbonaccount.__path__, _PREFIX):
        if module.name.endswith("_pb2"):
            importlib.import_module(module.name)
    pool = descriptor_pool.Default()
    files = [
        importlib.import_module(module.name).DESCRIPTOR
        for module in pkgutil.walk_packages(carbonaccount.__path__, _PREFIX)
        if module.name.endswith("_service_pb2")
    ]
    return tuple(
        method
        for file in files
        for name in file.services_by_name
        for method in pool.FindServiceByName(f"{file.package}.{name}").methods
    )


def package_of(method: MethodDescriptor) -> str:
    """The service that serves a method; feeds are looked at where identity's lies."""
    package = str(method.containing_service.file.package).split(".")[1]
    return package if package in PACKAGES else PACKAGES[0]


def path_of(method: MethodDescriptor) -> str:
    """How a method is called on the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


def callers_of(method: MethodDescriptor) -> list[str]:
    """The kinds of caller that may call it."""
    kinds = method.GetOptions().Extensions[options_pb2.callers]
    return [KINDS[kind - 1] for kind in kinds if kind]


def texts() -> list[Text]:
    """Every text of every request."""
    return [
        Text(method, path, field)
        for method in methods()
        for path, field in _texts(method.input_type, "", ())
    ]


def _texts(
    message: Descriptor, path: str, inside: tuple[str, ...]
) -> Iterator[tuple[str, FieldDescriptor]]:
    for field in message.fields:
        if (
            field_behavior_pb2.OUTPUT_ONLY
            in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        ):
            continue
        inner = field.message_type
        if inner is None:
            if field.type in TEXTS:
                yield path + field.name, field
        elif inner.file.package.startswith(_PREFIX) and inner.full_name not in inside:
            yield from _texts(inner, f"{path}{field.name}.", (*inside, message.full_name))
