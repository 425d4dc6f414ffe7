"""Whether a call may proceed: who calls, what the contract says, whose account it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from shared.refusal import CallerNotAllowed
from shared.rpc.caller import PUBLIC, Caller, set_caller
from shared.rpc.contract import Policy
from shared.rpc.limits import CallLimits, host_of
from shared.rpc.tokens import TokenVerifier

_OWNED_FIELDS = ("name", "parent", "account")


class Admission:
    """Checks callers against policies and holds them to their rates."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier
        self._limits = CallLimits()

    def identify(self, policy: Policy, authorization: str) -> Caller:
        """Who calls, allowed or not; TOKEN_INVALID where that cannot be known and must be, and
        CALLER_NOT_ALLOWED for a method that nobody may call."""
        if not policy.callers:
            raise CallerNotAllowed(
                f"{policy.method} may be called by nobody; its contract lists no caller",
                metadata={"caller": "", "method": policy.method},
            )
        if not authorization and policy.is_public:
            return PUBLIC
        return self._verifier.verify(authorization)

    def admit(self, policy: Policy, who: Caller, peer: Callable[[], str]) -> None:
        """Makes the caller known to the task from here on; raises a refusal."""
        if who.kind not in policy.callers and not policy.is_public:
            raise CallerNotAllowed(
                f"{policy.method} may be called by {', '.join(sorted(policy.callers))} "
                f"and this token is of a {who.kind}",
                # The name in a customer's token may be the bank's number of a person; it stays out.
                metadata={
                    "caller": who.kind if who.kind == "customer" else who.name,
                    "method": policy.method,
                },
            )
        if policy.calls_per_second and who is PUBLIC:
            self._limits.spend(host_of(peer()), policy.method, policy.calls_per_second)
        set_caller(who)


def owned_fields(request: Descriptor) -> tuple[str, ...]:
    """The fields that name whose resource a request is about; () when none does.

    A whole resource in the request counts by its own name: `account.name`.
    """
    found = []
    for name in _OWNED_FIELDS:
        field = request.fields_by_name.get(name)
        if field is None or field.is_repeated:
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            found.append(name)
        elif field.message_type is not None and "name" in field.message_type.fields_by_name:
            found.append(f"{name}.name")
    return tuple(found)


def check_owner(who: Caller, policy: Policy, fields: tuple[str, ...], request: Any) -> None:
    """Refuses a customer whose request is about what is not the customer's.

    Every field of `fields` that is set must name the account of the token, one that the token
    acts for, something below them, or the session of the token. One plain field must be set;
    `account.name` may be empty, which is how an account is opened.
    """
    named = False
    for field in fields:
        outer, _, inner = field.partition(".")
        value = getattr(request, outer)
        value = getattr(value, inner) if inner else value
        if value and not _reaches(who, value):
            raise _not_own(who, policy, field, value)
        named = named or bool(value) or bool(inner)
    if fields and not named:
        raise _not_own(who, policy, fields[0], "")


def _reaches(who: Caller, name: str) -> bool:
    if name == who.session:
        return True
    return any(_is_below(name, account) for account in (who.account, *who.acts_for))


def _is_below(name: str, account: str) -> bool:
    return bool(account) and (name == account or name.startswith(account + "/"))


def _not_own(who: Caller, policy: Policy, field: str, value: str) -> CallerNotAllowed:
    return CallerNotAllowed(
        f"{field} is {value[:64]!r} and this token is of {who.account or 'no account yet'}; "
        "a customer reaches the own account, those of wards and household, and the own session",
        metadata={"caller": who.account or "customer", "method": policy.method},
    )
