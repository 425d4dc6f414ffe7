"""Households by their use cases on a real database: without a server, so that a test can do a
year of them in a second, or have twenty threads at once."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from services.identity.domain.account import (
    Account,
    Event,
    Grant,
    Happened,
    Kind,
    Person,
    State,
)
from services.identity.domain.household import BELONG_SCOPE, History
from services.identity.storage.households import HouseholdStore
from services.identity.storage.register import Register
from services.identity.storage.vault import Vault
from services.identity.upstream.key_management import FileKeyManagement
from services.identity.usecases import agree_shares, households, leave_households
from services.identity.usecases.accounts import close_account
from services.identity.usecases.acting import Request
from services.identity.usecases.consents import revoke_consent
from services.identity.usecases.ending import Ending
from services.identity.usecases.household_room import Room, membership_of
from services.identity.usecases.households import founded_by
from services.identity.wiring import MIGRATIONS, load_scopes
from shared.ids import civil_day, from_us, new_account_id
from shared.storage.engine import Database
from shared.storage.migrate import migrate
from tests.identity.household_world import Clock

Result = TypeVar("Result")
SCOPES = load_scopes()
SECRET = b"s" * 32
_taps = itertools.count()


class Table:
    """A database of identity with households in it, and what can be done to them."""

    def __init__(self, database_url: str, keys_dir: Path, *, connections: int = 4) -> None:
        migrate(database_url, MIGRATIONS)
        self.clock = Clock()
        self.database = Database(database_url, connections_max=connections)
        self._vault = Vault(FileKeyManagement(keys_dir / "wrapping"), "aes-256-gcm")

    @property
    def today(self) -> int:
        return civil_day(self.clock())

    def run(self, work: Callable[[Room], Result]) -> Result:
        """The result of `work` in one transaction."""
        with self.database.transaction() as connection:
            return work(self._room(connection))

    def _room(self, connection: sa.Connection) -> Room:
        register = Register(connection, self._vault)
        return Room(
            register, HouseholdStore(connection), SCOPES, SECRET, self.clock, lambda _a, _n: []
        )

    def open(self, shard: int | None = None) -> int:
        """Somebody with an open account, in the shard if given."""
        now = self.clock.now
        number = new_account_id()
        number = number if shard is None else number >> 6 << 6 | shard
        account = Account(number, State.OPEN, Kind.PERSONAL, 0, Person(), 1, now, now)

        def write(room: Room) -> int:
            room.register.add_account(account)
            room.register.note(account.account_id, [Happened(Event.OPENED)], "customer", now)
            return account.account_id

        return self.run(write)

    def found(self, who: int, shard: int | None = None) -> int:
        """The household, in the shard if given."""
        asked, grant = self.asked(who, "CreateHousehold"), self.grant()
        while shard is not None and self.run(partial(founded_by, asked)) & 63 != shard:
            asked = self.asked(who, "CreateHousehold")
        return self.run(
            lambda room: households.create_household(asked, who, grant, Person("home"), room)
        ).account.account_id

    def invite(self, who: int) -> str:
        asked = self.asked(who, "InviteMember")
        return self.run(lambda room: households.invite_member(asked, who, room)).code

    def accept(self, who: int, code: str) -> int:
        """The household."""
        asked, grant = self.asked(who, "AcceptInvitation"), self.grant()
        return self.run(
            lambda room: households.accept_invitation(asked, who, code, grant, room)
        ).account.account_id

    def leave(self, who: int) -> int:
        asked = self.asked(who, "LeaveHousehold")
        return self.run(lambda room: leave_households.leave_household(asked, who, room))

    def remove(self, head: int, who: int) -> None:
        asked = self.asked(head, "RemoveMember")
        self.run(lambda room: leave_households.remove_member(asked, head, who, room))

    def split(self, who: int, along: list[int]) -> tuple[int, list[tuple[int, str]]]:
        """The new household, and a code for each of those along."""
        asked, grant = self.asked(who, "SplitHousehold"), self.grant()
        parted = self.run(
            lambda room: leave_households.split_household(
                asked, who, along, grant, Person("new home"), room
            )
        )
        return parted.view.account.account_id, list(parted.codes)

    def propose(self, who: int, weights: dict[int, int]) -> None:
        asked = self.asked(who, "ProposeShares")
        rows = list(weights.items())
        self.run(lambda room: agree_shares.propose_shares(asked, who, rows, room))

    def sign(self, who: int, number: int) -> None:
        asked = self.asked(who, "SignShares")
        self.run(lambda room: agree_shares.sign_shares(asked, who, number, room))

    def mates(self, who: int) -> list[int]:
        """Those who belong to the same household from tomorrow on, who asks among them."""

        def read(room: Room) -> list[int]:
            own = room.households.current(who)
            found = room.households.history(own.household_id) if own else History((), ())
            return [m.member_id for m in found.present.values()]

        return self.run(read)

    def revoke(self, who: int) -> None:
        """Takes back the consent on which the membership rests."""
        asked = self.asked(who, "RevokeConsent")

        def work(room: Room) -> None:
            consent = membership_of(who, room).consent_number
            revoke_consent(
                asked, who, consent, register=room.register, clock=self.clock,
                also_end=leave_households.household_hook(room),
            )  # fmt: skip

        self.run(work)

    def close(self, who: int) -> None:
        asked = self.asked(who, "CloseAccount")

        def work(room: Room) -> None:
            ending = Ending([leave_households.household_hook(room)])
            close_account(
                asked, who, "", register=room.register, clock=self.clock,
                also_end=ending.with_account,
            )  # fmt: skip

        self.run(work)

    def history(self, household_id: int) -> History:
        return self.run(lambda room: room.households.history(household_id))

    def asked(self, who: int, method: str) -> Request:
        """A request of its own by this account."""
        return Request(secrets.token_bytes(16), secrets.token_bytes(16), method, "customer",
                       "customer", who)  # fmt: skip

    def grant(self) -> Grant:
        now = from_us(self.clock())
        return Grant(
            BELONG_SCOPE, SCOPES[BELONG_SCOPE].notice_digest, confirm_time=now,
            screen=f"household/{next(_taps)}",
        )  # fmt: skip

    def close_database(self) -> None:
        self.database.close()


def check_whole(table: Table) -> None:
    """What must hold of all households at any time, however they came to be as they are."""
    with table.database.transaction() as connection:
        register = Register(connection, table._vault)
        rows = connection.execute(
            sa.text("select household_id, member_id, consent_number from household_member "
                    "where end_day is null")
        ).fetchall()  # fmt: skip
        members = [row.member_id for row in rows]
        assert len(members) == len(set(members)), "somebody belongs to two households"
        code = SCOPES[BELONG_SCOPE].code
        agreed = {
            account_id
            for (account_id,) in connection.execute(
                sa.text("select account_id from consent where scope = :code and decision = 1 "
                        "and revoke_time is null"), {"code": code},
            )
        }  # fmt: skip
        assert agreed == set(members), "membership and consent in force are not the same people"
        for household_id, state in connection.execute(
            sa.text("select account_id, state from account where kind = 2")
        ):
            count = sum(row.household_id == household_id for row in rows)
            assert state == {0: State.CLOSED, 1: State.SUSPENDED}.get(count, State.OPEN)
            in_force = [c for c in register.read_consents(household_id) if not c.revoke_time]
            assert len(in_force) == (1 if count else 0)
        lost = connection.execute(
            sa.text("select count(*) from account a where position <> (select max(position) "
                    "from event e where e.account_id = a.account_id)")
        ).scalar()  # fmt: skip
        assert lost == 0, "an account is not at the position of its newest event"
        twice = connection.execute(
            sa.text("select count(*) from household_member a join household_member b "
                    "on a.member_id = b.member_id and a.member_number < b.member_number "
                    "where a.start_day < a.end_day and coalesce(b.end_day, 99999) > b.start_day "
                    "and b.start_day < a.end_day")
        ).scalar()  # fmt: skip
        assert twice == 0, "somebody has a day in two households"
