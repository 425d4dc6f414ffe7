"""Where the rooms of identity meet: what ends together, and who acts for whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

import sqlalchemy as sa

from services.identity.rpc.desk import Desk
from services.identity.rpc.household_servicer import room_of
from services.identity.storage.bindings import BindingStore
from services.identity.storage.communities import CommunityStore
from services.identity.storage.households import acting_households
from services.identity.storage.register import Register
from services.identity.usecases.bindings import end_bindings
from services.identity.usecases.communities import leave_communities
from services.identity.usecases.ending import Ending
from services.identity.usecases.leave_households import household_hook
from shared.ids import account_name, civil_day, civil_day_begin_us, to_us

_SECOND_US = 1_000_000
_ALWAYS_S = 1 << 40


def ending_of(register: Register, desk: Desk) -> Ending:
    """The hooks of all rooms, in the transaction of `register`; the household's locks heads and
    comes last."""
    connection = register.connection
    return Ending(
        [
            partial(end_bindings, bindings=BindingStore(connection)),
            partial(leave_communities, communities=CommunityStore(connection)),
            household_hook(room_of(register, desk)),
        ]
    )


def acting_for(desk: Desk) -> Callable[[sa.Connection, int, datetime], Mapping[str, int]]:
    """For tokens: the accounts for which an account acts at a moment, with the second until which.

    Wards until they are of age, households while the account belongs to them.
    """

    def acting(connection: sa.Connection, account_id: int, now: datetime) -> Mapping[str, int]:
        register, day = desk.register(connection), civil_day(to_us(now))
        until: dict[str, int] = {}
        for ward_id in register.wards_of(account_id):
            ward = register.read_account(ward_id)
            if ward is not None and ward.guarded(day):
                until[account_name(ward_id)] = _begin_s(ward.person.own_from_day)
        for household_id, end_day in acting_households(connection, account_id, day):
            until[account_name(household_id)] = _ALWAYS_S if end_day is None else _begin_s(end_day)
        return until

    return acting


def _begin_s(day: int) -> int:
    """The second at which a civil day begins."""
    return civil_day_begin_us(day) // _SECOND_US
