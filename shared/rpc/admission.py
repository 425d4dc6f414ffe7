"""Whether a call may proceed: who calls, what the contract says, whose account it is."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from google.protobuf.descriptor import Descriptor

from shared.refusal import CallerNotAllowed, LimitReached
from shared.rpc.caller import PUBLIC, Caller, set_caller
from shared.rpc.contract import Policy
from shared.rpc.tokens import TokenVerifier

_PEERS_MAX = 10_000
_OWNED_FIELDS = ("name", "parent", "account")


class Admission:
    """Checks callers against policies; keeps the buckets of rate limits."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def admit(self, policy: Policy, metadata: Any, peer: str) -> Caller:
        """The caller, known to the task from here on; raises a refusal."""
        authorization = next((value for key, value in metadata if key == "authorization"), "")
        if authorization:
            who = self._verifier.verify(authorization)
        elif "public" in policy.callers:
            who = PUBLIC
        else:
            who = self._verifier.verify("")
        if who.kind not in policy.callers and "public" not in policy.callers:
            raise CallerNotAllowed(
                f"{policy.method} may be called by {', '.join(sorted(policy.callers)) or 'nobody'}"
                f" and this token is of a {who.kind}",
                metadata={"caller": who.name, "method": policy.method},
            )
        if policy.calls_per_second:
            self._spend(policy, peer.rpartition(":")[0])
        set_caller(who)
        return who

    def _spend(self, policy: Policy, peer: str) -> None:
        """Takes one call from the peer's bucket, which refills at the stated rate."""
        rate = policy.calls_per_second
        now = time.monotonic()
        calls, since = self._buckets.pop((peer, policy.method), (float(rate), now))
        calls = min(float(rate), calls + (now - since) * rate)
        if len(self._buckets) >= _PEERS_MAX:
            self._buckets.popitem(last=False)
        self._buckets[peer, policy.method] = (max(calls - 1, 0.0), now)
        if calls < 1:
            raise LimitReached(
                f"{policy.method} takes {rate} calls a second from one peer; wait and call again",
                retry_after_ms=max(1, 1000 // rate),
                metadata={"limit": "calls_per_second", "value": rate},
            )


def owned_field(request: Descriptor) -> str:
    """The field that names whose resource a request is about; "" when none does."""
    for name in _OWNED_FIELDS:
        field = request.fields_by_name.get(name)
        if field is not None and field.type == field.TYPE_STRING:
            return name
    return ""


def check_owner(who: Caller, policy: Policy, field: str, request: Any) -> None:
    """Refuses a customer whose request is not about the account of the token."""
    value = getattr(request, field)
    if who.account and (value == who.account or value.startswith(who.account + "/")):
        return
    raise CallerNotAllowed(
        f"{field} is {value[:64]!r} and this token is of {who.account or 'no account yet'}; "
        "a customer reaches the own account only",
        metadata={"caller": who.account or "customer", "method": policy.method},
    )
