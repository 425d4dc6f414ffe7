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
    """A principal: its kind, its name (such as sources/bike-demo), and for a customer the
    bank's reference and, once opened, the account."""

    kind: str
    name: str
    customer_ref: str = ""
    account: str = ""


PUBLIC = Caller("public", "anyone")
_current: ContextVar[Caller] = ContextVar("caller", default=PUBLIC)


def caller() -> Caller:
    """The principal of the call being served."""
    return _current.get()


def set_caller(who: Caller) -> None:
    """Says whose call this task serves."""
    _current.set(who)
