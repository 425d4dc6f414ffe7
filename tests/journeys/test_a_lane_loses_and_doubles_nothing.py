"""The fast lane: offsets, windows, cuts, take-overs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio
import pytest
from carbonaccount.activity.v1 import activity_service_pb2 as pb

from services.launch.lane import send_lane
from services.launch.layout import Layout
from shared.rpc.status import reason_of
from tests.suite import BENCH, World, ride, tell

Request = pb.IngestActivitiesRequest


def opening(lane: str) -> Request:
    return Request(open=Request.Open(lane=lane))


def append(offset: int, reports: Iterable[pb.ActivityReport]) -> Request:
    return Request(append=Request.Append(offset=offset, activities=list(reports)))


async def exchange(world: World, *requests: Request) -> list[pb.IngestActivitiesResponse]:
    """The responses to these requests on one stream."""
    call: Any = world.clients.activities(BENCH).IngestActivities(iter(requests))  # type: ignore[arg-type]  # a plain iterator serves too
    return [response async for response in call]


def test_each_append_is_acknowledged_in_order_with_one_byte_an_item(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("lane-1")
        rides = [ride(account, f"l1-{n}") for n in range(6)]
        rides[4].region_code = "x"
        opened, first, second = await exchange(
            world, opening("l1"), append(0, rides[:3]), append(3, rides[3:])
        )
        assert (opened.opened.next_offset, first.ack.next_offset) == (0, 3)
        assert second.ack.next_offset == 6
        assert (first.ack.outcomes, second.ack.outcomes) == (bytes([1, 1, 1]), bytes([1, 3, 1]))
        assert [r.index for r in second.ack.refusals] == [1]
        assert reason_of(second.ack.refusals[0].status) == "FIELD_INVALID"
        await world.until_posted()
        assert await world.balance_mg(account) == 5 * 101_640

    tell(suite, story)


def test_an_append_below_next_offset_is_judged_again_and_credits_nothing_twice(
    suite: Layout,
) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("lane-2")
        rides = [ride(account, f"l2-{n}") for n in range(4)]
        await exchange(world, opening("l2"), append(0, rides))
        opened, again = await exchange(world, opening("l2"), append(1, rides[1:3]))
        assert opened.opened.next_offset == 4
        assert again.ack.outcomes == bytes([2, 2])
        assert again.ack.next_offset == 4
        await world.until_posted()
        assert await world.balance_mg(account) == 4 * 101_640

    tell(suite, story)


def test_an_append_above_next_offset_is_refused_and_the_stream_lives_on(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("lane-3")
        rides = [ride(account, f"l3-{n}") for n in range(2)]
        _, ahead, right = await exchange(
            world, opening("l3"), append(1, rides[1:]), append(0, rides)
        )
        assert reason_of(ahead.refusal) == "OFFSET_OUT_OF_RANGE"
        assert right.ack.outcomes == bytes([1, 1])

    tell(suite, story)


def test_opening_a_lane_ends_the_stream_that_had_it(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("lane-4")
        gate = asyncio.Event()

        async def slow() -> Any:
            yield opening("l4")
            await gate.wait()
            yield append(0, [ride(account, "l4-old")])

        stub = world.clients.activities(BENCH)
        old: Any = stub.IngestActivities(slow())
        first = await anext(aiter(old))
        assert first.opened.window > 0
        await exchange(world, opening("l4"), append(0, [ride(account, "l4-new")]))
        gate.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(old))
        assert reason_of(caught.value) == "LANE_TAKEN_OVER"
        await world.until_posted()
        assert await world.balance_mg(account) == 101_640

    tell(suite, story)


@pytest.mark.parametrize(
    "requests",
    [
        [append(0, [ride("accounts/0000000000001", "x")])],
        [opening("l5"), opening("l5")],
        [opening("")],
        [opening("l5"), append(-1, [ride("accounts/0000000000001", "x")])],
        [opening("l5"), append(0, [])],
    ],
    ids=["append first", "open twice", "no lane", "negative offset", "empty append"],
)
def test_a_stream_that_breaks_the_protocol_is_invalid(
    suite: Layout, requests: list[Request]
) -> None:
    async def story(world: World) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await exchange(world, *requests)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(caught.value) == "FIELD_INVALID"

    tell(suite, story)


def test_more_than_five_thousand_in_an_append_reach_the_named_limit(suite: Layout) -> None:
    async def story(world: World) -> None:
        many = [ride("accounts/0000000000001", "x")] * 5001
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await exchange(world, opening("l6"), append(0, many))
        assert reason_of(caught.value) == "LIMIT_REACHED"

    tell(suite, story)


def test_a_stream_cut_anywhere_is_resumed_without_loss_or_double(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("lane-7")
        rides = [ride(account, f"l7-{n}", 1000) for n in range(3000)]
        stub = world.clients.activities(BENCH)
        for cut in (0, 1, 2, 3):
            call: Any = stub.IngestActivities(
                iter([opening("l7"), *(append(at, rides[at : at + 500]) for at in (0, 500, 1000))])  # type: ignore[arg-type]  # a plain iterator serves too
            )
            seen = aiter(call)
            for _ in range(cut):
                await anext(seen)
            call.cancel()
        counts = await send_lane(stub, "l7", rides, lambda done, total: None)
        assert counts["RECORDED"] + counts["REPEATED"] == 3000
        await world.until_posted()
        assert await world.balance_mg(account) == 3000 * 33_880

    tell(suite, story)


def test_the_same_acts_through_two_lanes_at_once_count_once(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await world.open_account("lane-8")
        rides = [ride(account, f"l8-{n}", 1000) for n in range(2000)]
        stub = world.clients.activities(BENCH)
        first, second = await asyncio.gather(
            send_lane(stub, "l8-a", rides, lambda done, total: None),
            send_lane(stub, "l8-b", list(reversed(rides)), lambda done, total: None),
        )
        assert first["RECORDED"] + second["RECORDED"] == 2000
        assert first["REPEATED"] + second["REPEATED"] == 2000
        await world.until_posted()
        assert await world.balance_mg(account) == 2000 * 33_880

    tell(suite, story)
