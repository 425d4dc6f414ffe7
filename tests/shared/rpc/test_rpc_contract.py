"""Rules on fields, checked before a servicer is reached."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.options.v1 import options_pb2
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.rpc import error_details_pb2
from rpc_house import details_of, field_of, house, message_of, refused

from shared.refusal import FieldInvalid, LimitReached, Refusal
from shared.rpc.contract import ITEMS_MAX, TEXT_MAX, check_of

C = grpc.StatusCode
F = descriptor_pb2.FieldDescriptorProto


def _shapes() -> Any:
    """A message with a field of every kind that has a rule."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/shapes.proto", package="carbonaccount.tests.v1", syntax="proto3",
        dependency=["google/protobuf/timestamp.proto"],
    )  # fmt: skip
    shape = file.message_type.add(name="Shape")
    entry = shape.nested_type.add(name="LabelsEntry")
    entry.options.map_entry = True
    for number, name in ((1, "key"), (2, "value")):
        entry.field.add(name=name, number=number, type=F.TYPE_STRING, label=F.LABEL_OPTIONAL)

    def field(name: str, kind: int, label: int = F.LABEL_OPTIONAL, **more: Any) -> Any:
        return shape.field.add(
            name=name, number=len(shape.field) + 1, type=kind, label=label, **more
        )

    package = ".carbonaccount.tests.v1.Shape"
    field("text", F.TYPE_STRING).options.Extensions[options_pb2.max_length] = 3
    field("data", F.TYPE_BYTES)
    field("texts", F.TYPE_STRING, F.LABEL_REPEATED).options.Extensions[options_pb2.max_length] = 3
    field("labels", F.TYPE_MESSAGE, F.LABEL_REPEATED, type_name=f"{package}.LabelsEntry")
    field("inner", F.TYPE_MESSAGE, type_name=package)
    field("items", F.TYPE_MESSAGE, F.LABEL_REPEATED, type_name=package)
    field("at", F.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp")
    count = field("count", F.TYPE_INT64, proto3_optional=True, oneof_index=0)
    shape.oneof_decl.add(name="_count")
    required = count.options.Extensions[field_behavior_pb2.field_behavior]
    required.append(field_behavior_pb2.REQUIRED)
    made = field("made", F.TYPE_STRING).options.Extensions[field_behavior_pb2.field_behavior]
    made.append(field_behavior_pb2.OUTPUT_ONLY)
    descriptor_pool.Default().Add(file)
    return message_of("carbonaccount.tests.v1.Shape")


Shape = _shapes()


def verdict(**fields: Any) -> Refusal | None:
    """What the rules say of a shape, whose required count is 0."""
    shape = Shape(**{"count": 0, **fields})
    try:
        check_of(Shape.DESCRIPTOR)(shape)
    except Refusal as refusal:
        return refusal
    return None


def fault(**fields: Any) -> Refusal:
    """The refusal of a shape that breaks a rule."""
    refusal = verdict(**fields)
    assert refusal is not None
    return refusal


def test_a_required_number_may_be_zero_but_not_missing() -> None:
    assert verdict() is None
    assert isinstance(verdict(count=None), FieldInvalid)


def test_a_text_may_be_as_long_as_its_rule_and_no_longer() -> None:
    assert verdict(text="低碳行") is None
    assert fault(text="低碳行动").field == "text"
    assert verdict(data=b"x" * TEXT_MAX) is None
    assert fault(data=b"x" * (TEXT_MAX + 1)).field == "data"


def test_texts_in_lists_and_maps_have_the_same_limit() -> None:
    assert verdict(texts=["abc", "abc"]) is None
    assert fault(texts=["abc", "abcd"]).field == "texts"
    long = "x" * (TEXT_MAX + 1)
    assert verdict(labels={"a": "b"}) is None
    for labels in ({long: "b"}, {"a": long}):
        assert fault(labels=labels).field == "labels"


def test_lists_and_maps_are_counted() -> None:
    assert verdict(texts=["a"] * ITEMS_MAX, labels={str(n): "" for n in range(ITEMS_MAX)}) is None
    refusal = verdict(texts=["a"] * (ITEMS_MAX + 1))
    assert isinstance(refusal, LimitReached)
    assert refusal.metadata == {"limit": "texts items", "value": str(ITEMS_MAX)}
    assert isinstance(verdict(labels={str(n): "" for n in range(ITEMS_MAX + 1)}), LimitReached)


def test_a_field_of_a_sub_message_is_named_by_its_path() -> None:
    assert verdict(inner=Shape(count=0, inner=Shape(count=0))) is None
    refusal = fault(inner=Shape(count=0, inner=Shape(count=0, text="abcd")))
    assert refusal.field == "inner.inner.text"
    assert refusal.message.startswith("inner.inner.text is 4 long")
    refusal = fault(inner=Shape(count=0, texts=["a"] * (ITEMS_MAX + 1)))
    assert refusal.metadata["limit"] == "inner.texts items"


def test_items_of_a_batch_are_left_to_the_service() -> None:
    assert verdict(items=[Shape(text="much too long")]) is None


@pytest.mark.parametrize("seconds", [-62_135_596_800, 0, 253_402_300_799])
def test_moments_of_the_years_1_to_9999_are_taken(seconds: int) -> None:
    assert verdict(at={"seconds": seconds, "nanos": 999_999_999}) is None


@pytest.mark.parametrize(
    "at", [{"seconds": -62_135_596_801}, {"seconds": 253_402_300_800}, {"nanos": -1},
           {"nanos": 1_000_000_000}, {"seconds": 2**63 - 1}]
)  # fmt: skip
def test_what_is_no_moment_is_refused(at: dict[str, int]) -> None:
    assert fault(at=at).field == "at"


def test_what_only_the_server_writes_is_cleared() -> None:
    shape = Shape(count=0, made="by me", inner=Shape(count=0, made="by me"))
    check_of(Shape.DESCRIPTOR)(shape)
    assert (shape.made, shape.inner.made) == ("", "")


def test_a_server_refuses_what_breaks_a_rule_and_names_the_field(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            call = h.account_stub.LookUpAccount(pb.LookUpAccountRequest(), **h.service)
            code, reason, status = await refused(call)
            assert (code, reason) == (C.INVALID_ARGUMENT, "FIELD_INVALID")
            assert field_of(status) == "customer_ref"
            request = pb.OpenAccountRequest(request_id="r")
            request.account.display_name = "x" * 65
            _, _, status = await refused(h.account_stub.OpenAccount(request, **h.customer()))
            assert field_of(status) == "account.display_name"
            request.account.display_name, request.account.state = "x" * 64, 2
            await h.account_stub.OpenAccount(request, **h.customer())
            assert h.accounts.seen[0][1].account.state == 0

    asyncio.run(run())


def test_each_message_of_a_stream_is_checked(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            lane = h.activity_stub.IngestActivities(**h.call("source", "sources/bike"))
            append = activity_pb.IngestActivitiesRequest()
            append.append.offset = 7
            append.append.activities.add()
            await lane.write(append)
            assert (await lane.read()).ack.next_offset == 7
            append.append.activities.extend([activity_pb.ActivityReport()] * 5000)
            await lane.write(append)
            code, reason, status = await refused(lane.read())
            assert (code, reason) == (C.RESOURCE_EXHAUSTED, "LIMIT_REACHED")
            assert field_of(status) == "append.activities"

    asyncio.run(run())


def test_bytes_that_do_not_parse_are_a_field_fault_in_every_shape(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            root, bad = "/carbonaccount.identity.v1.AccountService", b"\xff\xff\xff"
            calls = [
                h.raw(f"{root}/LookUpAccount")(bad, **h.service),
                h.raw(f"{root}/WatchAccounts", "unary_stream")(bad, **h.service),
                h.raw(
                    "/carbonaccount.activity.v1.ActivityService/IngestActivities", "stream_stream"
                )(iter([bad]), **h.call("source", "sources/bike")),
            ]
            for call in calls:
                code, reason, _ = await refused(call)
                assert (code, reason) == (C.INVALID_ARGUMENT, "FIELD_INVALID")
            await h.account_stub.LookUpAccount(
                pb.LookUpAccountRequest(customer_ref="x", purpose="a test"), **h.service
            )
            bad_utf8 = h.raw(f"{root}/LookUpAccount")(b"\x0a\x02\xc3\x28", **h.service)
            assert (await refused(bad_utf8))[1] == "FIELD_INVALID"

    asyncio.run(run())


def test_health_and_reflection_refuse_bytes_that_do_not_parse(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            health = "/grpc.health.v1.Health"
            mirror = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            for call in (
                h.raw(f"{health}/Check")(b"\xff", timeout=10),
                h.raw(f"{health}/Watch", "unary_stream")(b"\xff", timeout=10),
                h.raw(mirror, "stream_stream")(iter([b"\xff"]), timeout=10),
            ):
                assert (await refused(call))[0] == C.INVALID_ARGUMENT

    asyncio.run(run())


def test_five_megabytes_meet_our_limit_and_nine_the_library_s(tmp_path: Path) -> None:
    async def run() -> None:
        async with house(tmp_path) as h:
            request = pb.LookUpAccountRequest(customer_ref="x" * 5_000_000, purpose="a")
            code, reason, status = await refused(h.account_stub.LookUpAccount(request, **h.service))
            assert (code, reason) == (C.INVALID_ARGUMENT, "FIELD_INVALID")
            assert details_of(status, error_details_pb2.BadRequest)
            request = pb.LookUpAccountRequest(customer_ref="x" * 9_000_000, purpose="a")
            code, reason, _ = await refused(h.account_stub.LookUpAccount(request, **h.service))
            assert (code, reason) == (C.RESOURCE_EXHAUSTED, "")

    asyncio.run(run())
