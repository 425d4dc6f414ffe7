"""Requests that must be refused, with a planted value in every text of every method."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
from carbonaccount.options.v1 import options_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from shared.rpc.contract import TEXT_MAX
from shared.rpc.redaction import is_sensitive
from shared.rpc.tokens import make_token
from tests.journeys.planted_calls import Caller, Cast, telling
from tests.journeys.planted_fields import (
    IN_CLEAR,
    TEXTS,
    Text,
    callers_of,
    methods,
    package_of,
    path_of,
    texts,
)
from tests.journeys.planted_people import TRAVEL, Person
from tests.journeys.planted_values import chinese, word
from tests.suite import BENCH, BIKE

MISUSER = "stranger"
MISPLACED = "a word in a place for names"
LAST = ("CloseAccount", "EraseAccountData")
_PHONE = "13900139000"
# Words of at most five letters are too short to be planted.
_PLAUSIBLE = {"scope": TRAVEL, "partner": BIKE, "source": BENCH, "scene": "scenes/metro-ride",
              "cause": "asked", "purpose": "asked", "title_zh": "学校", "title_en": "Class",
              "lane": "lane", "region_code": "440300"}  # fmt: skip
_CALL_S, _STREAM_S = 5.0, 0.2


class Misuser:
    """Somebody who calls every method with a good token of a kind that may."""

    def __init__(self, cast: Cast, person: Person) -> None:
        self._cast = cast
        self._person = person
        self._channels: dict[tuple[str, str], Any] = {}

    async def misuse(self) -> None:
        """Every text of every request: misplaced, too long, in two lines, and with a NUL."""
        by_end = sorted(texts(), key=lambda text: text.method.name in LAST)
        for text in by_end:
            for value in self._wrong_values(text):
                request = self._request(text.method)
                if _set(request, text.path.split("."), value):
                    await self._call(text.method, request)
        for method in methods():
            await self._garble(method)
        await self._other_tokens()

    def _wrong_values(self, text: Text) -> Iterator[str]:
        """Values with a planted word; in a place for names, what is no name is noted as such."""
        longest = text.field.GetOptions().Extensions[options_pb2.max_length] or TEXT_MAX
        wrong = [chinese(), f"{word()}\n二", f"{word()}\0", word() * (5 + longest // 14)]
        own = is_sensitive(text.field) or text.label in IN_CLEAR
        if own:
            yield from (*wrong, word()[:longest])
            return
        yield f"accounts/{word()}"
        for made in (*wrong, f"accounts/{_PHONE}"):
            told = _PHONE if _PHONE in made else telling(made)
            self._cast.evidence.planted.note(told, MISPLACED, self._person.who)
            yield made

    def _request(self, method: MethodDescriptor) -> Message:
        """A request that is as good as a stranger can make it."""
        request = message_factory.GetMessageClass(method.input_type)()
        self._make_plausible(request)
        return request

    def _make_plausible(self, message: Message) -> None:
        for field in message.DESCRIPTOR.fields:
            if field.is_repeated or field.type != FieldDescriptor.TYPE_STRING:
                continue
            if field.name in ("name", "parent", "account"):
                setattr(message, field.name, self._person.account)
            elif field.name == "request_id":
                setattr(message, field.name, str(uuid.uuid4()))
            elif field.name in _PLAUSIBLE and not is_sensitive(field):
                setattr(message, field.name, _PLAUSIBLE[field.name])

    async def _call(self, method: MethodDescriptor, request: Message | bytes) -> None:
        """By the first kind of caller that the contract lists."""
        await self._send(self._channel(method, callers_of(method)[0]), method, request)

    async def _send(self, channel: Any, method: MethodDescriptor, request: Message | bytes) -> None:
        path = path_of(method)
        shape = {"request_serializer": _serialized, "response_deserializer": bytes}
        with suppress(grpc.aio.AioRpcError):
            if method.client_streaming:
                call = channel.stream_stream(path, **shape)
                async for _ in call(_one(request), timeout=_STREAM_S):
                    pass
            elif method.server_streaming:
                async for _ in channel.unary_stream(path, **shape)(request, timeout=_STREAM_S):
                    pass
            else:
                await channel.unary_unary(path, **shape)(request, timeout=_CALL_S)

    def _channel(self, method: MethodDescriptor, kind: str) -> Any:
        service = package_of(method)
        if (service, kind) not in self._channels:
            who = Caller(kind, self._person.who)
            token: Any = None
            if kind == "customer":
                token = self._person.token
            elif kind != "public":
                name = BENCH if kind == "source" else f"{kind}s/misuse"
                made = make_token(self._cast.key, kind, name)
                token = lambda: made  # noqa: E731 - one token for each channel
            self._channels[service, kind] = self._cast.channel(service, who, token)
        return self._channels[service, kind]

    async def _garble(self, method: MethodDescriptor) -> None:
        """Bytes that are no message: a text that is no UTF-8, one cut short, and plain words."""
        plain = self._cast.evidence.planted.note(word(), "garbled bytes", self._person.who).encode()
        head = b"\x0a" + bytes([len(plain) + 1])
        for wrong in (head + plain + b"\xff", head + plain, plain):
            await self._call(method, wrong)

    async def _other_tokens(self) -> None:
        """No token of ours, and a customer's own name where staff is asked for."""
        note = self._cast.evidence.planted.note
        wrong = note(word(), "authorization", self._person.who)
        named = note(word(), "a customer's name in a token", self._person.who)
        tokens = (wrong, make_token(self._cast.key, "customer", f"customers/{named}"))
        for place, token in enumerate(tokens):
            for method in methods():
                service = package_of(method)
                key = (service, f"token {place}")
                if key not in self._channels:
                    caller = Caller("customer", self._person.who)
                    own = lambda token=token: token  # noqa: E731 - one token for each channel
                    self._channels[key] = self._cast.channel(service, caller, own)
                await self._send(self._channels[key], method, self._request(method))


def _serialized(request: Message | bytes) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


async def _one(request: Any) -> AsyncIterator[Any]:
    yield request


def _set(message: Any, path: list[str], value: str) -> bool:
    """Sets the text at `path`; lists and maps get one entry. False where no such text fits."""
    field = message.DESCRIPTOR.fields_by_name[path[0]]
    inner = field.message_type
    if inner is None:
        given = value if field.type == FieldDescriptor.TYPE_STRING else value.encode()
        if field.is_repeated:
            getattr(message, path[0]).append(given)
        else:
            setattr(message, path[0], given)
        return True
    if inner.GetOptions().map_entry:
        return _set_entry(getattr(message, path[0]), inner, path[1], value)
    within = getattr(message, path[0])
    return _set(within.add() if field.is_repeated else within, path[1:], value)


def _set_entry(entries: Any, entry: Any, part: str, value: str) -> bool:
    """One entry of a map, with `value` as its key or its value."""
    if entry.fields_by_name["value"].message_type is not None:
        return False
    holds_text = entry.fields_by_name["value"].type in TEXTS
    if part == "key":
        entries[value] = "petrol" if holds_text else 1
    else:
        entries["fuel"] = value
    return True
