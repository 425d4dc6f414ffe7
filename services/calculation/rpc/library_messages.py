"""Between the contract's messages and the library's life: versions, drafts, backtests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from carbonaccount.calculation.v1 import methodology_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp

from services.calculation.domain.compare import rows_of
from services.calculation.domain.drafts import Draft
from services.calculation.domain.faults import LibraryFault
from services.calculation.domain.methodology import Methodology, Version
from services.calculation.domain.tally import Tally
from services.calculation.rpc.messages import write_day
from services.calculation.usecases.publish_library import Judged, Reason
from shared.ids import account_name
from shared.refusal import FieldInvalid, ResourceNotFound

_PATH = re.compile(r"(programmes/)?[a-z0-9][a-z0-9-]*\.toml", re.ASCII)


def read_number(name: str, collection: str) -> int:
    """The number of drafts/{draft} or restatements/{restatement}."""
    head, _, number = name.partition("/")
    if head == collection and number.isascii() and number.isdigit() and len(number) < 19:
        return int(number)
    raise FieldInvalid("name", f"name is {name[:64]!r}; it must be {collection}/ and its number")


def read_path(file: pb.LibraryFile) -> str:
    """The path of a file of the library."""
    path: str = file.path
    if not _PATH.fullmatch(path):
        raise FieldInvalid(
            "file.path",
            f"path is {path[:64]!r}; it must be such as sz-pt-2021.toml or programmes/demo.toml",
        )
    return path


def read_words(text: str, field: str) -> str:
    """Words for people to read; the database keeps every character but one."""
    if "\0" in text:
        raise FieldInvalid(field, f"{field} has a NUL character, which cannot be kept; remove it")
    return text


def read_reason(zh: str, en: str) -> Reason:
    """Why the past changes; it may be empty."""
    return Reason(read_words(zh, "reason_zh"), read_words(en, "reason_en"))


def check_months(first: int, last: int, most: int, now: int) -> None:
    """FieldInvalid unless these are 1 to `most` months in order, up to the month `now`."""
    if last > now:
        raise FieldInvalid("last_date", "last_date lies after this month; give a day up to today")
    if last < first:
        raise FieldInvalid("last_date", "last_date is before first_date; exchange the two")
    if last - first >= most:
        raise FieldInvalid(
            "first_date", f"{last - first + 1} months are asked; ask for at most {most}"
        )


def write_methodology(methodology: Methodology, today: int) -> pb.Methodology:
    """A methodology with every rule of every version."""
    return pb.Methodology(
        name=f"methodologies/{methodology.id}",
        title_zh=methodology.title_zh,
        title_en=methodology.title_en,
        document=str(methodology.document),
        scenes=sorted(methodology.scenes),
        versions=[_version(version, today) for version in methodology.versions],
    )


def _version(version: Version, today: int) -> pb.MethodologyVersion:
    message = pb.MethodologyVersion(
        name=version.name,
        digest=version.digest,
        effective_date=write_day(version.effective_day),
        formula=version.formula_text,
        factors=[
            pb.MethodologyVersion.Factor(
                key=f.key, unit=f.unit, value=row.value, source=row.source, page=row.page,
                status=row.status, low=row.low, high=row.high, case=case,
            )
            for f in version.factors
            for case, row in rows_of(version, f.key)
        ],
        status=version.status,
        gas_scope=version.gas_scope,
        asset=version.asset,
        life=_life(version, today),
        draft=version.draft,
        scenes=sorted(version.scenes),
    )  # fmt: skip
    if version.end_day is not None:
        message.end_date.CopyFrom(write_day(version.end_day))
    return message


def _life(version: Version, today: int) -> pb.MethodologyVersion.Life.ValueType:
    if version.draft:
        return pb.MethodologyVersion.LIFE_DRAFT
    if version.in_force(today):
        return pb.MethodologyVersion.LIFE_IN_FORCE
    ahead = today < version.effective_day
    return pb.MethodologyVersion.LIFE_AHEAD if ahead else pb.MethodologyVersion.LIFE_RETIRED


def write_draft(draft: Draft) -> pb.LibraryDraft:
    """A draft with its text."""
    return pb.LibraryDraft(
        name=f"drafts/{draft.draft}",
        state=pb.LibraryDraft.State.ValueType(draft.state),
        file=pb.LibraryFile(path=draft.path, content=draft.content),
        drafter=draft.drafter,
        reviewer=draft.reviewer,
        review_note=draft.review_note,
        publisher=draft.publisher,
        draft_time=_time(draft.draft_time),
        review_time=_time(draft.review_time),
        publish_time=_time(draft.publish_time),
    )


def write_judged(judged: Judged | Sequence[LibraryFault]) -> pb.ValidateLibraryFileResponse:
    """What publishing a file would meet, or why it does not load."""
    faults = judged.faults if isinstance(judged, Judged) else judged
    response = pb.ValidateLibraryFileResponse(
        faults=[
            pb.ValidateLibraryFileResponse.Fault(
                path=fault.file, line=fault.line, column=fault.column, message=fault.message
            )
            for fault in faults
        ]
    )
    if isinstance(judged, Judged):
        response.past_changes.extend(judged.past)
        if judged.first_day is not None:
            response.first_changed_date.CopyFrom(write_day(judged.first_day))
    return response


def write_report(tally: Tally, pieces: int) -> pb.BacktestLibraryFileResponse:
    """The last message of a backtest."""
    return pb.BacktestLibraryFileResponse(
        acts=tally.acts,
        pieces=pieces,
        pieces_total=pieces,
        done=True,
        totals=[pb.BacktestLibraryFileResponse.Total(**vars(total)) for total in tally.totals()],
        examples=[
            pb.BacktestLibraryFileResponse.Example(
                assessment=f"{account_name(one.account_id)}/assessments/{one.activity_position}",
                scene=one.scene,
                before=one.before,
                after=one.after,
            )
            for one in tally.examples
        ],
    )


def rules_named(rules: Sequence[Version], name: str) -> Sequence[Version]:
    """The rules of a version; ResourceNotFound when it has none."""
    if not rules:
        raise ResourceNotFound(name, "GetMethodology lists the versions of a methodology")
    return rules


def _time(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message
