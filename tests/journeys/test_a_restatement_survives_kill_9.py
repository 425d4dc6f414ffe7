"""A factor is corrected for days gone by; kill -9 in the middle loses and doubles nothing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import pytest
from carbonaccount.calculation.v1 import assessment_service_pb2 as assessment_pb
from carbonaccount.calculation.v1 import assessment_service_pb2_grpc as assessment_grpc
from carbonaccount.calculation.v1 import methodology_service_pb2 as pb
from carbonaccount.calculation.v1 import methodology_service_pb2_grpc as pb_grpc
from carbonaccount.calculation.v1 import restatement_service_pb2 as restatement_pb
from carbonaccount.calculation.v1 import restatement_service_pb2_grpc as restatement_grpc

from services.launch.layout import CHECKOUT
from services.launch.supervisor import Supervisor
from shared.storage.embedded import EmbeddedPostgres
from tests.suite import BENCH, World, ride, running_suite, tell

FILE = "hello-2022.toml"
REASON_ZH, REASON_EN = "运营方更正了因子", "the operator corrected its factor"


def corrected() -> str:
    """Hello's file, whose first version ends after a day; from then on 34 g a kilometre."""
    text = (CHECKOUT / "services/calculation/methodologies" / FILE).read_text("utf-8")
    head, mark, version = text.partition("[[version]]")
    first = version.replace('id = "1"', 'id = "1"\nend_date = 2022-07-22', 1)
    second = version.replace('id = "1"', 'id = "2"', 1).replace("2022-07-21", "2022-07-22", 1)
    second = second.replace('"33.88"', '"34"').replace("101_640", "102_000")
    return f"{head}{mark}{first}\n{mark}{second}"


async def published(world: World) -> str:
    """The restatement that publishing the correction begins."""
    drafter, publisher = (
        pb_grpc.MethodologyServiceStub(world.clients.channel("calculation", "operator", name))
        for name in ("operators/drafter", "operators/publisher")
    )
    file = pb.LibraryFile(path=FILE, content=corrected())
    request = pb.DraftLibraryFileRequest(file=file, request_id=str(uuid4()))
    name = (await drafter.DraftLibraryFile(request)).draft.name
    await publisher.ReviewLibraryDraft(pb.ReviewLibraryDraftRequest(name=name))
    answer = await publisher.PublishLibraryDraft(
        pb.PublishLibraryDraftRequest(
            name=name, reason_zh=REASON_ZH, reason_en=REASON_EN, request_id=str(uuid4())
        )
    )
    return str(answer.restatement)


async def until_done(world: World, name: str, supervisor: Supervisor, kills: int) -> Any:
    """The restatement when it is done; calculation and settlement are killed on the way."""
    chance = random.Random("restatement")
    channel = world.clients.channel("calculation", "operator", "operators/publisher")
    stub = restatement_grpc.RestatementServiceStub(channel)
    for _ in range(600):
        if kills:
            victim = chance.choice(("calculation-0", "calculation-0", "settlement-0"))
            with suppress(ProcessLookupError):  # the one killed before may still be down
                os.kill(supervisor.pids()[victim], signal.SIGKILL)
                kills -= 1
        await asyncio.sleep(chance.uniform(0.02, 0.3))
        supervisor.watch()
        try:
            found = await stub.GetRestatement(restatement_pb.GetRestatementRequest(name=name))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            continue
        if found.restatement.done and not kills:
            return found.restatement
    raise AssertionError(f"{name} was not done in time")


@pytest.mark.timeout(180)
def test_every_balance_moves_once_and_every_customer_reads_why(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    async def story(world: World, supervisor: Supervisor) -> None:
        accounts = [await world.open_account(f"restated-{n}") for n in range(6)]
        for number in range(60):
            await world.record(ride(accounts[number % 6], f"r-{number}", 1000 + number), BENCH)
        await world.until_posted()
        before = [await world.balance_mg(account) for account in accounts]
        name = await published(world)
        restatement = await until_done(world, name, supervisor, kills=4)
        await world.until_posted()
        metres = [[1000 + n for n in range(60) if n % 6 == place] for place in range(6)]
        assert before == [sum(metre * 3388 // 100 for metre in own) for own in metres]
        after = [await world.balance_mg(account) for account in accounts]
        assert after == [sum(metre * 34 for metre in own) for own in metres]
        assert (restatement.acts, restatement.changed) == (60, 60)
        assert restatement.gained - restatement.lost == sum(after) - sum(before)
        for place, account in enumerate(accounts):
            await reads_why(world, account, after[place] - before[place])

    with running_suite(postgres, tmp_path, prefix="restated") as supervisor:
        tell(supervisor.layout, lambda world: story(world, supervisor))


async def reads_why(world: World, account: str, delta: int) -> None:
    channel = world.clients.channel("calculation", "operator", "operators/publisher")
    stub = restatement_grpc.RestatementServiceStub(channel)
    told = await stub.ListRestatedMonths(restatement_pb.ListRestatedMonthsRequest(parent=account))
    (month,) = told.months
    assert (month.delta, month.acts, month.month.month) == (delta, 10, 5)
    assert month.sentence_en.endswith(f"(10 acts) because: {REASON_EN}.")
    assert REASON_ZH in month.sentence_zh
    assessments = assessment_grpc.AssessmentServiceStub(channel)
    newest = await assessments.GetAssessment(
        assessment_pb.GetAssessmentRequest(name=f"{account}/assessments/1")
    )
    assert newest.assessment.methodology_version == "methodologies/hello-2022/versions/2"
    assert newest.assessment.superseding
