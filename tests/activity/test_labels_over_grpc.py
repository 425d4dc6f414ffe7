"""What a partner, a customer and a sibling service see of a label."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

import grpc.aio
import pytest
from carbonaccount.activity.v1 import activity_service_pb2 as pb
from carbonaccount.activity.v1 import activity_service_pb2_grpc as activity_grpc
from carbonaccount.activity.v1 import scene_service_pb2 as scene_pb
from carbonaccount.activity.v1 import scene_service_pb2_grpc as scene_grpc
from carbonaccount.type.v1.cursor_pb2 import ShardCursor

from services.launch.lane import send_lane
from services.launch.layout import Layout
from shared.ids import account_id_of, shard_of
from shared.rpc.status import reason_of
from tests.suite import METRO, World, refusal, ride, tell

MOBILITY = "sources/mobility-demo"
INVALID = ("INVALID_ARGUMENT", "FIELD_INVALID")


def drive(rider: str, event: str, **more: Any) -> pb.ActivityReport:
    """A ride by electric car that replaced one by diesel."""
    fields: dict[str, Any] = {
        "subject": f"{MOBILITY}/subjects/{rider}",
        "scene": "scenes/ev-ride",
        "labels": {"fuel": "diesel"},
    }
    return ride("", event, **{**fields, **more})


async def open_rider(world: World, label: str) -> str:
    """An account that the mobility app's user of that label is bound to."""
    return await world.open_account(label, partners=(MOBILITY,))


def test_a_word_is_shown_to_whoever_reads_the_activity(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await open_rider(world, "shown")
        made = await world.record(drive("shown", "shown-1"), MOBILITY)
        channel = world.clients.channel("activity", "customer", "c", "shown", account)
        stub = activity_grpc.ActivityServiceStub(channel)
        name = made.activity.replace(MOBILITY, account)
        one = await stub.GetActivity(pb.GetActivityRequest(name=name))
        assert dict(one.activity.labels) == {"fuel": "diesel"}
        walk = {"scene": "scenes/walk", "labels": {}, "measures": {"count": 7250}}
        await world.record(drive("shown", "shown-2", **walk), MOBILITY)
        page = await stub.ListActivities(pb.ListActivitiesRequest(parent=account))
        shown = {activity.scene: dict(activity.labels) for activity in page.activities}
        assert shown == {"scenes/ev-ride": {"fuel": "diesel"}, "scenes/walk": {}}

    tell(suite, story)


def test_a_sibling_gets_codes_and_what_they_mean(suite: Layout) -> None:
    async def story(world: World) -> None:
        account = await open_rider(world, "watched")
        await world.record(drive("watched", "watched-1"), MOBILITY)
        mine, shard = account_id_of(account).to_bytes(8), shard_of(account_id_of(account))
        stub = activity_grpc.ActivityServiceStub(world.clients.sibling("activity"))
        call = stub.WatchActivities(
            pb.WatchActivitiesRequest(cursors=[ShardCursor(shard=shard, position=0)])
        )
        meanings: dict[int, tuple[str, list[str]]] = {}
        codes = b""
        async for response in call:
            meanings |= {s.code: (s.label, list(s.label_values)) for s in response.scenes}
            for run in response.runs:
                accounts = [run.account_id[at : at + 8] for at in range(0, 8 * run.count, 8)]
                if mine in accounts:
                    place = accounts.index(mine)
                    codes = run.label_1[2 * place : 2 * place + 2]
            if codes:
                break
        call.cancel()
        assert codes == b"\0\2"
        assert meanings[7] == ("fuel", ["petrol", "diesel"])
        assert meanings[1] == ("", [])

    tell(suite, story)


def test_the_catalogue_says_which_words_a_scene_takes(suite: Layout) -> None:
    async def story(world: World) -> None:
        stub = scene_grpc.SceneServiceStub(world.clients.operator("activity"))
        scenes = (await stub.ListScenes(scene_pb.ListScenesRequest())).scenes
        labels = {scene.name: scene.label for scene in scenes if scene.HasField("label")}
        assert list(labels) == ["scenes/ev-ride"]
        fuel = labels["scenes/ev-ride"]
        assert (fuel.name, fuel.required) == ("fuel", True)
        assert list(fuel.values) == ["petrol", "diesel"]

    tell(suite, story)


BAD: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "no word": ({"labels": {}}, INVALID),
    "an unknown word": ({"labels": {"fuel": "coal"}}, INVALID),
    "an unknown label": ({"labels": {"mode": "petrol"}}, INVALID),
    "a word of five megabytes": ({"labels": {"fuel": "x" * 5_000_000}}, INVALID),
    "two labels": (
        {"labels": {"fuel": "petrol", "mode": "x"}},
        ("RESOURCE_EXHAUSTED", "LIMIT_REACHED"),
    ),
    "a word for a scene without": ({"scene": "scenes/walk", "measures": {"count": 1}}, INVALID),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_word_is_refused_alone_and_in_a_batch_for_one_reason(
    suite: Layout, what: str
) -> None:
    more, expected = BAD[what]

    async def story(world: World) -> None:
        await open_rider(world, "bad-words")
        event = uuid.uuid4().hex
        assert await refusal(world.record(drive("bad-words", event, **more), MOBILITY)) == expected
        reports = [drive("bad-words", event, **more), drive("bad-words", f"{event}-good")]
        response = await world.clients.activities(MOBILITY).BatchRecordActivities(
            pb.BatchRecordActivitiesRequest(activities=reports)
        )
        bad, good = response.outcomes
        assert good.activity
        assert reason_of(bad.refusal) == expected[1]
        assert grpc.StatusCode[expected[0]].value[0] == bad.refusal.code

    tell(suite, story)


def test_a_lane_takes_words_and_refuses_another_word_for_the_same_event(suite: Layout) -> None:
    async def story(world: World) -> None:
        await open_rider(world, "lane")
        reports = [
            drive("lane", "lane-1"),
            drive("lane", "lane-1"),
            drive("lane", "lane-1", labels={"fuel": "petrol"}),
            drive("lane", "lane-2", labels={"fuel": "petrol"}),
            drive("lane", "lane-3", labels={"fuel": "coal"}),
        ]
        stub = world.clients.activities(MOBILITY)
        counts = await send_lane(stub, "words", reports, lambda done, total: None)
        assert counts == Counter(RECORDED=2, REPEATED=1, RESOURCE_EXISTS=1, FIELD_INVALID=1)

    tell(suite, story)


def test_another_word_for_an_event_is_other_content(suite: Layout) -> None:
    async def story(world: World) -> None:
        await open_rider(world, "conflict")
        made = await world.record(drive("conflict", "conflict-1"), MOBILITY)
        again = await world.record(drive("conflict", "conflict-1"), MOBILITY)
        assert (again.activity, again.repeated_event) == (made.activity, True)
        other = drive("conflict", "conflict-1", labels={"fuel": "petrol"})
        assert await refusal(world.record(other, MOBILITY)) == ("ALREADY_EXISTS", "RESOURCE_EXISTS")
        taken = await world.clients.activities(MOBILITY).WithdrawActivity(
            pb.WithdrawActivityRequest(name=made.activity, cause="wrong car")
        )
        assert dict(taken.activity.labels) == {"fuel": "diesel"}

    tell(suite, story)


def test_a_source_of_another_scene_may_not_report_it(suite: Layout) -> None:
    async def story(world: World) -> None:
        await open_rider(world, "other-source")
        outcome = await refusal(world.record(drive("other-source", "other-1"), METRO))
        assert outcome == ("FAILED_PRECONDITION", "SCENE_NOT_GRANTED")

    tell(suite, story)
