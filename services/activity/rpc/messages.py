"""Between the contract's messages and activity's own types; no rule is decided here."""

from __future__ import annotations

from carbonaccount.activity.v1 import activity_service_pb2 as pb
from carbonaccount.activity.v1 import scene_service_pb2 as scene_pb
from carbonaccount.activity.v1 import source_service_pb2 as source_pb
from carbonaccount.type.v1 import category_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from services.activity.domain.activity import Activity, Named
from services.activity.domain.batch import Judged, Outcome
from services.activity.domain.catalogue import Catalogue, Label, Scene
from services.activity.domain.keys import KEY_BYTES, activity_id
from services.activity.storage.archive import Run
from shared.ids import account_id_of, account_name, decode32
from shared.refusal import FieldInvalid
from shared.rpc.caller import Caller
from shared.rpc.status import to_status

_ID_LENGTH = 26


def read_activity_name(name: str) -> Named:
    """accounts/{account}/activities/{activity}"""
    named = read_name(name)
    if named.source:
        raise _bad_name("accounts/{account}/activities/{activity}")
    return named


def read_name(name: str) -> Named:
    """accounts/{account}/activities/{activity} or sources/{source}/activities/{activity}"""
    parts = name.split("/")
    if len(parts) == 4 and parts[2] == "activities" and len(parts[3]) == _ID_LENGTH:
        try:
            key = decode32(parts[3]).to_bytes(KEY_BYTES)
        except (ValueError, OverflowError):
            key = b""
        parent = "/".join(parts[:2])
        if key and parts[0] == "sources" and parts[1]:
            return Named(key, source=parent)
        if key:
            return Named(key, account_id=account_id_of(parent))
    raise _bad_name(
        "accounts/{account}/activities/{activity} or sources/{source}/activities/{activity}"
    )


def read_actor(who: Caller) -> str:
    """Who is written down for what was done: a customer's own name would be personal."""
    return "customer" if who.kind == "customer" else who.name


def _bad_name(shape: str) -> FieldInvalid:
    # Not quoted: whoever mistakes an event's id for a name would read it again.
    return FieldInvalid("name", f"name must be {shape}, as recording answered")


def write_activity_name(parent: str, key: bytes) -> str:
    """{parent}/activities/{activity}"""
    return f"{parent}/activities/{activity_id(key)}"


def write_activity(activity: Activity, *, below_source: bool = False) -> pb.Activity:
    """An activity as the contract shows it; `below_source` for the source that reported it,
    which is told neither whose it is nor where it stands among those of others."""
    parent = activity.source if below_source else account_name(activity.account_id)
    return pb.Activity(
        name=write_activity_name(parent, activity.key),
        scene=activity.scene,
        source=activity.source,
        measures=activity.measures,
        labels=activity.labels,
        occur_time=write_time(activity.occur_time_us),
        record_time=write_time(activity.record_time_us),
        region_code=f"{activity.region:06d}" if activity.region else "",
        evidence_grade=pb.EvidenceGrade.ValueType(activity.evidence_grade),
        state=pb.Activity.STATE_WITHDRAWN if activity.withdrawn else pb.Activity.STATE_RECORDED,
        position=0 if below_source else activity.position,
    )


def write_outcomes(
    judged: Judged, parents: list[str]
) -> list[pb.BatchRecordActivitiesResponse.Outcome]:
    """One outcome for each item, in order; `parents` are what each activity is named below."""
    outcomes = [pb.BatchRecordActivitiesResponse.Outcome() for _ in parents]
    for item, key in zip(judged.rows, judged.keys, strict=True):
        if judged.outcomes[item] != Outcome.REFUSED:
            name = write_activity_name(parents[item], key.tobytes())
            outcomes[item].activity = name
            outcomes[item].repeated_event = judged.outcomes[item] == Outcome.REPEATED
    for item, refusal in judged.refusals.items():
        outcomes[item].refusal.CopyFrom(to_status(refusal))
    return outcomes


def write_ack(judged: Judged, next_offset: int) -> pb.IngestActivitiesResponse:
    """The acknowledgement of one append."""
    ack = pb.IngestActivitiesResponse.Ack(
        next_offset=next_offset, outcomes=judged.outcomes.tobytes()
    )
    for item in sorted(judged.refusals):
        ack.refusals.add(index=item, status=to_status(judged.refusals[item]))
    return pb.IngestActivitiesResponse(ack=ack)


def write_run(run: Run) -> pb.ActivityRun:
    """A run as stored; the packed columns pass through."""
    columns = run.columns
    message = pb.ActivityRun(
        shard=run.shard,
        position=run.position,
        count=run.count,
        kind=columns["kind"],
        account_id=columns["account_id"],
        scene=columns["scene"],
        source=columns["source"],
        region=columns["region"],
        evidence_grade=columns["evidence_grade"],
        civil_day=columns["civil_day"],
        measure_1=columns["measure_1"],
        measure_2=columns["measure_2"],
        target=columns["target"],
        label_1=columns["label_1"],
    )
    message.record_time.FromDatetime(run.record_time)
    return message


def write_scene_codes(catalogue: Catalogue) -> list[pb.WatchActivitiesResponse.SceneCode]:
    """What scene codes mean."""
    return [
        pb.WatchActivitiesResponse.SceneCode(
            code=scene.code,
            scene=scene.name,
            measures=[m.name for m in scene.measures],
            label=scene.label.name if scene.label else "",
            label_values=scene.label.values if scene.label else (),
        )
        for scene in catalogue.scenes.values()
    ]


def write_scene(scene: Scene) -> scene_pb.Scene:
    """A scene as the contract shows it."""
    return scene_pb.Scene(
        name=scene.name,
        title_zh=scene.title_zh,
        title_en=scene.title_en,
        category=category_pb2.Category.Value(f"CATEGORY_{scene.category}"),
        measures=[
            scene_pb.Scene.Measure(
                name=m.name,
                unit=category_pb2.Unit.Value(f"UNIT_{m.unit}"),
                min=m.min,
                max=m.max,
                required=m.required,
            )
            for m in scene.measures
        ],
        consent_scope=scene.consent_scope,
        claim=scene_pb.Scene.Claim.Value(f"CLAIM_{scene.claim.upper()}"),
        label=_write_label(scene.label) if scene.label else None,
    )


def _write_label(label: Label) -> scene_pb.Scene.Label:
    return scene_pb.Scene.Label(name=label.name, values=label.values, required=label.required)


def write_sources(catalogue: Catalogue) -> list[source_pb.Source]:
    """Every source, by name."""
    return [
        source_pb.Source(name=source.name, title=source.title, scenes=sorted(source.scenes))
        for _, source in sorted(catalogue.sources.items())
    ]


def write_time(time_us: int) -> Timestamp:
    """Microseconds since 1970 as a Timestamp."""
    return Timestamp(seconds=time_us // 1_000_000, nanos=time_us % 1_000_000 * 1000)
