"""ConsentService: reads, calls, writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonaccount.identity.v1 import consent_service_pb2 as pb
from carbonaccount.identity.v1 import consent_service_pb2_grpc as pb_grpc

from services.identity.domain.scopes import Scope
from services.identity.rpc import messages
from services.identity.storage.register import Register
from services.identity.usecases.accounts import grant_consent, list_consents, revoke_consent
from services.identity.usecases.check_consents import check_consents
from shared.clock import ClockUs
from shared.feed.watch import Signal
from shared.ids import account_id_of, from_us
from shared.rpc.paging import PageTokens, page_size_of
from shared.storage.engine import Database


class ConsentServicer(pb_grpc.ConsentServiceServicer):
    """Lists scopes; grants, lists, withdraws and checks consents."""

    def __init__(
        self,
        *,
        database: Database,
        reads: Database,
        scopes: Mapping[str, Scope],
        secret: bytes,
        signal: Signal,
        clock: ClockUs,
    ) -> None:
        self._database = database
        self._reads = reads
        self._scopes = scopes
        self._by_code = {scope.code: scope for scope in scopes.values()}
        self._secret = secret
        self._page_tokens = PageTokens(secret)
        self._signal = signal
        self._clock = clock

    async def ListScopes(
        self, request: pb.ListScopesRequest, context: Any
    ) -> pb.ListScopesResponse:
        """Everything that can be agreed to."""
        return pb.ListScopesResponse(
            scopes=[messages.write_scope(scope) for scope in self._scopes.values()]
        )

    async def GrantConsent(
        self, request: pb.GrantConsentRequest, context: Any
    ) -> pb.GrantConsentResponse:
        """Opens one scope."""
        account_id = account_id_of(request.parent, "parent")
        asked = messages.read_request(request, "GrantConsent", self._secret)
        grant = messages.read_grant(request.consent)
        consent = await self._database.call(
            lambda c: grant_consent(
                asked,
                account_id,
                grant,
                register=Register(c),
                scopes=self._scopes,
                clock=self._clock,
            )
        )
        self._signal.set()
        return pb.GrantConsentResponse(
            consent=messages.write_consent(consent, self._by_code, from_us(self._clock()))
        )

    async def ListConsents(
        self, request: pb.ListConsentsRequest, context: Any
    ) -> pb.ListConsentsResponse:
        """A page of one account's consents, newest first."""
        account_id = account_id_of(request.parent, "parent")
        size = page_size_of(request.page_size)
        after = self._page_tokens.open(request.page_token, "ListConsents", request.parent)
        page = await self._database.read(
            lambda c: list_consents(
                account_id, after[0] if after else None, size + 1, register=Register(c)
            )
        )
        token = ""
        if len(page) > size:
            page = page[:size]
            token = self._page_tokens.seal((page[-1].number,), "ListConsents", request.parent)
        now = from_us(self._clock())
        return pb.ListConsentsResponse(
            consents=[messages.write_consent(c, self._by_code, now) for c in page],
            next_page_token=token,
        )

    async def RevokeConsent(
        self, request: pb.RevokeConsentRequest, context: Any
    ) -> pb.RevokeConsentResponse:
        """Closes one scope from now on."""
        account_id, number = messages.read_consent_name(request.name)
        asked = messages.read_request(request, "RevokeConsent", self._secret)
        consent = await self._database.call(
            lambda c: revoke_consent(
                asked, account_id, number, register=Register(c), clock=self._clock
            )
        )
        self._signal.set()
        return pb.RevokeConsentResponse(
            consent=messages.write_consent(consent, self._by_code, from_us(self._clock()))
        )

    async def BatchCheckConsents(
        self, request: pb.BatchCheckConsentsRequest, context: Any
    ) -> pb.BatchCheckConsentsResponse:
        """Whether each collection is covered now, in the order asked."""
        asked = [messages.read_check(check) for check in request.checks]
        answers = await self._reads.read(
            lambda c: check_consents(
                asked, register=Register(c), scopes=self._scopes, clock=self._clock
            )
        )
        return pb.BatchCheckConsentsResponse(
            answers=[messages.write_answer(answer) for answer in answers]
        )
