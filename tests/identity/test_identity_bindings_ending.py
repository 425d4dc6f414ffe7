"""How a binding ends, whose a subject is then, and what followers and archives get to see."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from bindings_world import (
    BIKE,
    LINKS,
    METRO,
    Clock,
    back_room,
    bind,
    bindings,
    confirm,
    consent_in_force,
    end,
    events,
    link,
    moment,
    rider,
    snapshots,
    start,
    told,
)
from carbonaccount.identity.v1 import binding_service_pb2 as pb
from carbonaccount.identity.v1 import consent_service_pb2 as consent_pb
from identity_house import (
    MICROSECOND,
    Customer,
    House,
    refused,
    request_id,
    served,
    settings_for,
    soon,
)

from services.identity.storage.bindings import erase_bindings, export_bindings
from shared.ids import account_id_of, shard_of
from shared.service import load_secret
from shared.subject import subject_digest


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def house(database_url: str, tmp_path: Path, clock: Clock) -> Iterator[House]:
    with served(settings_for(database_url, tmp_path), clock) as running:
        yield running


def ended(person: Customer) -> list[bool]:
    """Whether each binding has ended, oldest first."""
    return [binding.HasField("end_time") for binding in reversed(bindings(person))]


def test_the_end_of_a_binding_comes_with_its_place_in_the_feed(house: House) -> None:
    person = rider(house, BIKE)
    name = bind(person).name
    answer = end(person, name)
    assert answer.binding == bindings(person)[0]
    assert answer.binding.HasField("end_time")
    token = base64.urlsafe_b64decode(answer.freshness_token + "==").decode()
    snapshot = snapshots(house)[person.account]
    assert token == f"identity:{snapshot.shard}:{snapshot.position}"
    assert list(snapshot.subjects) == []
    assert events(person)[-1] == ("UNBOUND", "customer", "/bindings/1")


def test_ending_twice_keeps_the_first_moment(house: House) -> None:
    person, key = rider(house, BIKE), request_id()
    name = bind(person).name
    first = end(person, name, key)
    for again in (end(person, name, key), end(person, name)):
        assert again.binding == first.binding
        assert again.freshness_token == first.freshness_token
    assert house.sql("select count(*) from event where kind = 11") == [(1,)]


def test_only_a_binding_of_ones_own_is_ended(house: House) -> None:
    person, other = rider(house, BIKE), rider(house, BIKE)
    name = bind(person).name
    with refused("CALLER_NOT_ALLOWED"):
        end(other, name)
    request = pb.EndBindingRequest(name=name, request_id=request_id())
    for call in (house.operator, house.service, house.call("source", BIKE)):
        with refused("CALLER_NOT_ALLOWED"):
            house.bindings.EndBinding(request, **call)
    for missing in ("2", "0", "9" * 30):
        with refused("RESOURCE_NOT_FOUND"):
            end(person, f"{person.account}/bindings/{missing}")
    for malformed in (
        "/bindings/x",
        "/bindings/",
        "/bindings/1/1",
        "/consents/1",
        "",
        "/bindings/١",
    ):
        with refused("FIELD_INVALID"):
            end(person, person.account + malformed)
    with refused("FIELD_INVALID"):
        end(person, name, "no uuid")
    assert ended(person) == [False]


def test_the_request_id_of_another_end_is_refused(house: House) -> None:
    person, key = rider(house, BIKE), request_id()
    first, second = bind(person, "rider-1").name, bind(person, "rider-2").name
    end(person, first, key)
    with refused("REQUEST_ID_REUSED"):
        end(person, second, key)


def test_a_child_unbinds_although_it_may_not_bind(
    house: House, database_url: str, tmp_path: Path
) -> None:
    with back_room(database_url, tmp_path) as room:
        child = room.open_child(house)
    house.sql(
        "insert into binding values (%s, now(), null, gen_random_uuid(), 1, 10, %s, %s) "
        "returning 1",
        account_id_of(child.account), shard_of(account_id_of(child.account)), BIKE,
    )  # fmt: skip
    assert end(child, f"{child.account}/bindings/1").binding.HasField("end_time")


def test_bindings_come_in_pages_newest_first(house: House) -> None:
    person, other = rider(house, BIKE), rider(house, BIKE)
    for number in range(5):
        bind(person, f"rider-{number}")
    numbers, token = [], ""
    while True:
        asked = pb.ListBindingsRequest(parent=person.account, page_size=2, page_token=token)
        page = house.bindings.ListBindings(asked, **person.call)
        assert page == house.bindings.ListBindings(asked, **house.operator)
        assert len(page.bindings) <= 2
        numbers += [binding.name.rpartition("/")[2] for binding in page.bindings]
        if not page.next_page_token:
            break
        token = page.next_page_token
    assert numbers == ["5", "4", "3", "2", "1"]
    asked = pb.ListBindingsRequest(parent=other.account, page_token=token)
    with refused("PAGE_TOKEN_INVALID"):
        house.bindings.ListBindings(asked, **other.call)


def test_bindings_are_listed_for_the_holder_and_for_operators_only(house: House) -> None:
    person, other = rider(house, BIKE), rider(house, BIKE)
    asked = pb.ListBindingsRequest(parent=person.account)
    for call in (other.call, house.service, house.call("source", BIKE)):
        with refused("CALLER_NOT_ALLOWED"):
            house.bindings.ListBindings(asked, **call)
    for bad, reason in (
        (pb.ListBindingsRequest(parent=person.account, page_size=-1), "FIELD_INVALID"),
        (pb.ListBindingsRequest(parent="accounts/1"), "FIELD_INVALID"),
        (pb.ListBindingsRequest(), "FIELD_INVALID"),
        (pb.ListBindingsRequest(parent="accounts/0000000000001"), "RESOURCE_NOT_FOUND"),
        (pb.ListBindingsRequest(parent=person.account, page_token="x"), "PAGE_TOKEN_INVALID"),
    ):
        with refused(reason):
            house.bindings.ListBindings(bad, **house.operator)


def test_revoking_the_link_ends_its_bindings_in_the_same_moment(house: House) -> None:
    person = rider(house, BIKE, METRO)
    bind(person, "rider-1")
    bind(person, "rider-2")
    bind(person, "rider-3", METRO)
    revoked = person.revoke(consent_in_force(person).name)
    assert ended(person) == [True, True, False]
    assert bindings(person)[2].end_time == revoked.revoke_time
    assert events(person)[-3:] == [
        ("CONSENT_REVOKED", "customer", "/consents/1"),
        ("UNBOUND", "customer", "/bindings/1"),
        ("UNBOUND", "customer", "/bindings/2"),
    ]
    assert [s.partner for s in snapshots(house)[person.account].subjects] == [METRO]


def test_refusing_the_link_ends_its_bindings(house: House) -> None:
    person = rider(house, BIKE, METRO)
    bind(person, "rider-1")
    bind(person, "rider-2", METRO)
    request = consent_pb.RefuseConsentRequest(
        parent=person.account, scope=LINKS[BIKE], notice_digest=link(BIKE).notice_digest,
        request_id=request_id(),
    )  # fmt: skip
    house.consents.RefuseConsent(request, **person.call)
    assert ended(person) == [True, False]


def test_replacing_the_consent_of_the_link_ends_nothing(house: House) -> None:
    person = rider(house, BIKE)
    bind(person)
    person.grant(link(BIKE, expire_time=soon(600)))
    assert ended(person) == [False]
    assert house.sql("select count(*) from subject") == [(1,)]


def test_closing_the_account_ends_every_binding_and_code(house: House) -> None:
    person = rider(house, BIKE, METRO)
    bind(person, "rider-1")
    bind(person, "rider-2", METRO)
    start(person)
    person.close()
    assert ended(person) == [True, True]
    assert house.sql("select count(*) from subject") == [(0,)]
    assert house.sql("select count(*) from binding_code") == [(0,)]
    kinds = [kind for kind, _, _ in events(person)]
    assert kinds.count("UNBOUND") == 2


def test_a_subject_of_another_account_is_not_taken_and_nothing_says_whose_it_is(
    house: House,
) -> None:
    holder, person = rider(house, BIKE), rider(house, BIKE)
    name = bind(holder, "rider-77").name
    code = start(person).code
    with refused("RESOURCE_EXISTS") as error:
        confirm(house, code, "rider-77")
    for secret in ("rider-77", holder.account, person.account):
        assert secret not in told(error.value)
    assert bindings(person) == []
    end(holder, name)
    confirm(house, code, "rider-77")
    assert ended(holder) == [True]
    assert ended(person) == [False]


def test_a_subject_that_moves_leaves_the_one_feed_before_it_enters_the_other(
    house: House,
) -> None:
    holder, person = rider(house, BIKE), rider(house, BIKE)
    end(holder, bind(holder).name)
    bind(person)
    seen = snapshots(house)
    assert list(seen[holder.account].subjects) == []
    (subject,) = seen[person.account].subjects
    digest = subject_digest(
        load_secret(house.settings.keys_dir, "subject"), f"{BIKE}/subjects/rider-1"
    )
    assert (subject.partner, subject.subject_digest) == (BIKE, digest)
    assert not subject.HasField("expire_time")


def test_the_same_subject_again_changes_nothing_and_uses_the_code_up(house: House) -> None:
    person = rider(house, BIKE)
    first = confirm(house, start(person).code)
    before = events(person)
    code = start(person).code
    assert confirm(house, code) == first
    assert events(person) == before
    with refused("CODE_INVALID"):
        confirm(house, code)


def test_a_binding_runs_out_with_its_consent_and_a_renewed_one_prolongs_it(
    house: House, clock: Clock
) -> None:
    over, later = soon(60), soon(600)
    holder, person = rider(house, BIKE, expire_time=over), rider(house, BIKE)
    assert bind(holder).expire_time == over
    holder.grant(link(BIKE, expire_time=later))
    assert bindings(holder)[0].expire_time == later
    assert snapshots(house)[holder.account].subjects[0].expire_time == later
    code = start(person).code
    clock.stand(moment(later) - MICROSECOND)
    with refused("RESOURCE_EXISTS"):
        confirm(house, code)
    holder.grant(link(BIKE, expire_time=soon(1200)))
    clock.stand(moment(later))
    with refused("RESOURCE_EXISTS"):
        confirm(house, code)


def test_a_binding_whose_consent_has_run_out_is_taken_over(house: House, clock: Clock) -> None:
    over = soon(60)
    holder, person = rider(house, BIKE, expire_time=over), rider(house, BIKE)
    bind(holder)
    clock.stand(moment(over))
    confirm(house, start(person).code)
    assert ended(holder) == [True]
    assert events(holder)[-1] == ("UNBOUND", BIKE, "/bindings/1")
    assert events(person)[-1] == ("BOUND", BIKE, "/bindings/1")
    seen = snapshots(house)
    assert not seen[holder.account].subjects
    assert len(seen[person.account].subjects) == 1
    holder.grant(link(BIKE))
    with refused("RESOURCE_EXISTS"):
        confirm(house, start(holder).code)


def test_a_consent_given_again_after_it_ran_out_holds_the_subject_again(
    house: House, clock: Clock
) -> None:
    over = soon(60)
    holder, person = rider(house, BIKE, expire_time=over), rider(house, BIKE)
    bind(holder)
    clock.stand(moment(over))
    holder.grant(link(BIKE))
    with refused("RESOURCE_EXISTS"):
        confirm(house, start(person).code)
    assert not bindings(holder)[0].HasField("expire_time")


def texts(house: House) -> list[str]:
    """Every value of every column of every table, as text."""
    tables = house.sql(
        "select table_name from information_schema.tables where table_schema = 'public'"
    )
    return [
        str(value)
        for (table,) in tables
        for row in house.sql(f'select * from "{table}"')
        for value in (bytes(v) if isinstance(v, memoryview) else v for v in row)
        if value is not None
    ]


def test_neither_code_nor_subject_lies_in_any_table_or_log_line(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    person = rider(house, BIKE, METRO)
    used, waiting = start(person).code, start(person, METRO).code
    confirm(house, used, "planted-rider-4711")
    with refused("CODE_INVALID"):
        confirm(house, used, "planted-rider-4712")
    found, logged = "\n".join(texts(house)), capsys.readouterr().out
    assert "ConfirmBinding" in logged
    for planted in (used, waiting, "planted-rider"):
        assert planted not in found
        assert planted not in logged
    for planted in (used, waiting):
        assert planted.encode().hex() not in found
    assert BIKE in found, "the partner of a binding is no secret"


def test_erasing_leaves_nothing_and_frees_the_subject(
    house: House, database_url: str, tmp_path: Path
) -> None:
    person, other = rider(house, BIKE), rider(house, BIKE)
    end(person, bind(person, "rider-1").name)
    bind(person, "rider-2")
    start(person)
    bind(other, "rider-3")
    with back_room(database_url, tmp_path) as room, room.database.transaction() as connection:
        account_id = account_id_of(person.account)
        erased = erase_bindings(connection, account_id)
        assert erased == {"subject": 1, "binding": 2, "binding_code": 1}
        assert erase_bindings(connection, account_id) == dict.fromkeys(erased, 0)
    assert bindings(person) == []
    assert ended(other) == [False]
    confirm(house, start(other).code, "rider-2")


def test_an_archive_holds_every_binding(house: House, database_url: str, tmp_path: Path) -> None:
    over = soon(600)
    person = rider(house, BIKE, expire_time=over)
    end(person, bind(person, "rider-1").name)
    bind(person, "rider-2")
    with back_room(database_url, tmp_path) as room, room.database.transaction() as connection:
        first, second = export_bindings(connection, account_id_of(person.account))
    listed = bindings(person)[::-1]
    assert first == {
        "name": listed[0].name, "partner": BIKE,
        "bind_time": moment(listed[0].bind_time).isoformat(),
        "end_time": moment(listed[0].end_time).isoformat(), "expire_time": "",
    }  # fmt: skip
    assert (second["end_time"], second["expire_time"]) == ("", moment(over).isoformat())
