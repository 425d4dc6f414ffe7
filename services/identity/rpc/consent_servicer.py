"""ConsentService: reads, calls, writes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from carbonaccount.identity.v1 import consent_service_pb2 as pb
from carbonaccount.identity.v1 import consent_service_pb2_grpc as pb_grpc

from services.identity.domain.account import Grant
from services.identity.domain.receipt import ReceiptEvent
from services.identity.rpc import consent_messages as messages
from services.identity.rpc.desk import Desk, token_of
from services.identity.rpc.messages import read_numbered_name, read_request
from services.identity.rpc.receipts import History, ReceiptBook, read_history, write_receipts
from services.identity.rpc.times import read_moment, write_day
from services.identity.storage.meter import Meter, read_meters
from services.identity.storage.register import Register
from services.identity.usecases.check_consents import (
    Verdict,
    check_columns,
    check_consents,
)
from services.identity.usecases.consents import (
    Decided,
    grant_consent,
    list_consents,
    refuse_consent,
    revoke_consent,
)
from shared.ids import account_id_of, civil_day, from_us
from shared.refusal import FieldInvalid, Refusal
from shared.rpc.caller import caller
from shared.rpc.paging import page_size_of


class ConsentServicer(pb_grpc.ConsentServiceServicer):
    """Lists scopes; grants, refuses, lists, withdraws, proves and checks consents."""

    def __init__(self, desk: Desk, *, receipts: ReceiptBook, meter: Meter) -> None:
        self._desk = desk
        self._receipts = receipts
        self._meter = meter

    async def ListScopes(
        self, request: pb.ListScopesRequest, context: Any
    ) -> pb.ListScopesResponse:
        """Everything that can be agreed to."""
        return pb.ListScopesResponse(
            scopes=[messages.write_scope(scope) for scope in self._desk.scopes.values()]
        )

    async def GrantConsent(
        self, request: pb.GrantConsentRequest, context: Any
    ) -> pb.GrantConsentResponse:
        """Opens one scope."""
        desk, account_id = self._desk, account_id_of(request.parent, "parent")
        asked = read_request(request, "GrantConsent", desk.secret)
        grant = messages.read_grant(request.consent)
        answer = await self._decide(
            lambda register: grant_consent(
                asked, account_id, grant, register=register, scopes=desk.scopes, clock=desk.clock
            ),
            (ReceiptEvent.GRANTED,),
        )
        return pb.GrantConsentResponse(**answer)

    async def RefuseConsent(
        self, request: pb.RefuseConsentRequest, context: Any
    ) -> pb.RefuseConsentResponse:
        """Says no to one scope."""
        desk, account_id = self._desk, account_id_of(request.parent, "parent")
        asked = read_request(request, "RefuseConsent", desk.secret)
        grant = Grant(request.scope, request.notice_digest)
        answer = await self._decide(
            lambda register: refuse_consent(
                asked, account_id, grant, register=register, scopes=desk.scopes, clock=desk.clock,
                also_end=desk.ending(register).with_consent,
            ),
            (ReceiptEvent.REFUSED,),
        )  # fmt: skip
        return pb.RefuseConsentResponse(**answer)

    async def RevokeConsent(
        self, request: pb.RevokeConsentRequest, context: Any
    ) -> pb.RevokeConsentResponse:
        """Closes one scope from now on."""
        desk = self._desk
        account_id, number = read_numbered_name(request.name, "consents")
        asked = read_request(request, "RevokeConsent", desk.secret)
        answer = await self._decide(
            lambda register: revoke_consent(
                asked, account_id, number, register=register, clock=desk.clock,
                also_end=desk.ending(register).with_consent,
            ),
            (ReceiptEvent.REVOKED, ReceiptEvent.EXPIRED, ReceiptEvent.REFUSED),
        )  # fmt: skip
        return pb.RevokeConsentResponse(**answer)

    async def ListConsents(
        self, request: pb.ListConsentsRequest, context: Any
    ) -> pb.ListConsentsResponse:
        """A page of one account's consents, newest first."""
        desk, as_of = self._desk, read_moment(request, "read_time")
        page, token = await desk.page(
            request,
            "ListConsents",
            lambda register, account_id, after, limit: list_consents(
                account_id, after[0] if after else None, limit, as_of, register=register
            ),
            lambda consent: (consent.number,),
            str(as_of),
        )
        now, by_code = as_of or from_us(desk.clock()), desk.by_code
        return pb.ListConsentsResponse(
            consents=[messages.write_consent(consent, by_code, now) for consent in page],
            next_page_token=token,
        )

    async def ListConsentReceipts(
        self, request: pb.ListConsentReceiptsRequest, context: Any
    ) -> pb.ListConsentReceiptsResponse:
        """A page of signed receipts, newest first."""
        now = from_us(self._desk.clock())
        page, token = await self._desk.page(
            request,
            "ListConsentReceipts",
            # Signed where it is read, in a thread: a page of 500 takes 50 ms of a processor.
            lambda register, account_id, after, limit: self._receipts.signed(
                read_history(register, account_id), now, after, limit
            ),
            lambda receipt: receipt.key,
        )
        account_id = account_id_of(request.parent, "parent")
        return pb.ListConsentReceiptsResponse(
            receipts=write_receipts(account_id, page), next_page_token=token
        )

    async def BatchCheckConsents(
        self, request: pb.BatchCheckConsentsRequest, context: Any
    ) -> pb.BatchCheckConsentsResponse:
        """Whether each collection is covered, in the order asked."""
        desk, read_time = self._desk, read_moment(request, "read_time")
        now = read_time or from_us(desk.clock())
        if bool(request.checks) == request.HasField("columns"):
            raise FieldInvalid("checks", "exactly one of checks and columns must be given")
        if request.checks:
            asked = [messages.read_check(check) for check in request.checks]
            answers = await desk.reads.read(
                lambda c: check_consents(
                    asked, now, as_of=read_time is not None, register=desk.register(c),
                    scopes=desk.scopes,
                )
            )  # fmt: skip
            refused = sum(isinstance(answer, Refusal) for answer in answers)
            self._meter.count(caller().name, civil_day(desk.clock()), len(answers), refused)
            return pb.BatchCheckConsentsResponse(
                answers=[messages.write_answer(answer) for answer in answers]
            )
        accounts, occur_us = messages.read_columns(request.columns)
        verdicts = await desk.reads.read(
            lambda c: check_columns(
                accounts, request.columns.scope, occur_us, now, as_of=read_time is not None,
                register=desk.register(c), scopes=desk.scopes,
            )
        )  # fmt: skip
        refused = int((verdicts != Verdict.COVERED).sum())
        self._meter.count(caller().name, civil_day(desk.clock()), len(verdicts), refused)
        return pb.BatchCheckConsentsResponse(verdicts=verdicts.tobytes())

    async def ListConsentMeters(
        self, request: pb.ListConsentMetersRequest, context: Any
    ) -> pb.ListConsentMetersResponse:
        """How many checks each caller asked, newest day first."""
        desk, size = self._desk, page_size_of(request.page_size)
        after = desk.page_tokens.open(request.page_token, "ListConsentMeters")
        page = await desk.database.read(lambda c: read_meters(c, after, size + 1))
        token = ""
        if page[size:]:
            last = (page[size - 1].civil_day, page[size - 1].caller)
            token = desk.page_tokens.seal(last, "ListConsentMeters")
        return pb.ListConsentMetersResponse(
            meters=[
                pb.ListConsentMetersResponse.Meter(
                    caller=meter.caller,
                    check_date=write_day(meter.civil_day),
                    check_count=meter.checks,
                    refused_count=meter.refused,
                )
                for meter in page[:size]
            ],
            next_page_token=token,
        )

    async def _decide(
        self, decide: Callable[[Register], Decided], kinds: Collection[ReceiptEvent]
    ) -> dict[str, Any]:
        """Consent, receipt and token, as the three responses to a decision have them."""

        def change(register: Register) -> tuple[Decided, History]:
            decided = decide(register)
            return decided, read_history(register, decided.consent.account_id)

        decided, history = await self._desk.change(change)
        consent, now = decided.consent, from_us(self._desk.clock())
        return {
            "consent": messages.write_consent(consent, self._desk.by_code, now),
            "receipt": self._receipts.newest(history, consent.number, kinds, now),
            "freshness_token": token_of(consent.account_id, decided.position),
        }
