"""Receipts of what happened to an account's consents, as the contract shows them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from carbonaccount.identity.v1 import consent_pb2

from services.identity.domain.account import Consent, Event, NotedEvent
from services.identity.domain.receipt import ReceiptEvent
from services.identity.domain.scopes import Scope
from services.identity.rpc.times import write_time
from services.identity.storage.notices import read_notices
from services.identity.storage.register import Register
from services.identity.usecases.receipts import (
    Receipt,
    ReceiptMaker,
    Signer,
    receipt_of,
    receipts_of,
)
from shared.ids import account_name

_KINDS = (
    Event.CONSENT_GRANTED,
    Event.CONSENT_REFUSED,
    Event.CONSENT_REVOKED,
    Event.CONSENT_EXPIRED,
)


@dataclass(frozen=True)
class History:
    """All that the receipts of one account are made of."""

    account_id: int
    consents: Sequence[Consent]
    events: Sequence[NotedEvent]
    notices: dict[tuple[int, bytes], Scope]


def read_history(register: Register, account_id: int) -> History:
    """The consents of an account, what happened to them, and the notices they are about.

    A consent of before notices were remembered is left out: nobody knows its words any more.
    """
    consents = register.read_consents(account_id)
    wanted = {(consent.scope, consent.notice_digest) for consent in consents}
    notices = read_notices(register.connection, wanted) if wanted else {}
    consents = [c for c in consents if (c.scope, c.notice_digest) in notices]
    return History(account_id, consents, register.read_events(account_id, kinds=_KINDS), notices)


class ReceiptBook:
    """Makes and signs receipts; the same event always gives the same receipt."""

    def __init__(self, signer: Signer, secret: bytes) -> None:
        self._signer = signer
        self._secret = secret

    def newest(
        self, history: History, number: int, kinds: Collection[ReceiptEvent], now: datetime
    ) -> consent_pb2.ConsentReceipt | None:
        """The newest receipt of one consent about one of `kinds`; None when there is none."""
        found = receipt_of(
            number, kinds, history.consents, history.events, now, maker=self._maker(history)
        )
        return None if found is None else _written(history.account_id, found)

    def signed(
        self,
        history: History,
        now: datetime,
        before: tuple[int, ...] | None = None,
        limit: int | None = None,
    ) -> list[Receipt]:
        """At most `limit` receipts, newest first, below the key `before`."""
        return receipts_of(
            history.consents, history.events, now, maker=self._maker(history), before=before,
            limit=limit,
        )  # fmt: skip

    def _maker(self, history: History) -> ReceiptMaker:
        return ReceiptMaker(history.notices, self._secret, self._signer)


def write_receipts(
    account_id: int, receipts: Sequence[Receipt]
) -> list[consent_pb2.ConsentReceipt]:
    """Receipts as the contract shows them."""
    return [_written(account_id, receipt) for receipt in receipts]


def _written(account_id: int, receipt: Receipt) -> consent_pb2.ConsentReceipt:
    return consent_pb2.ConsentReceipt(
        consent=f"{account_name(account_id)}/consents/{receipt.number}",
        event=consent_pb2.ConsentReceipt.Event.ValueType(receipt.event),
        event_time=write_time(receipt.event_time),
        jws=receipt.jws,
    )
