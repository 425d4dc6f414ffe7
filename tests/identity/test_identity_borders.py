"""Where a consent ends and what may be granted, to the microsecond on either side."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from carbonaccount.identity.v1 import consent_service_pb2 as pb
from carbonaccount.identity.v1.consent_pb2 import Consent as Told

from services.identity.domain.account import (
    Account,
    Consent,
    Grant,
    Kind,
    Person,
    State,
)
from services.identity.domain.granting import new_consent
from services.identity.storage.consents import ConsentRows
from shared.ids import account_id_of, to_us
from shared.refusal import FieldInvalid
from shared.rpc.status import reason_of
from shared.storage.engine import Database
from tests.identity.household_desk import Table
from tests.identity.household_world import Clock
from tests.identity.identity_house import (
    MICROSECOND,
    READING,
    SCOPES,
    TRAVEL,
    Customer,
    House,
    grant_of,
    served,
    settings_for,
    stamp,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
END = NOW + timedelta(days=30)
ACCOUNT = Account(1, State.OPEN, Kind.PERSONAL, 0, Person(), 1, NOW, NOW)
COVERED, MISSING = 1, 2


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def house(database_url: str, tmp_path: Path, clock: Clock) -> Iterator[House]:
    with served(settings_for(database_url, tmp_path), clock) as running:
        yield running


@pytest.fixture
def person(house: House) -> Customer:
    """Somebody whose consent to READING runs from NOW until END."""
    found = house.customer()
    found.open(grant_of(READING, expire_time=stamp(END)))
    return found


@pytest.fixture
def bounded(database_url: str, tmp_path: Path) -> Iterator[tuple[Database, int]]:
    """A database, and an open account in it whose consent 1 to READING runs until END."""
    table = Table(database_url, tmp_path)
    account_id = table.open()
    scope = SCOPES[READING]
    with table.database.transaction() as connection:
        ConsentRows(connection).put_consent(
            Consent(account_id, 1, scope.code, scope.notice_digest, NOW, NOW, None, END)
        )
    yield table.database, account_id
    table.close_database()


def checked(house: House, person: Customer, **read: Any) -> tuple[str, int]:
    """What covers behaviour of NOW, asked as an item and as a column: name or reason, verdict."""
    item = pb.BatchCheckConsentsRequest.Check(
        account=person.account, scope=READING, occur_time=stamp(NOW)
    )
    (answer,) = house.consents.BatchCheckConsents(
        pb.BatchCheckConsentsRequest(checks=[item], **read), **house.service
    ).answers
    columns = pb.BatchCheckConsentsRequest.Columns(
        scope=READING,
        account_id=account_id_of(person.account).to_bytes(8),
        occur_time_us=to_us(NOW).to_bytes(8),
    )
    (verdict,) = house.consents.BatchCheckConsents(
        pb.BatchCheckConsentsRequest(columns=columns, **read), **house.service
    ).verdicts
    return answer.consent or reason_of(answer.refusal), verdict


def listed(house: House, person: Customer, **read: Any) -> int:
    """The state of the person's consent."""
    asked = pb.ListConsentsRequest(parent=person.account, **read)
    (consent,) = house.consents.ListConsents(asked, **person.call).consents
    return consent.state


def test_a_check_as_of_a_moment_knows_a_consent_that_runs_out_until_it_has(
    house: House, person: Customer, clock: Clock
) -> None:
    covered = (f"{person.account}/consents/1", COVERED)
    for today in (NOW, END + timedelta(days=1)):
        clock.set(today)
        assert checked(house, person, read_time=stamp(NOW)) == covered
        assert checked(house, person, read_time=stamp(END - MICROSECOND)) == covered
        for after in (END, END + MICROSECOND, END + timedelta(days=1)):
            assert checked(house, person, read_time=stamp(after)) == ("CONSENT_MISSING", MISSING)


def test_a_check_of_now_ends_with_the_consent_to_the_microsecond(
    house: House, person: Customer, clock: Clock
) -> None:
    clock.set(END - MICROSECOND)
    assert checked(house, person) == (f"{person.account}/consents/1", COVERED)
    clock.set(END)
    assert checked(house, person) == ("CONSENT_MISSING", MISSING)


def test_a_consent_is_listed_as_expired_from_its_end_on_and_not_before(
    house: House, person: Customer, clock: Clock
) -> None:
    for today in (NOW, END + timedelta(days=1)):
        clock.set(today)
        assert listed(house, person, read_time=stamp(END - MICROSECOND)) == Told.STATE_GRANTED
        assert listed(house, person, read_time=stamp(END)) == Told.STATE_EXPIRED
    assert listed(house, person) == Told.STATE_EXPIRED
    clock.set(END - MICROSECOND)
    assert listed(house, person) == Told.STATE_GRANTED


@pytest.mark.parametrize("as_of", [False, True])
@pytest.mark.parametrize(
    ("moment", "number"), [(END - MICROSECOND, 1), (END, 0), (END + MICROSECOND, 0)]
)
def test_a_row_covers_until_one_microsecond_before_its_end(
    bounded: tuple[Database, int], moment: datetime, number: int, as_of: bool
) -> None:
    database, account_id = bounded
    with database.transaction() as connection:
        states, numbers = ConsentRows(connection).check(
            np.array([account_id]), np.array([SCOPES[READING].code]), np.array([to_us(NOW)]),
            moment, as_of=as_of,
        )  # fmt: skip
    assert (states.tolist(), numbers.tolist()) == ([State.OPEN], [number])


def granted(scope: str, **said: datetime) -> Consent:
    """The consent that the account makes NOW of a yes to the notice in force."""
    grant = Grant(scope, SCOPES[scope].notice_digest, screen="test", **said)
    return new_consent(ACCOUNT, 1, grant, SCOPES, NOW, by_guardian=False)


def test_a_consent_may_end_one_microsecond_from_now_and_not_now() -> None:
    assert granted(READING, expire_time=NOW + MICROSECOND).expire_time == NOW + MICROSECOND
    for past in (NOW, NOW - MICROSECOND):
        with pytest.raises(FieldInvalid, match="must lie in the future"):
            granted(READING, expire_time=past)


def test_a_confirmation_is_at_most_five_minutes_ahead_and_an_hour_old() -> None:
    assert SCOPES[TRAVEL].sensitive
    earliest, latest = NOW - timedelta(hours=1), NOW + timedelta(minutes=5)
    for good in (earliest, NOW, latest):
        assert granted(TRAVEL, confirm_time=good).confirm_time == good
    for bad in (earliest - MICROSECOND, latest + MICROSECOND):
        with pytest.raises(FieldInvalid, match="of the last hour"):
            granted(TRAVEL, confirm_time=bad)
