"""MethodologyService: the library in force, and the way of a text into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from carbonaccount.calculation.v1 import methodology_service_pb2 as pb
from carbonaccount.calculation.v1 import methodology_service_pb2_grpc as pb_grpc

from services.calculation.domain.assess import Rulebook
from services.calculation.domain.compare import differences_of
from services.calculation.domain.faults import LibraryInvalid
from services.calculation.domain.tally import DraftClasses, Tally
from services.calculation.rpc import library_messages as messages
from services.calculation.rpc.messages import read_day
from services.calculation.storage.book import Book
from services.calculation.storage.drafts import Drafts
from services.calculation.storage.restatements import Restatements
from services.calculation.storage.shelf import Editions, Shelf
from services.calculation.usecases.assess_events import month_of
from services.calculation.usecases.backtest import MONTHS_MAX, Piece, backtest_piece, pieces_of
from services.calculation.usecases.publish_library import (
    draft_text,
    judge_files,
    publish_draft,
    review_draft,
)
from shared.clock import ClockUs
from shared.ids import civil_day
from shared.refusal import FieldInvalid, ResourceNotFound
from shared.rpc.caller import caller
from shared.rpc.paging import PageTokens, page_size_of
from shared.rpc.request_id import read_request_id
from shared.storage.engine import Database

Result = TypeVar("Result")


class MethodologyServicer(pb_grpc.MethodologyServiceServicer):
    """Shows methodologies, checks and backtests texts, and publishes them."""

    def __init__(
        self, *, database: Database, shelf: Shelf, clock: ClockUs, page_tokens: PageTokens
    ) -> None:
        self._database = database
        self._shelf = shelf
        self._clock = clock
        self._page_tokens = page_tokens

    async def ListMethodologies(
        self, request: pb.ListMethodologiesRequest, context: Any
    ) -> pb.ListMethodologiesResponse:
        """Every methodology, by name."""
        library = self._shelf.library
        return pb.ListMethodologiesResponse(
            methodologies=[
                messages.write_methodology(library.methodologies[name], self._today())
                for name in sorted(library.methodologies)
            ]
        )

    async def GetMethodology(
        self, request: pb.GetMethodologyRequest, context: Any
    ) -> pb.GetMethodologyResponse:
        """One methodology."""
        known = self._shelf.library.methodologies
        methodology = known.get(request.name.removeprefix("methodologies/"))
        if methodology is None:
            raise ResourceNotFound(request.name, f"the library has {', '.join(sorted(known))}")
        return pb.GetMethodologyResponse(
            methodology=messages.write_methodology(methodology, self._today())
        )

    async def CompareVersions(
        self, request: pb.CompareVersionsRequest, context: Any
    ) -> pb.CompareVersionsResponse:
        """What differs between two versions."""
        library = self._shelf.library
        before, after = (
            messages.rules_named(library.rules_of(name), name)
            for name in (request.before, request.after)
        )
        return pb.CompareVersionsResponse(
            differences=[
                pb.CompareVersionsResponse.Difference(**vars(one))
                for one in differences_of(before, after)
            ]
        )

    async def ValidateLibraryFile(
        self, request: pb.ValidateLibraryFileRequest, context: Any
    ) -> pb.ValidateLibraryFileResponse:
        """Faults and what of the past would change; nothing is kept."""
        changed = {messages.read_path(request.file): request.file.content}

        def judge(connection: sa.Connection) -> pb.ValidateLibraryFileResponse:
            try:
                judged = judge_files(
                    changed, self._today(), shelf=self._shelf, editions=Editions(connection)
                )
            except LibraryInvalid as error:
                return messages.write_judged(error.faults)
            return messages.write_judged(judged)

        return await self._database.read(judge)

    async def BacktestLibraryFile(
        self, request: pb.BacktestLibraryFileRequest, context: Any
    ) -> AsyncIterator[pb.BacktestLibraryFileResponse]:
        """Goes over what is recorded, a piece at a time, and writes nothing."""
        first, last = (
            month_of(read_day(day, field))
            for day, field in ((request.first_date, "first_date"), (request.last_date, "last_date"))
        )
        messages.check_months(first, last, MONTHS_MAX, month_of(self._today()))
        shelf = self._shelf
        library = shelf.library
        if request.HasField("file"):
            changed = {messages.read_path(request.file): request.file.content}
            try:
                library = await asyncio.to_thread(shelf.load, changed)
            except LibraryInvalid as error:
                raise FieldInvalid("file.content", str(error)) from error
        programme = shelf.programme_of(library)
        scenes = await self._call(lambda c: Book(c).read_scenes())
        rules, tally, classes = Rulebook(programme, scenes), Tally(scenes), DraftClasses()
        pieces = await self._call(lambda c: pieces_of(first, last, book=Book(c)))
        for number, piece in enumerate(pieces, 1):
            await self._call(partial(_add_piece, piece, rules, tally, classes))
            yield pb.BacktestLibraryFileResponse(
                acts=tally.acts, pieces=number, pieces_total=len(pieces)
            )
        yield messages.write_report(tally, len(pieces))

    async def DraftLibraryFile(
        self, request: pb.DraftLibraryFileRequest, context: Any
    ) -> pb.DraftLibraryFileResponse:
        """Keeps a file that loads."""
        path, request_id = (
            messages.read_path(request.file),
            read_request_id(request.request_id),
        )
        drafter, today = caller().name, self._today()
        draft = await self._call(
            lambda c: draft_text(
                path, request.file.content, drafter=drafter, request_id=request_id, today=today,
                drafts=Drafts(c), shelf=self._shelf, editions=Editions(c),
            )
        )  # fmt: skip
        return pb.DraftLibraryFileResponse(draft=messages.write_draft(draft))

    async def ReviewLibraryDraft(
        self, request: pb.ReviewLibraryDraftRequest, context: Any
    ) -> pb.ReviewLibraryDraftResponse:
        """Notes a review by somebody else."""
        number, reviewer = messages.read_number(request.name, "drafts"), caller().name
        note = messages.read_words(request.review_note, "review_note")
        draft = await self._call(
            lambda c: review_draft(number, note, reviewer=reviewer, drafts=Drafts(c))
        )
        return pb.ReviewLibraryDraftResponse(draft=messages.write_draft(draft))

    async def PublishLibraryDraft(
        self, request: pb.PublishLibraryDraftRequest, context: Any
    ) -> pb.PublishLibraryDraftResponse:
        """Puts a reviewed draft in force, in every worker from its next transaction on."""
        number, publisher = messages.read_number(request.name, "drafts"), caller().name
        request_id = read_request_id(request.request_id)
        reason, today = messages.read_reason(request.reason_zh, request.reason_en), self._today()
        draft, restatement = await self._call(
            lambda c: publish_draft(
                number, reason, publisher=publisher, request_id=request_id, today=today,
                refresh=partial(self._shelf.refresh, c), drafts=Drafts(c), shelf=self._shelf,
                editions=Editions(c), restatements=Restatements(c),
            )
        )  # fmt: skip
        await self._call(self._shelf.refresh)
        return pb.PublishLibraryDraftResponse(
            draft=messages.write_draft(draft),
            restatement=f"restatements/{restatement}" if restatement else "",
        )

    async def ListLibraryDrafts(
        self, request: pb.ListLibraryDraftsRequest, context: Any
    ) -> pb.ListLibraryDraftsResponse:
        """Drafts, the newest first."""
        size = page_size_of(request.page_size)
        last = self._page_tokens.open(request.page_token, "ListLibraryDrafts")
        drafts, more = await self._call(lambda c: Drafts(c).page(size, last[0] if last else None))
        token = ""
        if more:
            token = self._page_tokens.seal((drafts[-1].draft,), "ListLibraryDrafts")
        return pb.ListLibraryDraftsResponse(
            drafts=[messages.write_draft(draft) for draft in drafts], next_page_token=token
        )

    def _today(self) -> int:
        return civil_day(self._clock())

    async def _call(self, work: Callable[[sa.Connection], Result]) -> Result:
        return await self._database.call(work)


def _add_piece(
    piece: Piece, rules: Rulebook, tally: Tally, classes: DraftClasses, connection: sa.Connection
) -> None:
    backtest_piece(piece, rules, tally, classes, book=Book(connection))
