"""A changed notice needs a new consent: those to the text before end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from services.identity.domain.account import Account, Consent, EndKind, Event, Happened
from services.identity.usecases.acting import Register, hold
from shared.clock import ClockUs

ACTOR = "services/identity"


def end_outdated(
    account_id: int,
    read_standing: Callable[[], Mapping[int, set[bytes]]],
    *,
    register: Register,
    clock: ClockUs,
    also_end: Callable[[Account, Consent, datetime], list[Happened]],
) -> int:
    """Ends the account's consents in force to notices that are not in `read_standing` (digests by
    code of the scope); how many it ended."""
    account, now = hold(account_id, register, clock)
    happened: list[Happened] = []
    ended = 0
    consents = register.read_consents(account_id)
    # Read after the consents: a text that one of them is to is known by now, also a new one.
    stand = read_standing()
    for consent in consents:
        if consent.in_force(now) and consent.notice_digest not in stand[consent.scope]:
            over = consent.ended(now, EndKind.NOTICE_CHANGED)
            register.put_consent(over)
            happened.append(Happened(Event.CONSENT_EXPIRED, consent.number))
            happened += also_end(account, over, now)
            ended += 1
    if happened:
        register.note(account_id, happened, ACTOR, now)
    return ended
