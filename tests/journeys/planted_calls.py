"""Calls that plant: every sensitive text of a request is filled where the caller left it empty,
and all that goes out and comes back is remembered with who saw it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.launch.layout import Layout
from shared.rpc.channel import open_channel
from shared.rpc.redaction import is_sensitive
from shared.rpc.tokens import load_or_make_key, make_token
from tests.journeys.planted_fields import IN_CLEAR, TEXTS, label
from tests.journeys.planted_values import WORD, Planted, chinese, order_number, region, word

SHAPES: dict[str, Callable[[], str]] = {
    "Account.region_code": region,
    "CreateHouseholdRequest.region_code": region,
    "Account.display_name": chinese,
    "CreateHouseholdRequest.display_name": chinese,
    "SplitHouseholdRequest.display_name": chinese,
    "ActivityReport.source_event_id": order_number,
}
"""What a value of a field looks like; other fields take a word."""
NEVER_FILLED = {
    "ActivityReport.claim": "most scenes take none",
    "ActivityReport.subject": "systems of the bank give none, and partners one that is bound",
}
"""Sensitive texts that are good only where the caller set them."""


@dataclass(frozen=True)
class Said:
    """One answer or refusal: of which method, to whom, and all its bytes."""

    method: str
    kind: str
    who: str
    content: bytes


@dataclass
class Evidence:
    """What was planted, and everything that came back."""

    planted: Planted = field(default_factory=Planted)
    answers: list[Said] = field(default_factory=list)
    errors: list[Said] = field(default_factory=list)


@dataclass(frozen=True)
class Caller:
    """Who calls: the kind in the token, and whose values it may see."""

    kind: str
    who: str


class Cast:
    """Channels for every caller of a suite; each remembers what passes."""

    def __init__(self, layout: Layout, evidence: Evidence) -> None:
        self.layout = layout
        self.evidence = evidence
        self.key = load_or_make_key(layout.keys)
        self._open: list[Any] = []

    def channel(self, service: str, caller: Caller, token: Callable[[], str] | None) -> Any:
        """A channel that calls as `caller` with that token, and repeats nothing by itself."""
        inner = open_channel(self.layout.listen(service), token=token)
        self._open.append(inner)
        return Remembering(inner, caller, self.evidence)

    def staff(self, service: str, kind: str, name: str) -> Any:
        """A program or a member of staff, by a token of development."""
        token = make_token(self.key, kind, name, lifetime_s=3600)
        return self.channel(service, Caller(kind, name), lambda: token)

    async def close(self) -> None:
        """Closes every channel."""
        for channel in self._open:
            await channel.close()


class Remembering:
    """A channel, as generated stubs use it; pieces of a stream are answers each."""

    def __init__(self, channel: Any, caller: Caller, evidence: Evidence) -> None:
        self._channel = channel
        self._caller = caller
        self._evidence = evidence

    def unary_unary(self, path: str, **options: Any) -> Any:
        start = self._channel.unary_unary(path, **options)

        async def call(request: Any, **more: Any) -> Any:
            sent = self._sent(request)
            try:
                answer = await start(request, **more)
            except grpc.aio.AioRpcError as error:
                raise self._refused(path, error) from None
            return self._answered(path, answer, sent)

        return call

    def unary_stream(self, path: str, **options: Any) -> Any:
        start = self._channel.unary_stream(path, **options)

        async def call(request: Any, **more: Any) -> AsyncIterator[Any]:
            sent = self._sent(request)
            try:
                async for answer in start(request, **more):
                    yield self._answered(path, answer, sent)
            except grpc.aio.AioRpcError as error:
                raise self._refused(path, error) from None

        return call

    def stream_stream(self, path: str, **options: Any) -> Any:
        start = self._channel.stream_stream(path, **options)

        async def call(requests: Any, **more: Any) -> AsyncIterator[Any]:
            sent: list[str] = []

            async def passed() -> AsyncIterator[Any]:
                async for request in requests:
                    sent.extend(self._sent(request))
                    yield request

            try:
                async for answer in start(passed(), **more):
                    yield self._answered(path, answer, sent)
            except grpc.aio.AioRpcError as error:
                raise self._refused(path, error) from None

        return call

    def stream_unary(self, path: str, **options: Any) -> Any:
        return self._channel.stream_unary(path, **options)

    def _sent(self, request: Any) -> list[str]:
        """Fills and notes what is personal of a request; bytes were noted by whoever made them."""
        if not isinstance(request, Message):
            return []
        fill(request)
        return self._note(request)

    def _note(self, message: Message, *, made_here: bool = False) -> list[str]:
        """What was sent is the sender's; what comes back is the reader's where it is new."""
        planted, who = self._evidence.planted, self._caller.who
        told = [(at, telling(text)) for at, text in personal(message)]
        return [
            planted.note(text, at, who, taken=made_here)
            for at, text in told
            if not made_here or text not in planted.values
        ]

    def _answered(self, path: str, answer: Any, sent: list[str]) -> Any:
        for text in sent:
            if text in self._evidence.planted.values:
                self._evidence.planted.values[text].taken = True
        content = answer
        if isinstance(answer, Message):
            self._note(answer, made_here=True)
            content = answer.SerializeToString()
        self._evidence.answers.append(Said(path, self._caller.kind, self._caller.who, content))
        return answer

    def _refused(self, path: str, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """Everything that the status says, as texts and as bytes."""
        trailing = [
            value if isinstance(value, bytes) else str(value).encode()
            for _, value in error.trailing_metadata() or ()
        ]
        content = b"\n".join([(error.details() or "").encode(), *trailing])
        self._evidence.errors.append(Said(path, self._caller.kind, self._caller.who, content))
        return error


def fill(message: Message) -> None:
    """Gives a value to every sensitive text that is not set, in every message that is."""
    for at in message.DESCRIPTOR.fields:
        if at.is_repeated or at.type not in TEXTS or not is_sensitive(at):
            continue
        if label(at) not in NEVER_FILLED and not getattr(message, at.name):
            text = SHAPES.get(label(at), word)()
            given = text if at.type == FieldDescriptor.TYPE_STRING else text.encode()
            setattr(message, at.name, given)
    for _, inner in _inner(message):
        fill(inner)


def telling(text: str) -> str:
    """The part of a value that nothing else has: its planted word, or a token's signature."""
    found = WORD.search(text)
    if found:
        return found[0]
    return text.rpartition(".")[2] if text.startswith("eyJ") else text


def personal(message: Message) -> Iterator[tuple[str, str]]:
    """Label and text of what may name a person in a message: marked sensitive, or free words."""
    for at, value in message.ListFields():
        if at.type == FieldDescriptor.TYPE_STRING and (is_sensitive(at) or label(at) in IN_CLEAR):
            yield from ((label(at), text) for text in (value if at.is_repeated else [value]))
    for _, inner in _inner(message):
        yield from personal(inner)


def _inner(message: Message) -> Iterator[tuple[FieldDescriptor, Message]]:
    for at, value in message.ListFields():
        if at.message_type is None or at.message_type.GetOptions().map_entry:
            continue
        for one in value if at.is_repeated else [value]:
            yield at, one
