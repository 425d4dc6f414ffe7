"""What a start of identity does before it serves, after the migrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import sqlalchemy as sa

from services.identity.rpc.desk import Desk
from services.identity.storage import wrapping
from services.identity.storage.notices import (
    accounts_beside,
    remember_notices,
    settle,
    settled,
    standing,
)
from services.identity.storage.people import give_back_old_pages, seal_old_people
from services.identity.storage.register import Register
from services.identity.storage.vault import Vault
from services.identity.upstream.key_management import KeyManagement
from services.identity.usecases.renew_notices import end_outdated
from shared.ids import from_us
from shared.settings import StartRefused
from shared.storage.engine import Database

AT_ONCE = 200  # rows or accounts that a step handles in one transaction


def open_vault(database: Database, vault: Vault, keys: KeyManagement) -> None:
    """Every clear-text person is sealed.

    StartRefused when a wrapping key that data keys lie under is not in the key directory.
    """
    with database.transaction() as connection:
        lacking = wrapping.missing(connection, keys)
    if lacking:
        raise StartRefused(
            f"data keys are wrapped under {', '.join(lacking)}, which the directory wrapping/ of "
            "CARBONACCOUNT_IDENTITY_KEYS_DIR does not hold whole; put the file back from its copy"
        )
    moved = 1
    while moved:
        with database.transaction() as connection:
            moved = seal_old_people(connection, vault, AT_ONCE)
    with database.transaction() as connection:
        give_back_old_pages(connection)


def settle_notices(desk: Desk) -> None:
    """No consent is in force to a notice that has another text by now. Several workers may do it
    at once; what a worker of the release before writes afterwards is ended beside calls."""
    now = from_us(desk.clock())
    _in_transaction(desk, lambda c: remember_notices(c, desk.scopes, now))
    if _in_transaction(desk, lambda c: settled(c, desk.scopes)):
        return
    while found := _in_transaction(desk, partial(find_outdated, desk)):
        for account_id in found:
            with desk.database.transaction() as connection:
                renew(desk, account_id, desk.register(connection))
    _in_transaction(desk, lambda c: settle(c, desk.scopes))


def find_outdated(
    desk: Desk, connection: sa.Connection, moved_after: Mapping[int, int] | None = None
) -> list[int]:
    """At most AT_ONCE accounts for `renew`: of all, or of those that the feed moved since."""
    stand, now = standing(connection, desk.scopes), from_us(desk.clock())
    return accounts_beside(connection, stand, now, AT_ONCE, moved_after)


def renew(desk: Desk, account_id: int, register: Register) -> int:
    """Ends the account's consents in force to notices that have another text by now; how many."""
    return end_outdated(
        account_id,
        lambda: standing(register.connection, desk.scopes),
        register=register,
        clock=desk.clock,
        also_end=desk.ending(register).with_consent,
    )


def _in_transaction(desk: Desk, function: Callable[[sa.Connection], Any]) -> Any:
    with desk.database.transaction() as connection:
        return function(connection)
