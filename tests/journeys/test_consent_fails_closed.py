"""While activity cannot know the consents in force, nothing is taken and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from carbonaccount.activity.v1 import activity_service_pb2 as pb

from shared.rpc.status import reason_of
from shared.storage.embedded import EmbeddedPostgres
from tests.suite import BENCH, World, refusal, ride, running_suite, tell

Request = pb.IngestActivitiesRequest


@pytest.mark.timeout(120)
def test_while_identity_is_silent_appends_are_refused_whole_and_go_on_afterwards(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    with running_suite(postgres, tmp_path, prefix="closed") as supervisor:
        identity = supervisor.pids()["identity-0"]

        async def story(world: World) -> None:
            account = await world.open_account("fails-closed")
            rides = [ride(account, f"closed-{n}") for n in range(3)]
            gate: asyncio.Queue[Request | None] = asyncio.Queue()

            async def requests() -> Any:
                while (request := await gate.get()) is not None:
                    yield request

            call: Any = world.clients.activities(BENCH).IngestActivities(requests())
            answers = aiter(call)

            async def send(offset: int, *reports: pb.ActivityReport) -> Any:
                append = Request.Append(offset=offset, activities=reports)
                await gate.put(Request(append=append))
                return await anext(answers)

            await gate.put(Request(open=Request.Open(lane="closed")))
            assert (await anext(answers)).opened.next_offset == 0
            assert (await send(0, rides[0])).ack.outcomes == bytes([1])
            os.kill(identity, signal.SIGSTOP)
            try:
                await asyncio.sleep(2)  # the bound is 1.5 s
                bad = ride(account, "closed-bad", metres=-1)
                refused = await send(1, rides[1], bad)
                # The whole append, not its items: the bad one is not judged either.
                assert refused.WhichOneof("message") == "refusal"
                assert reason_of(refused.refusal) == "RETRY_LATER"
                single = world.record(rides[2], BENCH)
                assert await refusal(single) == ("UNAVAILABLE", "RETRY_LATER")
            finally:
                os.kill(identity, signal.SIGCONT)
            await world.until_followed("activity", "identity")
            for _ in range(100):
                answer = await send(1, rides[1], bad)
                if answer.HasField("ack"):
                    break
                await asyncio.sleep(0.1)
            assert answer.ack.outcomes == bytes([1, 3])
            assert answer.ack.next_offset == 3
            await gate.put(None)
            await world.until_posted()
            assert await world.balance_mg(account) == 2 * 101_640

        tell(supervisor.layout, story)
