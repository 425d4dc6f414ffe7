"""A guardian and a child of whom the bank says who the guardian is, and a clock to move on."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

from carbonaccount.identity.v1 import account_pb2
from carbonaccount.identity.v1 import account_service_pb2 as pb
from carbonaccount.identity.v1.consent_pb2 import ConsentGrant
from identity_house import Customer, House, request_id

from services.identity.upstream.bank_tickets import make_double_ticket
from shared.clock import now_us

DAY = timedelta(days=1)


class Clock:
    """The real time, moved on by `ahead`."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> int:
        return now_us() + int(self.ahead.total_seconds() * 1e6)


def fourteen(days: int) -> date:
    """The day of birth of who turns 14 in so many civil days."""
    today = datetime.fromtimestamp(time.time() + 8 * 3600, UTC).date()
    of_age = today + days * DAY
    return date(of_age.year - 14, of_age.month, of_age.day if of_age.month != 2 else 28)


class Family:
    """A grown-up with an account, and a child of whom the bank says who the guardian is."""

    def __init__(self, house: House, days: int = 30) -> None:
        self.house = house
        self.guardian = house.customer()
        self.guardian.open()
        self.child = house.customer()
        self.born = fourteen(days)
        self.guardian.facts["acts_for"] = {}

    def ticket(self, **facts: Any) -> str:
        told = {"guardian_ref": self.guardian.customer_ref, "birth_date": self.born.isoformat()}
        return make_double_ticket(
            self.house.settings.keys_dir, self.child.customer_ref, int(time.time()),
            **{**told, **facts},
        )  # fmt: skip

    def open(
        self, *grants: ConsentGrant, ticket: str = "", request: str = ""
    ) -> pb.OpenWardAccountResponse:
        message = pb.OpenWardAccountRequest(
            parent=self.guardian.account,
            bank_ticket=ticket or self.ticket(),
            account=account_pb2.Account(display_name="小明"),
            consents=grants,
            request_id=request or request_id(),
        )
        answer = self.house.accounts.OpenWardAccount(message, **self.guardian.call)
        self.child.account = answer.account.name
        until = int(time.time()) + 10**8
        self.guardian.facts["acts_for"] = {self.child.account: until}
        return answer

    @property
    def for_child(self) -> Customer:
        """The guardian, with the child's account in mind."""
        guardian = self.guardian
        return _Acting(self.house, guardian.customer_ref, self.child.account, guardian)


class _Acting(Customer):
    """Calls with the token of somebody else."""

    def __init__(self, house: House, customer_ref: str, account: str, holder: Customer) -> None:
        super().__init__(house, customer_ref, account)
        self._holder = holder

    @property
    def call(self) -> dict[str, Any]:
        return self._holder.call
