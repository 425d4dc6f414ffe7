"""Consents: how fast they are checked, and how soon a withdrawal bites in mid-stream."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.activity.v1 import activity_service_pb2_grpc as activity_grpc
from carbonaccount.identity.v1 import consent_service_pb2 as pb
from carbonaccount.identity.v1 import consent_service_pb2_grpc as pb_grpc
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.bench.pipeline import WINDOW, paced
from deploy.bench.world import FIRST_OCCUR_S, SCENE, SOURCE, World, appends
from services.launch.clients import Clients

SCOPE = "scopes/travel-collect"
CHECKS = 5_000
BOUND_S = 2.0
PROBED = 40  # accounts that are probed at once; each is withdrawn at a moment of its own
PROBE_EVERY_S = 0.02
_RECORDED = 1


def checks_per_s(world: World, seconds: float) -> tuple[float, float]:
    """Checks a second by one caller, one batch of 5,000 after the other: as columns, as items."""
    return asyncio.run(_checks(world, seconds))


async def _checks(world: World, seconds: float) -> tuple[float, float]:
    clients = Clients(world.layout)
    stub = pb_grpc.ConsentServiceStub(clients.sibling("identity"))
    chosen = np.random.default_rng(11).choice(len(world.ids), CHECKS, replace=False)
    numbers = np.array([world.ids[place] for place in chosen], ">i8")
    moments = np.full(CHECKS, FIRST_OCCUR_S * 1_000_000, ">i8")
    columns = pb.BatchCheckConsentsRequest(
        columns=pb.BatchCheckConsentsRequest.Columns(
            scope=SCOPE, account_id=numbers.tobytes(), occur_time_us=moments.tobytes()
        )
    )
    items = pb.BatchCheckConsentsRequest(
        checks=[
            pb.BatchCheckConsentsRequest.Check(
                account=world.names[place], scope=SCOPE, occur_time=Timestamp(seconds=FIRST_OCCUR_S)
            )
            for place in chosen
        ]
    )
    rates = []
    for request in (columns, items):
        answer = await stub.BatchCheckConsents(request)
        covered = answer.verdicts.count(1) or sum(bool(one.consent) for one in answer.answers)
        if covered != CHECKS:
            raise RuntimeError(f"{CHECKS - covered} of {CHECKS} checks are not covered")
        started, count = time.monotonic(), 0
        while time.monotonic() - started < seconds:
            await stub.BatchCheckConsents(request)
            count += CHECKS
        rates.append(count / (time.monotonic() - started))
    await clients.close()
    return rates[0], rates[1]


@dataclass
class Withdrawn:
    """How long after each withdrawal was answered the last act of that account was accepted."""

    late_ms: list[float] = field(default_factory=list)
    after_bound: int = 0
    acts: int = 0

    @property
    def p99_ms(self) -> float:
        """The 99th of a hundred."""
        return sorted(self.late_ms)[max(0, round(0.99 * len(self.late_ms)) - 1)]


def withdraw_in_mid_stream(world: World, first: int, per_s: float, rounds: int) -> Withdrawn:
    """Probes accounts of the end of the world while others send `per_s` acts a second."""
    found = Withdrawn()
    asyncio.run(_withdraw(world, first, per_s, rounds, found))
    return found


async def _withdraw(world: World, first: int, per_s: float, rounds: int, found: Withdrawn) -> None:
    seconds = rounds * (BOUND_S + 3) + 5
    acts = round(per_s * seconds / 500) * 500
    load = asyncio.create_task(
        paced(world, list(appends(world, first, acts, 500)), "withdrawal-load", per_s, 500)
    )
    await asyncio.sleep(1)
    for turn in range(rounds):
        names = world.names[-(turn + 1) * PROBED : -turn * PROBED or None]
        await _Probe(world, names, turn).run(found)
    await load


class _Probe:
    """One round: an act of every probed account every 20 ms, on a lane of its own."""

    def __init__(self, world: World, names: list[str], turn: int) -> None:
        self._world = world
        self._names = names
        self._turn = turn
        self._clients = Clients(world.layout)
        self._revoked_s: dict[str, float] = {}
        self._sent_s: list[float] = []
        self._late_s = dict.fromkeys(names, 0.0)
        self._room = asyncio.Semaphore(WINDOW)

    async def run(self, found: Withdrawn) -> None:
        """Withdraws each account within a second, and probes until a second after the bound."""
        ends = [asyncio.create_task(self._revoke(name)) for name in self._names]
        stub = activity_grpc.ActivityServiceStub(
            self._clients.channel("activity", "source", SOURCE)
        )
        answered = -1
        call = stub.IngestActivities(self._requests())
        async for response in call:
            if answered >= 0:
                self._judge(response, self._sent_s[answered], found)
                self._room.release()
            answered += 1
        await asyncio.gather(*ends)
        found.late_ms += [late * 1000 for late in self._late_s.values()]
        await self._clients.close()

    async def _requests(self) -> AsyncIterator[activity_pb.IngestActivitiesRequest]:
        opened = activity_pb.IngestActivitiesRequest.Open(lane=f"withdrawal-{self._turn}")
        yield activity_pb.IngestActivitiesRequest(open=opened)
        started, number = time.monotonic(), 0
        while time.monotonic() - started < BOUND_S + 2:
            await self._room.acquire()
            reports = [self._report(name, number) for name in self._names]
            append = activity_pb.IngestActivitiesRequest.Append(
                offset=number * len(reports), activities=reports
            )
            self._sent_s.append(time.monotonic())
            yield activity_pb.IngestActivitiesRequest(append=append)
            number += 1
            await asyncio.sleep(PROBE_EVERY_S)

    def _report(self, name: str, number: int) -> activity_pb.ActivityReport:
        return activity_pb.ActivityReport(
            account=name,
            scene=SCENE,
            source_event_id=f"probe-{self._turn}-{number}-{name[-13:]}",
            occur_time=Timestamp(seconds=FIRST_OCCUR_S),
            measures={"distance_metre": 1000},
            region_code="440300",
            evidence_grade=activity_pb.EVIDENCE_GRADE_RECORDED,
        )

    def _judge(
        self, response: activity_pb.IngestActivitiesResponse, sent_s: float, found: Withdrawn
    ) -> None:
        """An act that was sent after the withdrawal was answered, and accepted, is late."""
        now_s = time.monotonic()
        for name, outcome in zip(self._names, response.ack.outcomes, strict=True):
            found.acts += 1
            revoked_s = self._revoked_s.get(name)
            if outcome != _RECORDED or revoked_s is None or sent_s < revoked_s:
                continue
            self._late_s[name] = max(self._late_s[name], now_s - revoked_s)
            found.after_bound += sent_s - revoked_s > BOUND_S

    async def _revoke(self, name: str) -> None:
        await asyncio.sleep(0.5 + random.random())
        customer = self._clients.channel("identity", "customer", "customers/bench", name, name)
        await pb_grpc.ConsentServiceStub(customer).RevokeConsent(
            pb.RevokeConsentRequest(name=f"{name}/consents/1", request_id=str(uuid.uuid4()))
        )
        self._revoked_s[name] = time.monotonic()


def measure(world: World, first: int, per_s: float, *, quick: bool) -> dict[str, float]:
    """The figures of consents; the load is `per_s` acts a second, numbered from `first` on."""
    columns, items = checks_per_s(world, 1 if quick else 5)
    withdrawn = withdraw_in_mid_stream(world, first, per_s, 1 if quick else 10)
    return {
        "consent_checks_per_s": round(columns),
        "consent_check_items_per_s": round(items),
        "consent_withdrawals": len(withdrawn.late_ms),
        "consent_withdrawal_load_per_s": round(per_s),
        "consent_withdrawal_p99_ms": round(withdrawn.p99_ms, 1),
        "consent_withdrawal_worst_ms": round(max(withdrawn.late_ms), 1),
        "consent_accepted_after_bound": withdrawn.after_bound,
    }
