"""Who is calling: set once by the server before a servicer is reached."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

KINDS = (
    "public",
    "customer",
    "source",
    "service",
    "operator",
    "venue",
    "verifier",
    "auditor",
    "partner",
)
"""Kinds of principal, in the order of carbonaccount.options.v1.Caller from 1 on."""


@dataclass(frozen=True)
class Caller:
    """A principal: its kind and its name, such as sources/bike-demo.

    A customer has the bank's reference of the relation (`customer_ref`), of the person
    (`person_ref`, one for all relations; "" when the bank gives none), what the customer is to
    the bank (`customer_kind`, a number of the contract), the civil day of the 14th birthday
    while that lies ahead (`own_from_day`, days since 1970, else 0), and once opened the
    `account`. `session` is sessions/{session} of a signed-in caller, `acts_for` the accounts of
    wards and households that the token may act for besides.
    """

    kind: str
    name: str
    customer_ref: str = ""
    account: str = ""
    person_ref: str = ""
    customer_kind: int = 0
    own_from_day: int = 0
    session: str = ""
    acts_for: tuple[str, ...] = ()


PUBLIC = Caller("public", "anyone")
_current: ContextVar[Caller] = ContextVar("caller", default=PUBLIC)


def caller() -> Caller:
    """The principal of the call being served."""
    return _current.get()


def set_caller(who: Caller) -> None:
    """Says whose call this task serves."""
    _current.set(who)
