"""Tickets of the bank as servicers take them: verified, and each used once."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from services.identity.domain.digest import keyed_digest
from services.identity.domain.session import BankCustomer
from services.identity.storage.sessions import Sessions
from services.identity.usecases.sessions import TicketVerifier, use_ticket

_TICKET = "ticket"


class Tickets:
    """Verifies tickets, and remembers under keyed digests those that were used."""

    def __init__(self, verifier: TicketVerifier, secret: bytes) -> None:
        self._verifier = verifier
        self._secret = secret

    def verify(self, ticket: str, now: datetime) -> BankCustomer:
        """What the ticket says; CODE_INVALID when it is not one of the bank, valid at `now`."""
        return self._verifier.verify(ticket, now)

    def use(self, connection: sa.Connection, ticket: BankCustomer, request: bytes) -> None:
        """Uses the ticket up for this request (16 bytes); CODE_INVALID when another one did."""
        key = self.key(ticket)
        use_ticket(key, request, 0, ticket.expire_time, sessions=Sessions(connection))

    def key(self, ticket: BankCustomer) -> bytes:
        """16 bytes under which the ticket is remembered."""
        return keyed_digest(self._secret, _TICKET, ticket.ticket_id)
