"""SessionService: reads, calls, writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from carbonaccount.identity.v1 import session_service_pb2 as pb
from carbonaccount.identity.v1 import session_service_pb2_grpc as pb_grpc

from services.identity.domain.digest import REQUEST, keyed_digest
from services.identity.domain.session import (
    REFRESH_LIFETIME,
    Session,
    new_session_id,
    session_id_of,
)
from services.identity.rpc.desk import Desk
from services.identity.rpc.messages import customer_keys
from services.identity.rpc.session_tokens import SessionTokens
from services.identity.rpc.tickets import Tickets
from services.identity.storage.register import Register
from services.identity.storage.sessions import Sessions
from services.identity.usecases import sessions as use
from shared.ids import from_us
from shared.refusal import Refusal
from shared.rpc.jwks import json_web_key_set
from shared.rpc.keyring import RECEIPTS, TOKENS, published
from shared.rpc.request_id import read_request_id

Acting = Callable[[sa.Connection, int, datetime], Mapping[str, int]]
"""Accounts that an account may act for at a moment, each with the second until which."""

_SigningKey = pb.ListSigningKeysResponse.SigningKey
_PURPOSES = {TOKENS: _SigningKey.PURPOSE_TOKEN, RECEIPTS: _SigningKey.PURPOSE_RECEIPT}


class SessionServicer(pb_grpc.SessionServiceServicer):
    """Signs in, renews, signs out, and publishes keys."""

    def __init__(
        self,
        desk: Desk,
        *,
        tickets: Tickets,
        keys_dir: Path,
        acting: Acting = lambda _connection, _account_id, _now: {},
    ) -> None:
        self._desk = desk
        self._tickets = tickets
        self._keys_dir = keys_dir
        self._tokens = SessionTokens(keys_dir, desk.secret)
        self._acting = acting

    async def CreateSession(
        self, request: pb.CreateSessionRequest, context: Any
    ) -> pb.CreateSessionResponse:
        """Trades a ticket of the bank for tokens."""
        desk, now = self._desk, from_us(self._desk.clock())
        key = self._request_key("CreateSession", request.request_id)
        ticket = self._tickets.verify(request.bank_ticket, now)
        keys = customer_keys(desk.secret, ticket.customer_ref, ticket.person_ref)
        new = Session(new_session_id(), None, 1, key, keys[-1], now, now + REFRESH_LIFETIME)
        signed_in = await desk.change(
            lambda register: use.create_session(
                new, self._tickets.key(ticket), ticket.expire_time, keys, **self._with(register)
            )
        )
        return pb.CreateSessionResponse(session=self._tokens.write(signed_in, ticket, now))

    async def RefreshSession(
        self, request: pb.RefreshSessionRequest, context: Any
    ) -> pb.RefreshSessionResponse:
        """Trades a refresh token for the next tokens."""
        desk, now = self._desk, from_us(self._desk.clock())
        key = self._request_key("RefreshSession", request.request_id)
        refresh = self._tokens.open(request.refresh_token, now)
        holder = refresh.holder
        keys = customer_keys(desk.secret, holder.customer_ref, holder.person_ref)
        signed_in = await desk.database.call(
            lambda c: use.refresh_session(
                refresh.session_id, refresh.generation, key, keys, **self._with(desk.register(c))
            )
        )
        if isinstance(signed_in, Refusal):
            raise signed_in
        return pb.RefreshSessionResponse(session=self._tokens.write(signed_in, holder, now))

    async def DeleteSession(
        self, request: pb.DeleteSessionRequest, context: Any
    ) -> pb.DeleteSessionResponse:
        """Signs out."""
        session_id = session_id_of(request.name)
        await self._desk.change(
            lambda register: use.delete_session(
                session_id, sessions=Sessions(register.connection), register=register,
                clock=self._desk.clock,
            )
        )  # fmt: skip
        return pb.DeleteSessionResponse()

    async def ListSigningKeys(
        self, request: pb.ListSigningKeysRequest, context: Any
    ) -> pb.ListSigningKeysResponse:
        """Every key that verifies tokens or receipts."""
        keys = published(self._keys_dir)
        return pb.ListSigningKeysResponse(
            keys=[
                _SigningKey(
                    key_id=key.key_id, purpose=_PURPOSES[key.purpose],
                    jwk=json.dumps(key.jwk), current_key=key.current,
                )
                for key in keys
            ],
            jwks=json_web_key_set([key.jwk for key in keys]),
        )  # fmt: skip

    def _with(self, register: Register) -> dict[str, Any]:
        """What the use cases of signing in need besides."""
        connection = register.connection
        return {
            "sessions": Sessions(connection),
            "register": register,
            "acts_for": lambda account_id, now: self._acting(connection, account_id, now),
            "clock": self._desk.clock,
        }

    def _request_key(self, method: str, request_id: str) -> bytes:
        """What is kept of a request id; these calls have no caller, the tickets tell them apart."""
        return keyed_digest(self._desk.secret, REQUEST, method, str(read_request_id(request_id)))
