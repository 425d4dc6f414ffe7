"""The main job: real trips become grams, a balance and a working, over gRPC as partners would."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from carbonaccount.activity.v1 import activity_service_pb2 as activity_pb
from carbonaccount.activity.v1 import activity_service_pb2_grpc as activity_grpc
from carbonaccount.calculation.v1 import assessment_service_pb2 as assessment_pb
from carbonaccount.calculation.v1 import assessment_service_pb2_grpc as assessment_grpc
from carbonaccount.settlement.v1 import ledger_service_pb2 as ledger_pb
from carbonaccount.type.v1.cursor_pb2 import ShardCursor

from services.activity.feeds import (
    MappedAct,
    RefusedLine,
    bank_acts,
    feed_path,
    map_feed,
    read_bank_mapping,
    read_mapping,
)
from services.launch.clients import Clients
from services.launch.lane import send_lane
from services.launch.layout import CHECKOUT
from services.launch.people import People
from shared.ids import SHARDS

TRIPS = CHECKOUT / "deploy" / "samples" / "JC-202004-citibike-tripdata.csv.gz"
TRIPS_MAPPING = "citibike-2020"
_SCOPES = ("scopes/travel-collect", "scopes/finance-collect")

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass
class Report:
    """What the main job found; the keys of report.json."""

    acts: dict[str, Any] = field(default_factory=dict)
    reduction_mg: dict[str, int] = field(default_factory=dict)
    working: list[dict[str, str]] = field(default_factory=list)
    ledger_sum: dict[str, int] = field(default_factory=dict)
    acts_per_s: int = 0
    assumptions: list[dict[str, str]] = field(default_factory=list)
    duration_s: float = 0.0
    accounts: int = 0
    balance_mg: int = 0
    example: dict[str, Any] = field(default_factory=dict)


async def run_main_job(clients: Clients, progress: Progress) -> Report:
    """Opens accounts, sends trips and the bank's acts, waits until they are posted, reads back.

    Every step may be repeated: what was done before is recognised and counted as repeated.
    """
    started = time.monotonic()
    trips, bank = read_mapping(feed_path(TRIPS_MAPPING)), read_bank_mapping(feed_path("demo-bank"))
    lines = list(map_feed(trips, TRIPS))
    acts = [line for line in lines if isinstance(line, MappedAct)]
    refused = Counter(line.reason for line in lines if isinstance(line, RefusedLine))
    bank_lines = list(bank_acts(bank))
    report = Report(
        assumptions=[{"zh": a.zh, "en": a.en} for a in (*trips.assumption, *bank.assumption)]
    )

    labels = sorted({act.account for act in [*acts, *bank_lines]})
    accounts = await _open_accounts(clients, labels, trips.source, progress)
    report.accounts = len(accounts)
    sending = time.monotonic()
    outcomes: Counter[str] = Counter()
    for source, items in ((trips.source, acts), (bank.source, bank_lines)):
        rider_of = source if source == trips.source else ""
        reports = [report_of(act, accounts[act.account], rider_of) for act in items]
        told = partial(progress, f"sending {source}")
        outcomes.update(await send_lane(clients.activities(source), "main-job", reports, told))
    await _wait_until_posted(clients, progress)
    took = time.monotonic() - sending
    report.acts = {
        "sent": len(lines) + len(bank_lines),
        "accepted": outcomes.pop("RECORDED", 0),
        "repeated": outcomes.pop("REPEATED", 0),
        "refused": dict(Counter(outcomes) + refused),
    }
    report.acts_per_s = round((len(acts) + len(bank_lines)) / took)
    report.reduction_mg = await _reduction_by_scene(clients)
    report.balance_mg = await _balances(clients, accounts.values())
    await _show_one(clients, accounts, trips.source, acts, report)
    report.ledger_sum = await _audited(clients, progress)
    report.duration_s = round(time.monotonic() - started, 2)
    return report


def report_of(act: MappedAct, account: str, rider_of: str = "") -> activity_pb.ActivityReport:
    """An act as the contract carries it: a partner names its own rider, the bank the account."""
    message = activity_pb.ActivityReport(
        account="" if rider_of else account,
        subject=f"{rider_of}/subjects/{act.account}" if rider_of else "",
        scene=act.scene,
        source_event_id=act.source_event_id,
        measures=act.measures,
        labels=act.labels,
        region_code=act.region,
        evidence_grade=activity_pb.EvidenceGrade.Value(f"EVIDENCE_GRADE_{act.evidence_grade}"),
        claim=act.claim,
    )
    message.occur_time.FromMicroseconds(act.occur_time_us)
    return message


async def _open_accounts(
    clients: Clients, labels: list[str], partner: str, progress: Progress
) -> dict[str, str]:
    """One account for each label, with the consents that the notices offer, bound at `partner`."""
    people = People(clients)
    await people.grants(_SCOPES)
    names: dict[str, str] = {}
    room = asyncio.Semaphore(16)

    async def open_one(label: str) -> None:
        async with room:
            account = await people.open(label, _SCOPES)
            await people.bind(label, account, partner)
            names[label] = account
            progress("opening accounts", len(names), len(labels))

    await asyncio.gather(*(open_one(label) for label in labels))
    await people.until_known()
    return names


async def _wait_until_posted(clients: Clients, progress: Progress) -> None:
    """Until what activity has recorded is assessed, and what is assessed is posted."""
    while True:
        recorded = (await clients.progress("activity", "")).heads
        calculation = await clients.progress("calculation", "activity")
        settlement = await clients.progress("settlement", "calculation")
        behind = _behind(recorded, calculation.cursors)
        behind += _behind(calculation.heads, settlement.cursors)
        total = 2 * sum(head.position for head in recorded)
        progress("assessing and posting", total - behind, total)
        if not behind:
            return
        await asyncio.sleep(0.02)


def _behind(heads: Iterable[ShardCursor], cursors: Iterable[ShardCursor]) -> int:
    done = {cursor.shard: cursor.position for cursor in cursors}
    return sum(head.position - done.get(head.shard, 0) for head in heads)


async def _reduction_by_scene(clients: Clients) -> dict[str, int]:
    """Milligrams by scene, added up from the feed of assessments."""
    heads = (await clients.progress("calculation", "")).heads
    wanted = {head.shard: head.position for head in heads}
    stub = assessment_grpc.AssessmentServiceStub(clients.sibling("calculation"))
    request = assessment_pb.WatchAssessmentsRequest(
        cursors=[ShardCursor(shard=shard) for shard in range(SHARDS)]
    )
    sums: Counter[int] = Counter()
    names: dict[int, str] = {}
    seen = dict.fromkeys(wanted, 0)
    if not any(wanted.values()):
        return {}
    call = stub.WatchAssessments(request)
    async for response in call:
        names.update({scene.code: scene.scene for scene in response.scenes})
        for run in response.runs:
            seen[run.shard] = run.position + run.count - 1
            deltas, scenes = _integers(run.delta, 8, run.count), _integers(run.scene, 2, run.count)
            for scene, delta in zip(scenes, deltas, strict=True):
                sums[scene] += delta
        if all(seen[shard] >= position for shard, position in wanted.items()):
            break
    call.cancel()
    return {names[scene]: mg for scene, mg in sorted(sums.items())}


def _integers(packed: bytes, width: int, count: int) -> list[int]:
    if not packed:
        return [0] * count
    places = range(0, len(packed), width)
    return [int.from_bytes(packed[place : place + width], signed=True) for place in places]


async def _balances(clients: Clients, accounts: Iterable[str]) -> int:
    """Sum of the balances of `accounts`."""
    room = asyncio.Semaphore(16)

    async def one(account: str) -> int:
        async with room:
            request = ledger_pb.GetBalanceRequest(name=f"{account}/balance")
            return int((await clients.ledger().GetBalance(request)).balance.available_mg)

    return sum(await asyncio.gather(*map(one, accounts)))


async def _show_one(
    clients: Clients, accounts: dict[str, str], source: str, acts: list[MappedAct], report: Report
) -> None:
    """One trip, step by step, and the balance it went into."""
    trip = next(act for act in acts if act.measures["distance_metre"] > 0)
    account = accounts[trip.account]
    stub = activity_grpc.ActivityServiceStub(clients.operator("activity"))
    request = activity_pb.FindActivityRequest(source=source, source_event_id=trip.source_event_id)
    found = (await stub.FindActivity(request)).activity
    name = f"{account}/assessments/{found.position}"
    response = await clients.assessments().GetAssessment(
        assessment_pb.GetAssessmentRequest(name=name)
    )
    assessment = response.assessment
    report.working = [
        {
            "label_zh": step.label_zh,
            "label_en": step.label_en,
            "expression": step.expression,
            "result": step.result,
            "unit": step.unit,
            "source": step.source,
            "status": step.status,
        }
        for step in assessment.steps
    ]
    balance = await clients.ledger().GetBalance(
        ledger_pb.GetBalanceRequest(name=f"{account}/balance")
    )
    report.example = {
        "activity": found.name,
        "assessment": name,
        "methodology_version": assessment.methodology_version,
        "reduction_mg": assessment.reduction_mg,
        "account_balance_mg": balance.balance.available_mg,
    }


async def _audited(clients: Clients, progress: Progress) -> dict[str, int]:
    """Sum over all pockets of each asset, once the auditor has been over the whole book."""
    since = time.time()
    while True:
        audit = await clients.ledger().GetAudit(ledger_pb.GetAuditRequest())
        posted = (await clients.progress("settlement", "")).heads
        total = sum(head.position for head in posted)
        progress("auditing the book", min(audit.transfer_count, total), total)
        if audit.transfer_count >= total and audit.audit_time.ToSeconds() + 1 >= since:
            return {line.asset: line.pockets for line in audit.sums}
        await asyncio.sleep(0.1)
