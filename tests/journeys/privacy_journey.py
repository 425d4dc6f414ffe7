"""A holder's rights over the running suite: copies, erasures, and what the book says meanwhile."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import time
import uuid
import zipfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import account_service_pb2_grpc as account_grpc
from carbonaccount.identity.v1 import privacy_service_pb2 as pb
from carbonaccount.identity.v1 import privacy_service_pb2_grpc as pb_grpc
from google.protobuf.timestamp_pb2 import Timestamp

from services.launch.lane import send_lane
from tests.suite import BENCH, MAY_S, World, ride

DONE = pb.Operation.STATE_DONE
DAY_S = 86_400


class Holder:
    """The holder of an account, with the token of the one who opened it."""

    def __init__(self, world: World, account: str) -> None:
        self.world, self.account = world, account
        channel = world.clients.channel(
            "identity", "customer", "customers/demo", world.labels[account], account
        )
        self.privacy = pb_grpc.PrivacyServiceStub(channel)
        self.accounts = account_grpc.AccountServiceStub(channel)

    async def ask(self) -> str:
        asked = pb.ExportAccountDataRequest(name=self.account, request_id=str(uuid.uuid4()))
        return str((await self.privacy.ExportAccountData(asked)).operation.name)

    async def close_and_erase(self) -> Any:
        asked = account_pb.CloseAccountRequest(name=self.account, request_id=str(uuid.uuid4()))
        await self.accounts.CloseAccount(asked)
        erasing = pb.EraseAccountDataRequest(name=self.account, request_id=str(uuid.uuid4()))
        return (await self.privacy.EraseAccountData(erasing)).operation

    async def until_done(
        self, name: str, watch: Callable[[], None] = lambda: None, seconds: float = 60
    ) -> Any:
        """The operation once it is done; `watch` is called meanwhile, as a supervisor does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            watch()
            with suppress(grpc.aio.AioRpcError):  # identity may be down
                found = await self.privacy.GetOperation(pb.GetOperationRequest(name=name))
                if found.operation.state == DONE:
                    return found.operation
            await asyncio.sleep(0.05)
        raise AssertionError(f"{name} is not done after {seconds} s")

    async def download(self, name: str) -> bytes:
        stream = self.privacy.DownloadArchive(pb.DownloadArchiveRequest(name=name))
        return b"".join([piece.content async for piece in stream])


async def many_rides(world: World, account: str, count: int, lane: str) -> None:
    """So many rides of the account, over forty days, through the fast lane, until posted."""
    rides = [
        ride(account, f"{lane}-{n}", 1000 + n % 4000,
             occur_time=Timestamp(seconds=MAY_S + n % 40 * DAY_S + n // 40))
        for n in range(count)
    ]  # fmt: skip
    counts = await send_lane(world.clients.activities(BENCH), lane, rides, lambda _done, _all: None)
    assert counts["RECORDED"] == count, counts
    await world.until_posted()


def opened(archive: bytes) -> dict[str, bytes]:
    """The files of an archive, each of which is as its manifest says."""
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    listed = json.loads(files["manifest.json"])["files"]
    assert {one["name"] for one in listed} == set(files) - {
        "manifest.json", "manifest.jws", "keys.jwks"
    }  # fmt: skip
    for one in listed:
        content = files[one["name"]]
        assert (one["bytes"], one["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    return files


def records(files: dict[str, bytes], name: str) -> list[dict[str, Any]]:
    """The records of a table; its CSV has as many."""
    found: list[dict[str, Any]] = json.loads(files[f"{name}.json"])
    lines = csv.reader(io.StringIO(files[f"{name}.csv"].decode("utf-8-sig"), newline=""))
    assert len(list(lines)) == len(found) + 1, name
    return found
