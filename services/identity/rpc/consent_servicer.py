"""ConsentService: reads, calls, writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbonaccount.identity.v1 import consent_service_pb2 as pb
from carbonaccount.identity.v1 import consent_service_pb2_grpc as pb_grpc

from services.identity.domain.scopes import Scope
from services.identity.rpc import messages
from services.identity.storage.register import Register
from services.identity.usecases.accounts import grant_consent, revoke_consent
from shared.clock import ClockUs
from shared.feed.watch import Signal
from shared.ids import account_id_of, account_name, from_us
from shared.refusal import (
    AccountNotOpen,
    ConsentMissing,
    FieldInvalid,
    Refusal,
    ResourceNotFound,
)
from shared.rpc.paging import PageTokens, page_size_of
from shared.rpc.status import to_status
from shared.storage.engine import Database

_OPEN = 1
_UNKNOWN_ACCOUNT = 1 << 62  # no account has this number in practice; it is found nowhere


class ConsentServicer(pb_grpc.ConsentServiceServicer):
    """Lists scopes; grants, lists, withdraws and checks consents."""

    def __init__(
        self,
        *,
        database: Database,
        scopes: Mapping[str, Scope],
        page_tokens: PageTokens,
        signal: Signal,
        clock: ClockUs,
    ) -> None:
        self._database = database
        self._scopes = scopes
        self._by_code = {scope.code: scope for scope in scopes.values()}
        self._page_tokens = page_tokens
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
        asked = messages.read_request(request, "GrantConsent", self._clock())
        grant = messages.read_grant(request.consent)
        consent = await self._database.call(
            lambda c: grant_consent(
                asked, account_id, grant, register=Register(c), scopes=self._scopes
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
        consents = await self._database.call(lambda c: Register(c).read_consents(account_id))
        page = [c for c in consents if after is None or c.number < after[0]]
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
        asked = messages.read_request(request, "RevokeConsent", self._clock())
        consent = await self._database.call(
            lambda c: revoke_consent(asked, account_id, number, register=Register(c))
        )
        self._signal.set()
        return pb.RevokeConsentResponse(
            consent=messages.write_consent(consent, self._by_code, from_us(self._clock()))
        )

    async def BatchCheckConsents(
        self, request: pb.BatchCheckConsentsRequest, context: Any
    ) -> pb.BatchCheckConsentsResponse:
        """Whether each collection is covered now, in the order asked."""
        asked = [self._read_check(check) for check in request.checks]
        found = await self._database.call(
            lambda c: Register(c).check(
                [a for a, _, _ in asked], [s for _, s, _ in asked], [t for _, _, t in asked]
            )
        )
        return pb.BatchCheckConsentsResponse(
            answers=[
                self._answer(check, asked[row], *found[row])
                for row, check in enumerate(request.checks)
            ]
        )

    def _read_check(self, check: pb.BatchCheckConsentsRequest.Check) -> tuple[int, int, int]:
        try:
            account_id = account_id_of(check.account, "account")
        except FieldInvalid:
            account_id = _UNKNOWN_ACCOUNT
        scope = self._scopes.get(check.scope)
        occur_us = check.occur_time.seconds * 1_000_000 + check.occur_time.nanos // 1000
        return account_id, scope.code if scope else 0, max(0, min(occur_us, 2**52))

    def _answer(
        self,
        check: pb.BatchCheckConsentsRequest.Check,
        asked: Sequence[int],
        state: int | None,
        number: int | None,
    ) -> pb.BatchCheckConsentsResponse.Answer:
        if state == _OPEN and number is not None:
            name = f"{account_name(asked[0])}/consents/{number}"
            return pb.BatchCheckConsentsResponse.Answer(consent=name)
        refusal: Refusal
        if state is None:
            refusal = ResourceNotFound(check.account[:64])
        elif state != _OPEN:
            refusal = AccountNotOpen(
                f"{check.account} is not open", metadata={"account": check.account, "state": state}
            )
        else:
            refusal = ConsentMissing(
                f"no consent of {check.account} to {check.scope[:64]} is in force and covers that",
                metadata={
                    "account": check.account,
                    "scene": "",
                    "scope": check.scope[:64],
                    "occur_time": check.occur_time.ToJsonString() if asked[2] else "",
                },
            )
        return pb.BatchCheckConsentsResponse.Answer(refusal=to_status(refusal))
