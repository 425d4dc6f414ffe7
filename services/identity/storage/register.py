"""Accounts and what happened to them in the database; every change takes its place in the feed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.identity.domain.account import (
    STATE_AFTER,
    Account,
    Event,
    Happened,
    Kind,
    NotedEvent,
    Person,
    Preferences,
    State,
)
from services.identity.storage import tables as t
from services.identity.storage.consents import ConsentRows
from services.identity.storage.people import People
from services.identity.storage.vault import Vault
from shared.feed.append import advance_heads
from shared.ids import shard_of
from shared.storage.engine import driver_of

_MEMBER = """
select exists (
    select from household_member
    where shard = :shard and household_id = :household and member_id = :member
        and (end_day is null or (start_day < end_day and :day < end_day))
)
"""


class Register(ConsentRows):
    """Identity's accounts on one connection, inside one transaction."""

    def __init__(self, connection: sa.Connection, vault: Vault) -> None:
        super().__init__(connection)
        self._vault = vault
        self._people = People(vault)

    @property
    def connection(self) -> sa.Connection:
        """The connection, for storage of other rooms that shares the transaction."""
        return self._connection

    def claim_customer(self, keys: Sequence[bytes], account_id: int) -> int:
        """The account of the customer with one of these keys: `account_id` when there was none.

        A caller that loses the race waits for the winner and gets the winner's account.
        """
        for key in sorted(keys, key=lambda key: (key[0] & 63, key)):
            insert = pg.insert(t.customer_key).values(
                shard=key[0] & 63, key=UUID(bytes=key), account_id=account_id
            )
            owner = None
            while owner is None:  # again when the row that was in the way is erased by now
                self._connection.execute(insert.on_conflict_do_nothing())
                owner = self.customer_account(key)
            if owner != account_id:
                return owner
        return account_id

    def customer_account(self, key: bytes) -> int | None:
        """The account of this customer, or None."""
        query = sa.select(t.customer_key.c.account_id).where(
            t.customer_key.c.shard == key[0] & 63, t.customer_key.c.key == UUID(bytes=key)
        )
        return self._connection.execute(query).scalar()

    def claim_request(
        self, key: bytes, content: bytes, account_id: int
    ) -> tuple[bytes, int, int] | None:
        """Notes a request id; None when it is new, else its content, number and account."""
        shard, row = key[0] & 63, UUID(bytes=key)
        insert = pg.insert(t.request).values(
            shard=shard, key=row, content=UUID(bytes=content), account_id=account_id, number=0
        )
        claimed = self._connection.execute(
            insert.on_conflict_do_nothing().returning(t.request.c.shard)
        )
        return None if claimed.one_or_none() is not None else self.read_request(key)

    def read_request(self, key: bytes) -> tuple[bytes, int, int] | None:
        """Content, number and account of a request id; None when it is new."""
        query = sa.select(t.request).where(
            t.request.c.shard == key[0] & 63, t.request.c.key == UUID(bytes=key)
        )
        known = self._connection.execute(query).one_or_none()
        return None if known is None else (known.content.bytes, known.number, known.account_id)

    def answer_request(self, key: bytes, number: int) -> None:
        """Notes the number of what a request made."""
        self._connection.execute(
            sa.update(t.request)
            .where(t.request.c.shard == key[0] & 63, t.request.c.key == UUID(bytes=key))
            .values(number=number)
        )

    def add_account(self, account: Account) -> None:
        """Writes a new account and its person; `note` must follow, which gives it its place."""
        self._connection.execute(
            sa.insert(t.account).values(
                account_id=account.account_id, shard=shard_of(account.account_id),
                state=account.state.value, kind=account.kind.value,
                customer_kind=account.customer_kind, open_time=account.open_time,
                update_time=account.update_time,
                # Unique within the shard until `note` gives the real one, and above every head.
                position=(1 << 62) | (account.account_id >> 6),
            )
        )  # fmt: skip
        self._vault.new_key(self._connection, account.account_id)
        self.write_person(
            account.account_id, account.person_number, account.person, account.open_time
        )

    def write_person(self, account_id: int, number: int, person: Person, now: datetime) -> None:
        """Adds a version of what is personal about an account, sealed."""
        plain = json.dumps(asdict(person), ensure_ascii=False).encode()
        self._people.write(self._connection, account_id, number, now, plain)

    def read_account(
        self, account_id: int, *, lock: bool = False, as_of: datetime | None = None
    ) -> Account | None:
        """The account as it stands, or stood at `as_of`; `lock` holds it until the commit."""
        shard = shard_of(account_id)
        query = sa.select(t.account).where(
            t.account.c.shard == shard, t.account.c.account_id == account_id
        )
        if lock:
            query = query.with_for_update()
        row = self._connection.execute(query).one_or_none()
        if row is None or (as_of is not None and as_of < row.open_time):
            return None
        state, update_time = State(row.state), row.update_time
        if as_of is not None:
            state, update_time = self._stood(account_id, as_of)
        number, person = self._person(account_id, as_of)
        return Account(
            account_id, state, Kind(row.kind), row.customer_kind, person, number, row.open_time,
            update_time,
        )  # fmt: skip

    def set_state(self, account_id: int, state: State) -> None:
        """Moves an account on in its life."""
        self._connection.execute(
            sa.update(t.account)
            .where(t.account.c.shard == shard_of(account_id), t.account.c.account_id == account_id)
            .values(state=state.value)
        )

    def read_events(
        self,
        account_id: int,
        *,
        before: int | None = None,
        limit: int | None = None,
        kinds: Sequence[Event] = (),
        words: bool = False,
    ) -> list[NotedEvent]:
        """What happened to the account, newest first: positions below `before`, at most `limit`,
        of `kinds` where any are named; with the customer's own `words`, opened, as causes."""
        query = (
            sa.select(t.event)
            .where(t.event.c.account_id == account_id)
            .order_by(t.event.c.position.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(t.event.c.position < before)
        if kinds:
            query = query.where(t.event.c.kind.in_([kind.value for kind in kinds]))
        return [
            NotedEvent(
                row.position, Event(row.kind), row.event_time, row.number, row.actor,
                self._opened(row) if words and row.words else row.cause,
            )
            for row in self._connection.execute(query)
        ]  # fmt: skip

    def note(self, account_id: int, happened: Sequence[Happened], actor: str, now: datetime) -> int:
        """Writes what happened, moves the account to the end of the feed, and returns that
        position. It locks the head of the shard until the commit, so it comes last."""
        shard = shard_of(account_id)
        first = advance_heads(
            driver_of(self._connection), np.array([shard]), np.array([len(happened)])
        )[0]
        self._connection.execute(
            sa.insert(t.event),
            [
                {
                    "position": int(first) + place, "account_id": account_id, "event_time": now,
                    "number": one.number, "shard": shard, "kind": one.kind.value,
                    "actor": actor, "cause": one.cause,
                    "words": self._sealed(account_id, one.words, int(first) + place),
                }
                for place, one in enumerate(happened)
            ],
        )  # fmt: skip
        self._connection.execute(
            sa.update(t.account)
            .where(t.account.c.shard == shard, t.account.c.account_id == account_id)
            .values(position=int(first) + len(happened) - 1, update_time=now)
        )
        return int(first) + len(happened) - 1

    def position_of(self, account_id: int) -> int:
        """Where the account stands in the feed of its shard."""
        query = sa.select(t.account.c.position).where(
            t.account.c.shard == shard_of(account_id), t.account.c.account_id == account_id
        )
        return int(self._connection.execute(query).scalar_one())

    def add_guardianship(self, ward_id: int, guardian_id: int, now: datetime) -> None:
        """Notes who decides for a child."""
        self._connection.execute(
            sa.insert(t.guardianship).values(
                ward_id=ward_id, guardian_id=guardian_id, start_time=now, shard=shard_of(ward_id)
            )
        )

    def guardian_of(self, account_id: int) -> int | None:
        """The account of the guardian, also of one whose time is over; None when there never was
        any."""
        query = sa.select(t.guardianship.c.guardian_id).where(
            t.guardianship.c.shard == shard_of(account_id), t.guardianship.c.ward_id == account_id
        )
        return self._connection.execute(query).scalar()

    def wards_of(self, account_id: int) -> list[int]:
        """Accounts whose guardian this account is or was."""
        query = sa.select(t.guardianship.c.ward_id).where(
            t.guardianship.c.guardian_id == account_id
        )
        return list(self._connection.execute(query).scalars())

    def is_member(self, household_id: int, member_id: int, day: int) -> bool:
        """Whether the account belongs to the household on that civil day, or from the next on."""
        parameters = {
            "shard": shard_of(household_id), "household": household_id, "member": member_id,
            "day": day,
        }  # fmt: skip
        return bool(self._connection.execute(sa.text(_MEMBER), parameters).scalar())

    def _sealed(self, account_id: int, words: str, position: int) -> bytes | None:
        if not words:
            return None
        plain, purpose = words.encode(), f"event/{position}"
        return self._vault.seal(self._connection, account_id, purpose, plain)

    def _opened(self, row: sa.Row[Any]) -> str:
        purpose = f"event/{row.position}"
        return self._vault.open(self._connection, row.account_id, purpose, row.words).decode()

    def _stood(self, account_id: int, as_of: datetime) -> tuple[State, datetime]:
        """State and time of the last change of an account that was open at `as_of`."""
        past = sa.select(t.event.c.kind, t.event.c.event_time).where(
            t.event.c.account_id == account_id, t.event.c.event_time <= as_of
        )
        newest = past.order_by(t.event.c.position.desc()).limit(1)
        moves = [kind.value for kind in STATE_AFTER]
        moved = self._connection.execute(newest.where(t.event.c.kind.in_(moves))).one_or_none()
        last = self._connection.execute(newest).one_or_none()
        if moved is None or last is None:  # older than its first event: it was opened in bulk
            return State.OPEN, as_of
        return STATE_AFTER[Event(moved.kind)], last.event_time

    def _person(self, account_id: int, as_of: datetime | None) -> tuple[int, Person]:
        found = self._people.read(self._connection, account_id, as_of)
        if found is None:
            return 0, Person()
        fields = json.loads(found[1])
        preferences = Preferences(**fields.pop("preferences", {}))
        return found[0], Person(**fields, preferences=preferences)
