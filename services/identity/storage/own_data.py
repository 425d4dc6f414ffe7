"""Identity's own part of a copy: everything that it holds about an account, opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from services.identity.domain.account import Account
from services.identity.domain.operation import Operation
from services.identity.domain.scopes import Scope
from services.identity.storage.access_log import read_page
from services.identity.storage.privacy import Operations
from services.identity.storage.register import Register
from services.identity.storage.sessions import OF_ACCOUNT
from services.identity.storage.vault import Vault
from services.identity.usecases.acting import read_or_refuse
from shared.ids import account_name, day_to_date, shard_of
from shared.privacy import Item, Table, table_of

RoomExporter = Callable[[sa.Connection, int], Iterable[Item]]
"""What one room keeps of an account."""
_PAGE = 500

_PERSONS = """
select number, set_time, sealed from person
where shard = :shard and account_id = :account order by number
"""

_GUARDED_SINCE = """
select start_time from guardianship where shard = :shard and ward_id = :account
"""

_SESSIONS = f"""
select create_time, expire_time, end_time, end_cause from session
where {OF_ACCOUNT} order by create_time
"""


def records_of(
    name: str, read: Callable[[sa.Connection, int], Sequence[Mapping[str, object]]]
) -> RoomExporter:
    """A room's exporter, of what reads its records."""
    return lambda connection, account_id: [table_of(name, read(connection, account_id))]


class OwnData:
    """Reads identity's part, then that of each room, on one connection."""

    def __init__(
        self,
        *,
        vault: Vault,
        register: Callable[[sa.Connection], Register],
        scopes: Mapping[int, Scope],
        rooms: Sequence[RoomExporter],
    ) -> None:
        self._vault = vault
        self._register = register
        self._scopes = scopes
        self._rooms = rooms

    def items(self, connection: sa.Connection, account_id: int) -> Iterator[Item]:
        """Every part, one after the other; the account is not erased."""
        register = self._register(connection)
        account = read_or_refuse(register, account_id)
        guardian = register.guardian_of(account_id), _guarded_since(connection, account_id)
        yield _account(account, *guardian, register.wards_of(account_id))
        yield self._persons(connection, account_id)
        yield self._consents(register, account_id)
        yield _events(register, account_id)
        yield _operations(Operations(connection).read_page(account_id, None, _PAGE))
        yield Table(
            "access-log",
            ("access_time", "actor", "method", "purpose", "fields"),
            _accesses(connection, account_id),
        )
        sessions = connection.execute(sa.text(_SESSIONS), {"account": account_id})
        columns = ("create_time", "expire_time", "end_time", "end_cause")
        yield Table("sessions", columns, [tuple(row) for row in sessions])
        for room in self._rooms:
            yield from room(connection, account_id)

    def _persons(self, connection: sa.Connection, account_id: int) -> Table:
        """Every version of what is personal, as it was set."""
        parameters = {"shard": shard_of(account_id), "account": account_id}
        rows = []
        for row in connection.execute(sa.text(_PERSONS), parameters):
            plain = self._vault.open(connection, account_id, f"person/{row.number}", row.sealed)
            told = json.loads(plain)
            region, own_from_day = told.get("region", 0), told.get("own_from_day", 0)
            rows.append(
                (
                    row.number, row.set_time, told.get("display_name", ""),
                    f"{region:06d}" if region else "", told.get("preferences", {}),
                    day_to_date(own_from_day) if own_from_day else None,
                )
            )  # fmt: skip
        columns = ("version", "set_time", "display_name", "region_code", "preferences")
        return Table("person", (*columns, "own_from_date"), rows)

    def _consents(self, register: Register, account_id: int) -> Table:
        columns = (
            "consent", "scope", "decision", "notice_digest", "mandate_digest", "grant_time",
            "cover_from_time", "expire_time", "end_time", "end_kind", "confirm_time", "screen",
            "by_guardian",
        )  # fmt: skip
        rows = [
            (
                one.number, self._scope(one.scope), one.decision.name.lower(), one.notice_digest,
                one.mandate_digest, one.grant_time, one.cover_from_time, one.expire_time,
                one.revoke_time, one.end_kind.name.lower(), one.confirm_time, one.screen,
                one.by_guardian,
            )
            for one in reversed(register.read_consents(account_id))
        ]  # fmt: skip
        return Table("consents", columns, rows)

    def _scope(self, code: int) -> str:
        scope = self._scopes.get(code)
        return scope.name if scope is not None else str(code)


def _guarded_since(connection: sa.Connection, account_id: int) -> datetime | None:
    """Since when the account has a guardian, also one whose time is over; None without any."""
    parameters = {"shard": shard_of(account_id), "account": account_id}
    since: datetime | None = connection.execute(sa.text(_GUARDED_SINCE), parameters).scalar()
    return since


def _account(
    account: Account, guardian_id: int | None, since: datetime | None, wards: Sequence[int]
) -> Table:
    row = {
        "account": account_name(account.account_id),
        "state": account.state.name.lower(),
        "kind": account.kind.name.lower(),
        "customer_kind": account.customer_kind,
        "open_time": account.open_time,
        "update_time": account.update_time,
        "guardian": account_name(guardian_id) if guardian_id else "",
        "guardian_since": since,
        "wards": [account_name(ward) for ward in wards],
    }
    return table_of("account", [row])


def _events(register: Register, account_id: int) -> Table:
    rows = [
        (one.event_time, one.kind.name.lower(), one.number, one.actor, one.cause)
        for one in reversed(register.read_events(account_id, words=True))
    ]
    return Table("events", ("event_time", "kind", "number", "actor", "cause"), rows)


def _operations(operations: Sequence[Operation]) -> Table:
    rows = [
        (one.name, one.kind.name.lower(), one.state.name.lower(), one.create_time, one.finish_time)
        for one in reversed(operations)
    ]
    return Table("operations", ("operation", "kind", "state", "create_time", "finish_time"), rows)


def _accesses(
    connection: sa.Connection, account_id: int
) -> Iterator[tuple[datetime, str, str, str, list[str]]]:
    before = None
    while page := read_page(connection, account_id, before, _PAGE):
        for one in page:
            yield one.access_time, one.actor, one.method, one.purpose, list(one.fields)
        before = page[-1].number
