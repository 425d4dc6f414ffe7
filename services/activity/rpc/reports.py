"""Reports from the wire to columns: one pass, every malformed item refused by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from carbonaccount.activity.v1 import activity_service_pb2 as pb
from numpy.typing import NDArray

from services.activity.domain.batch import Batch, Columns
from services.activity.domain.catalogue import Catalogue, Scene, Source
from services.activity.domain.keys import KEY_BYTES, Keyring
from shared.ids import CIVIL_OFFSET_US, DAY_US, account_id_of, from_us
from shared.personal import looks_personal
from shared.refusal import FieldInvalid, LimitReached, Refusal, SceneNotGranted
from shared.subject import read_subject_name, subject_digest

TEXT_MAX = 64
LABELS_MAX = 1  # one packed column of the feed
EARLIEST_US = 946_684_800_000_000  # 2000-01-01: before it no source of ours existed
FUTURE_MAX_US = 300_000_000  # clocks of sources run up to five minutes ahead
_NO_DIGEST = bytes(KEY_BYTES)


class ReportReader:
    """Reads the reports of one source; `subject_secret` is the secret "subject"."""

    def __init__(
        self, catalogue: Catalogue, source: Source, keyring: Keyring, subject_secret: bytes
    ) -> None:
        self._source = source
        self._keyring = keyring
        self._event_key = keyring.event_keys(source.code)
        self._subject_secret = subject_secret
        self._read_rider = self._subject if source.by_subject else self._account
        self._scenes = catalogue.scenes
        self._allowed = {name: catalogue.scenes[name] for name in source.scenes}

    def read(self, reports: Sequence[pb.ActivityReport], now_us: int) -> Batch:
        """`reports` as columns; what breaks a rule of its own becomes a refusal of that item."""
        numbers: list[tuple[int, ...]] = []
        keys, contents, claims, subjects = bytearray(), bytearray(), bytearray(), bytearray()
        late_claims: dict[int, Callable[[int], bytes]] = {}
        rows: list[int] = []
        refusals: dict[int, Refusal] = {}
        latest_us = now_us + FUTURE_MAX_US
        for item, report in enumerate(reports):
            try:
                row, key, content, claim, subject = self._one(report, latest_us)
            except Refusal as refusal:
                refusals[item] = refusal
                continue
            if not isinstance(claim, bytes):
                late_claims[len(rows)], claim = claim, _NO_DIGEST
            numbers.append(row)
            keys += key
            contents += content
            claims += claim
            subjects += subject
            rows.append(item)
        columns = np.array(numbers, np.int64).reshape(-1, 9).T
        return Batch(
            items=len(reports),
            columns=Columns(
                keys=_digests(keys),
                contents=np.frombuffer(bytes(contents), ">i8").astype(np.int64),
                claims=_digests(claims),
                subjects=_digests(subjects),
                account_id=columns[0],
                scene=columns[1],
                scope=columns[2],
                source=np.full(len(rows), self._source.code, np.int64),
                region=columns[3],
                evidence_grade=columns[4],
                occur_time_us=columns[5],
                civil_day=(columns[5] + CIVIL_OFFSET_US) // DAY_US,
                measure_1=columns[6],
                measure_2=columns[7],
                label_1=columns[8],
            ),
            rows=np.array(rows, np.int64),
            refusals=refusals,
            late_claims=late_claims,
        )

    def _one(
        self, report: pb.ActivityReport, latest_us: int
    ) -> tuple[tuple[int, ...], bytes, bytes, bytes | Callable[[int], bytes], bytes]:
        """The numbers, event key, content, claim and subject of a report."""
        scene = self._allowed.get(report.scene)
        if scene is None:
            raise self._unknown_scene(report.scene)
        account_id, subject = self._read_rider(report)
        event_id = report.source_event_id
        if not 0 < len(event_id) <= TEXT_MAX or not event_id.isprintable():
            raise _bad_text("source_event_id", event_id)
        if looks_personal(event_id):
            raise _personal("source_event_id")
        occurred = report.occur_time
        occur_us = occurred.seconds * 1_000_000 + occurred.nanos // 1000
        if not EARLIEST_US <= occur_us <= latest_us:
            raise _bad_time(report, occur_us, latest_us)
        region = report.region_code
        if region and not (len(region) == 6 and region.isascii() and region.isdigit()):
            raise _bad_region(region)
        grade = report.evidence_grade
        if not 1 <= grade <= 3:
            raise _bad_grade(grade)
        first, second = _measures(scene, report)
        label = _label(scene, report)
        region_code = int(region or 0)
        claim = _claim(scene, report.claim)
        told = (account_id, scene.code, occur_us, region_code, grade, first, second)
        return (
            (
                account_id,
                scene.code,
                scene.scope_code,
                region_code,
                grade,
                occur_us,
                first,
                second,
                label,
            ),
            self._event_key(event_id),
            self._keyring.content(told, claim, label, subject),
            self._claim_key(scene, account_id, claim) if claim else _NO_DIGEST,
            subject or _NO_DIGEST,
        )

    def _account(self, report: pb.ActivityReport) -> tuple[int, bytes]:
        """The number of the account that a system of the bank names."""
        if report.subject:
            raise FieldInvalid(
                "subject",
                f"subject is set; {self._source.name} names riders by account: send account alone",
            )
        return account_id_of(report.account, "account"), b""

    def _subject(self, report: pb.ActivityReport) -> tuple[int, bytes]:
        """The digest of the user that a partner names; the account's number is not known yet."""
        name = self._source.name
        if report.account or not report.subject:
            field, said = ("account", "set") if report.account else ("subject", "not set")
            raise FieldInvalid(
                field,
                f"{field} is {said}; {name} names riders by subject: send subject alone, "
                f"{name}/subjects/{{subject}}",
            )
        subject = read_subject_name(report.subject, "subject", name)
        return 0, subject_digest(self._subject_secret, subject)

    def _claim_key(
        self, scene: Scene, account_id: int, claim: str
    ) -> bytes | Callable[[int], bytes]:
        """The digest of the physical act, or what makes it once the account is known."""
        if scene.claim != "account_reference":
            return self._keyring.claim_key(scene.code, 0, claim)
        if account_id:
            return self._keyring.claim_key(scene.code, account_id, claim)
        return partial(self._keyring.claim_key, scene.code, claim=claim)

    def _unknown_scene(self, name: str) -> Refusal:
        allowed = ", ".join(sorted(self._source.scenes))
        if name in self._scenes:
            return SceneNotGranted(
                f"{self._source.name} may not report {name}; it may report {allowed}",
                field="scene",
                metadata={"source": self._source.name, "scene": name},
            )
        return FieldInvalid(
            "scene", f"scene is {name[:64]!r}; {self._source.name} may report {allowed}"
        )


def _measures(scene: Scene, report: pb.ActivityReport) -> tuple[int, int]:
    """The scene's first and second measure; 0 for one that may be and is left out."""
    # Asked by name: to copy the map first took 1.2 us, a tenth of reading a report.
    reported, taken = report.measures, 0
    values = [0, 0]
    for place, measure in enumerate(scene.measures):
        value = reported.get(measure.name)
        if value is None:
            if measure.required:
                raise FieldInvalid(
                    "measures", f"measures lacks {measure.name}; {scene.name} needs it"
                )
            continue
        if not measure.min <= value <= measure.max:
            raise FieldInvalid(
                f"measures.{measure.name}",
                f"{measure.name} is {value}; {scene.name} takes whole numbers from "
                f"{measure.min} to {measure.max}",
            )
        values[place] = value
        taken += 1
    if len(reported) > taken:
        names = [measure.name for measure in scene.measures]
        unknown = min(name for name in reported if name not in names)
        raise FieldInvalid(
            "measures", f"measures has {unknown[:64]!r}; {scene.name} takes {', '.join(names)}"
        )
    return values[0], values[1]


def _label(scene: Scene, report: pb.ActivityReport) -> int:
    """The code of the scene's label; 0 for one that may be and is left out."""
    reported, label = report.labels, scene.label
    if not reported:
        if label is not None and label.required:
            raise FieldInvalid(
                "labels",
                f"labels lacks {label.name}; {scene.name} needs it, as one of "
                f"{', '.join(label.values)}",
            )
        return 0
    if len(reported) > LABELS_MAX:
        # The reason for which the contract refuses a single call.
        raise LimitReached(
            f"labels has {len(reported)} items and may have {LABELS_MAX}; report the scene's own",
            field="labels",
            metadata={"limit": "labels items", "value": LABELS_MAX},
        )
    [(name, word)] = reported.items()
    if label is None or name != label.name:
        takes = label.name if label is not None else "none"
        raise FieldInvalid("labels", f"labels has {name[:64]!r}; {scene.name} takes {takes}")
    code = label.codes.get(word)
    if code is None:
        raise FieldInvalid(
            f"labels.{name}",
            f"{name} is {word[:64]!r}; {scene.name} takes {', '.join(label.values)}",
        )
    return code


def _claim(scene: Scene, claim: str) -> str:
    if scene.claim == "none":
        if claim:
            raise FieldInvalid("claim", f"claim is set; {scene.name} takes none")
    elif not 0 < len(claim) <= TEXT_MAX or not claim.isprintable():
        raise FieldInvalid(
            "claim",
            f"claim has {len(claim)} characters; {scene.name} needs the reference of the act, "
            f"1 to {TEXT_MAX} printable characters",
        )
    elif looks_personal(claim):
        raise _personal("claim")
    return claim


def _digests(data: bytearray) -> NDArray[np.uint8]:
    return np.frombuffer(bytes(data), np.uint8).reshape(-1, KEY_BYTES)


def _personal(field: str) -> Refusal:
    return FieldInvalid(
        field,
        f"{field} looks like a phone, card or identity number; send a keyed hash of it instead",
    )


def _bad_text(field: str, value: str) -> Refusal:
    return FieldInvalid(
        field,
        f"{field} has {len(value)} characters and must have 1 to {TEXT_MAX}, all printable",
    )


def _bad_region(region: str) -> Refusal:
    return FieldInvalid(
        "region_code", f"region_code is {region[:16]!r}; it must be six digits or empty"
    )


def _bad_grade(grade: int) -> Refusal:
    return FieldInvalid(
        "evidence_grade", f"evidence_grade is {grade}; it must be RECORDED, SHOWN or DECLARED"
    )


def _bad_time(report: pb.ActivityReport, occur_us: int, latest_us: int) -> Refusal:
    if not report.HasField("occur_time"):
        return FieldInvalid("occur_time", "occur_time is not set; report when the act was complete")
    if not 0 <= occur_us <= 4_102_444_800_000_000:
        said = f"{report.occur_time.seconds} s since 1970"
    else:
        said = from_us(occur_us).isoformat()
    rule = "in the future" if occur_us > latest_us else "before 2000-01-01"
    return FieldInvalid("occur_time", f"occur_time is {said}, which is {rule}; report past acts")
