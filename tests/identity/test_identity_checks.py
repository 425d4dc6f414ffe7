"""Checking consents, and races about them, over gRPC."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import grpc
import pytest
from carbonaccount.identity.v1.consent_pb2 import Consent
from carbonaccount.identity.v1.consent_service_pb2 import (
    BatchCheckConsentsRequest,
)
from google.protobuf.timestamp_pb2 import Timestamp
from identity_house import (
    FINANCE,
    MICROSECOND,
    OFFERED,
    READING,
    TRAVEL,
    House,
    grant_of,
    refused,
    soon,
    stamp,
)

from shared.rpc.status import reason_of

Check = BatchCheckConsentsRequest.Check


def check(house: House, *checks: Check) -> list[str]:
    """For each check the covering consent or the reason why none covers it."""
    answers = house.consents.BatchCheckConsents(
        BatchCheckConsentsRequest(checks=checks), **house.service
    ).answers
    return [answer.consent or reason_of(answer.refusal) for answer in answers]


def test_a_consent_that_ran_out_stays_expired_and_is_granted_anew(house: House) -> None:
    person = house.customer()
    first = person.open(grant_of(TRAVEL, expire_time=soon(0.6))).consents[0]
    assert check(
        house, Check(account=person.account, scope=TRAVEL, occur_time=first.grant_time)
    ) == [first.name]
    time.sleep(0.7)
    assert check(
        house, Check(account=person.account, scope=TRAVEL, occur_time=first.grant_time)
    ) == ["CONSENT_MISSING"]
    assert person.revoke(first.name).state == Consent.STATE_EXPIRED
    assert person.grant(grant_of(TRAVEL)).name != first.name


def test_behaviour_is_covered_from_exactly_the_first_moment_on(house: House) -> None:
    person = house.customer()
    consent = person.open(grant_of(TRAVEL, cover_from_time=stamp(OFFERED))).consents[0]
    assert check(
        house,
        Check(account=person.account, scope=TRAVEL, occur_time=stamp(OFFERED)),
        Check(account=person.account, scope=TRAVEL, occur_time=stamp(OFFERED - MICROSECOND)),
        Check(account=person.account, scope=FINANCE, occur_time=stamp(OFFERED)),
    ) == [consent.name, "CONSENT_MISSING", "CONSENT_MISSING"]


def test_after_a_withdrawal_nothing_is_covered_however_old(house: House) -> None:
    person = house.customer()
    consent = person.open(grant_of(TRAVEL, cover_from_time=stamp(OFFERED))).consents[0]
    asked = Check(account=person.account, scope=TRAVEL, occur_time=stamp(OFFERED))
    assert check(house, asked) == [consent.name]
    person.revoke(consent.name)
    assert check(house, asked) == ["CONSENT_MISSING"]


def test_each_bad_check_is_answered_for_itself(house: House) -> None:
    person, closed = house.customer(), house.customer()
    name = person.open(grant_of(TRAVEL)).consents[0].name
    closed.open(grant_of(TRAVEL))
    closed.close()
    now = soon(0)
    assert check(
        house,
        Check(account="accounts/x", scope=TRAVEL, occur_time=now),
        Check(account=person.account, scope=TRAVEL, occur_time=now),
        Check(account=person.account, scope="scopes/nothing", occur_time=now),
        Check(account=person.account, occur_time=now),
        Check(account=person.account, scope=TRAVEL),
        Check(account=person.account, scope=TRAVEL, occur_time=Timestamp(seconds=10**15)),
        Check(account=person.account, scope=TRAVEL, occur_time=Timestamp(nanos=-1)),
        Check(account="accounts/0000000000001", scope=TRAVEL, occur_time=now),
        Check(account=closed.account, scope=TRAVEL, occur_time=now),
        Check(account=person.account, scope=TRAVEL, occur_time=now),
    ) == [
        "FIELD_INVALID",
        name,
        "RESOURCE_NOT_FOUND",
        "FIELD_INVALID",
        "FIELD_INVALID",
        "FIELD_INVALID",
        "FIELD_INVALID",
        "RESOURCE_NOT_FOUND",
        "ACCOUNT_NOT_OPEN",
        name,
    ]


def test_5000_checks_are_answered_in_order_and_one_more_is_refused(house: House) -> None:
    people = [house.customer() for _ in range(3)]
    names = [person.open(grant_of(TRAVEL)).consents[0].name for person in people]
    now = soon(0)
    checks = [
        Check(account=people[i % 3].account, scope=TRAVEL, occur_time=now) for i in range(5000)
    ]
    assert check(house, *checks) == [names[i % 3] for i in range(5000)]
    with refused("LIMIT_REACHED"):
        check(house, *checks, checks[0])


def test_a_customer_may_not_check(house: House) -> None:
    person = house.customer()
    person.open()
    request = BatchCheckConsentsRequest(checks=[Check(account=person.account, scope=TRAVEL)])
    with refused("CALLER_NOT_ALLOWED"):
        house.consents.BatchCheckConsents(request, **person.call)


def test_racing_grants_and_revocations_leave_one_history_that_never_runs_backwards(
    house: House,
) -> None:
    person = house.customer()
    person.open(grant_of(TRAVEL))
    start = Barrier(24)

    def act(number: int) -> None:
        start.wait()
        if number % 2:
            person.revoke(person.consents()[0].name)
        else:
            moment = stamp(OFFERED + number * MICROSECOND)
            person.grant(grant_of(TRAVEL, cover_from_time=moment))

    with ThreadPoolExecutor(24) as crowd:
        list(crowd.map(act, range(24)))
    consents = list(reversed(person.consents()))
    assert len(consents) == 13
    for older, newer in itertools.pairwise(consents):
        assert older.state == Consent.STATE_REVOKED
        assert older.revoke_time.ToDatetime() <= newer.grant_time.ToDatetime()
    per_consent = "select kind, number, count(*) from event group by 1, 2 having count(*) > 1"
    assert house.sql(per_consent) == []
    assert (
        house.sql(
            "select 1 from (select event_time, lag(event_time) over (order by position) as before"
            " from event) e where event_time < before"
        )
        == []
    )


@pytest.mark.parametrize("turn", range(5))
def test_no_consent_survives_a_close_that_races_with_grants(house: House, turn: int) -> None:
    person, start = house.customer(), Barrier(9)
    person.open(grant_of(READING))

    def act(number: int) -> str:
        moment = stamp(OFFERED + number * MICROSECOND)
        start.wait()
        try:
            if number == turn + 2:
                person.close()
            else:
                person.grant(grant_of(TRAVEL, cover_from_time=moment))
        except grpc.RpcError as error:
            return reason_of(error)
        return "done"

    with ThreadPoolExecutor(9) as crowd:
        assert set(crowd.map(act, range(9))) <= {"done", "ACCOUNT_NOT_OPEN"}
    assert all(consent.state == Consent.STATE_REVOKED for consent in person.consents())
