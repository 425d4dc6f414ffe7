"""The cells of the authorisation matrix, and what the contract says about each."""

from __future__ import annotations

from dataclasses import dataclass

from carbonaccount.errors.v1.reason_pb2 import Reason
from carbonaccount.options.v1 import options_pb2
from google.protobuf.descriptor import MethodDescriptor
from matrix_requests import names_person, settable_fields
from test_contract import methods

from services.launch.layout import SERVICES
from shared.rpc.caller import KINDS

ADMITTED = "admitted"
NOT_ALLOWED = "PERMISSION_DENIED CALLER_NOT_ALLOWED"
TOKEN_INVALID = "UNAUTHENTICATED TOKEN_INVALID"
REASONS = {name.removeprefix("REASON_") for name, _ in Reason.items()}
SAY_OTHERWISE = {"CALLER_NOT_ALLOWED", "TOKEN_INVALID", "INTERNAL", "DEADLINE_EXCEEDED"}
FLAWS = ("expired", "unknown key", "wrong audience")


@dataclass(frozen=True)
class Endpoint:
    """A method where it is served."""

    service: str
    method: MethodDescriptor

    @property
    def name(self) -> str:
        """Such as ConsentService/GrantConsent."""
        return f"{self.method.containing_service.name}/{self.method.name}"

    def __str__(self) -> str:
        return f"{self.service} {self.name}"


@dataclass(frozen=True)
class Who:
    """A caller of `kind`, and whose resources the request names.

    `about` is "own" or "other", and of a customer also "ward", "former ward" or "unopened", who
    names the account of somebody though there is no account in the token. `flaw` is what is
    wrong with the token. `stranger` is a caller of the kind whom no catalogue knows.
    """

    kind: str
    about: str = "own"
    flaw: str = ""
    stranger: bool = False

    def __str__(self) -> str:
        if self.flaw:
            return f"token: {self.flaw}"
        return " ".join([self.kind, *["stranger"] * self.stranger, self.about])


CUSTOMERS = tuple(
    Who("customer", about) for about in ("own", "other", "ward", "former ward", "unopened")
)
ANYBODY = Who("public")
CALLERS = (
    ANYBODY,
    *(Who("", flaw=flaw) for flaw in FLAWS),
    *CUSTOMERS,
    *(Who(kind, about) for kind in KINDS[2:] for about in ("own", "other")),
    Who("source", stranger=True),
    Who("service", stranger=True),
)
"""The columns. A token with a flaw is of a kind that the method lists."""


def endpoints() -> list[Endpoint]:
    """The rows: every method of the contract, FeedService's once for each service."""
    found = []
    for method in methods():
        room = method.containing_service.full_name.split(".")[1]
        found += [Endpoint(one, method) for one in SERVICES if room in (one, "feed")]
    return found


def callers_of(method: MethodDescriptor) -> set[str]:
    """The kinds that the contract lists; read without the code that is on trial here."""
    listed = method.GetOptions().Extensions[options_pb2.callers]
    return {options_pb2.Caller.Name(one).removeprefix("CALLER_").lower() for one in listed}


def listed_kind(method: MethodDescriptor) -> str:
    """A kind that may call `method` with a token."""
    return min(callers_of(method) - {"public"} or {"customer"})


def wanted(method: MethodDescriptor, who: Who) -> str:
    """What the contract promises for a cell: ADMITTED, NOT_ALLOWED or TOKEN_INVALID."""
    listed = callers_of(method)
    if who.flaw:
        return TOKEN_INVALID
    if "public" in listed:
        return ADMITTED
    if who == ANYBODY:
        return TOKEN_INVALID
    if who.kind not in listed:
        return NOT_ALLOWED
    foreign = who.kind == "customer" and who.about not in ("own", "ward")
    persons = any(names_person(field) for _, field in settable_fields(method.input_type))
    return NOT_ALLOWED if foreign and persons else ADMITTED


def fits(outcome: str, promised: str, *, streamed: bool = False) -> bool:
    """Whether a call that ended so was admitted or refused as promised.

    Admitted is OK and every refusal of the closed list but those that say otherwise; and of a
    stream, to stay silent.
    """
    if promised != ADMITTED:
        return outcome == promised
    if outcome == "OK" or (streamed and outcome == "DEADLINE_EXCEEDED"):
        return True
    return outcome.partition(" ")[2] in REASONS - SAY_OTHERWISE
