"""Erasure: what identified the holder is gone in one transaction, and what stays says why."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import grpc
import pytest
from carbonaccount.identity.v1 import account_pb2
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import privacy_service_pb2 as pb

from services.identity.domain.sealing import KeyDestroyed
from services.identity.storage.archive import Copy
from services.identity.storage.vault import Vault
from services.identity.upstream.key_management import FileKeyManagement
from shared.ids import account_id_of
from shared.rpc.status import reason_of
from shared.storage.embedded import EmbeddedPostgres
from shared.storage.engine import Database
from tests.identity.identity_house import TRAVEL, Customer, grant_of, refused, request_id
from tests.identity.privacy_world import (
    DONE,
    ERASURE,
    EXPIRED,
    IDENTITY,
    KINDS,
    OTHERS,
    RUNNING,
    Part,
    World,
    all_done,
    ask,
    download,
    erase,
    erased,
    events,
    get,
    moment,
    privacy_world,
    until,
)
from tests.identity.test_identity_privacy_export import accesses, guardian_of

PERSONAL = ("person", "customer_key", "request", "data_key", "session", "binding", "binding_code",
            "community_member", "privacy_piece", "archive_piece")  # fmt: skip


@pytest.fixture(scope="module")
def world(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with privacy_world(postgres, tmp_path_factory.mktemp("keys")) as running:
        yield running


def rows(world: World, person: Customer) -> dict[str, int]:
    """What is left of the account in the tables of what is personal."""
    account_id = account_id_of(person.account)
    return {
        table: world.house.sql(
            f"select count(*) from {table} where account_id = %s", account_id
        )[0][0]
        for table in PERSONAL
    }  # fmt: skip


def part_of(operation: Any, service: str = IDENTITY) -> Any:
    (part,) = [part for part in operation.parts if part.service == service]
    return part


def test_erasure_leaves_nothing_personal_and_says_what_it_deleted(world: World) -> None:
    person = world.holder(name="planted-name", region="440300")
    person.revoke(person.grant(grant_of(TRAVEL)).name)
    all_done(world.house, ask(person).name)
    person.close()
    before = rows(world, person)
    assert all(before[table] for table in ("person", "customer_key", "request", "archive_piece"))
    operation = erase(person)
    assert rows(world, person) == dict.fromkeys(PERSONAL, 0)
    assert (operation.kind, operation.state) == (ERASURE, RUNNING)
    own = part_of(operation)
    assert own.HasField("finish_time"), "identity's part is done when it answers"
    # The request that erases is a request of the account too.
    assert own.counts["request"] == before["request"] + 1
    for table in ("person", "customer_key", "archive_piece", "data_key"):
        assert own.counts[table] == before[table], table
    account = world.house.accounts.GetAccount(
        account_pb.GetAccountRequest(name=person.account, purpose="audit"), **world.house.operator
    ).account
    assert account.state == account_pb2.Account.STATE_ERASED
    assert (account.display_name, account.region_code) == ("", "")
    assert events(person)[0].kind == KINDS.KIND_ERASED


def test_what_is_kept_has_a_reason_and_a_date(world: World) -> None:
    person = world.holder()
    person.grant(grant_of(TRAVEL))
    asked = account_pb.GetAccountRequest(name=person.account, purpose="complaint")
    world.house.accounts.GetAccount(asked, **world.house.operator)
    person.close()
    operation = erase(person)
    kept = {one.what: one for one in part_of(operation).kept}
    assert len(kept) == 4
    assert all(one.why for one in kept.values())
    consents = kept["decisions about consents with their notices, and the events of the account"]
    assert moment(consents.until_time) - moment(operation.create_time) == timedelta(days=1096)
    log = kept["who read personal fields of the account, when and why"]
    assert moment(log.until_time) > moment(operation.create_time) + timedelta(days=1095)
    for_ever = [one for one in kept.values() if not one.HasField("until_time")]
    assert len(for_ever) == 2
    assert len(person.consents()) == 1
    auditor = world.house.call("auditor", "auditors/a")
    assert [one.purpose for one in accesses(person, auditor)] == ["complaint"]


def test_it_is_done_once_the_last_service_has_reported(world: World) -> None:
    person = world.holder()
    person.close()
    operation = erase(person)
    for service in OTHERS[:2]:
        Part(world.house, service).finish(operation.name, counts={"rows": 3})
        assert get(world.house, operation.name).state == RUNNING
    Part(world.house, OTHERS[2]).finish(operation.name)
    done = get(world.house, operation.name)
    assert done.state == DONE
    assert done.finish_time == part_of(done, OTHERS[2]).finish_time
    assert part_of(done, OTHERS[0]).counts == {"rows": 3}
    assert not done.HasField("expire_time"), "the record of an erasure stays"


@pytest.mark.parametrize("state", ["open", "suspended"])
def test_only_a_closed_account_is_erased(world: World, state: str) -> None:
    person = world.holder(name="still here")
    if state == "suspended":
        world.house.accounts.SuspendAccount(
            account_pb.SuspendAccountRequest(
                name=person.account, cause="x", request_id=request_id()
            ),
            **world.house.operator,
        )
    with refused("STATE_CONFLICT") as error:
        erase(person)
    assert f"is {state}; only a closed account" in error.value.details()
    assert rows(world, person)["person"] == 1
    with refused("RESOURCE_NOT_FOUND"):
        get(world.house, f"{person.account}/operations/1")
    person.close()
    assert erase(person).state == RUNNING


def test_a_retry_finds_it_erased_and_leaves_no_trace_of_itself(world: World) -> None:
    person, request = world.holder(), request_id()
    person.close()
    first = erase(person, request=request)
    assert erase(person, request=request) == first
    assert erase(person) == first
    assert erase(person, "again", call=world.house.operator) == first
    assert rows(world, person)["request"] == 0


def test_an_operator_says_why_and_a_holder_need_not(world: World) -> None:
    person = world.holder()
    person.close()
    for cause in ("", "  ", "call 13800138000", "two\nlines"):
        with refused("FIELD_INVALID") as error:
            erase(person, cause, call=world.house.operator)
        assert "13800138000" not in error.value.details()
    erase(person, "inheritance settled", call=world.house.operator)
    newest = events(person)[0]
    assert (newest.kind, newest.actor, newest.cause) == (
        KINDS.KIND_ERASED, "operators/desk", "inheritance settled"
    )  # fmt: skip
    other = world.holder()
    other.close()
    erase(other)
    assert (events(other)[0].actor, events(other)[0].cause) == ("customer", "")


def test_the_holders_own_words_are_the_holders_and_go_and_those_of_staff_stay(
    world: World,
) -> None:
    person = world.holder()
    suspended = account_pb.SuspendAccountRequest(
        name=person.account, cause="complaint 9", request_id=request_id()
    )
    world.house.accounts.SuspendAccount(suspended, **world.house.operator)
    closed = account_pb.CloseAccountRequest(
        name=person.account, cause="moving to my sister", request_id=request_id()
    )
    world.house.accounts.CloseAccount(closed, **person.call)
    own = [event.cause for event in events(person, person.call)[:2]]
    assert own == ["moving to my sister", "complaint 9"]
    assert [event.cause for event in events(person)[:2]] == ["", "complaint 9"]
    assert "moving" not in str(world.house.sql("select e::text from event e"))
    erase(person, "never again, says Lin")
    causes = {event.kind: event.cause for event in events(person)}
    assert causes[KINDS.KIND_SUSPENDED] == "complaint 9"
    assert "moving" not in str([event.cause for event in events(person, person.call)])
    assert causes[KINDS.KIND_CLOSED] == causes[KINDS.KIND_ERASED] == ""


def test_nobody_else_erases(world: World) -> None:
    person, stranger = world.holder(), world.holder()
    person.close()
    for call in (stranger.call, world.house.service, world.house.call("auditor", "auditors/a")):
        with refused("CALLER_NOT_ALLOWED"):
            erase(person, "because", call=call)
    with refused("RESOURCE_NOT_FOUND"):
        nobody = Customer(world.house, "", "accounts/0000000000001")
        erase(nobody, "because", call=world.house.operator)


def test_a_guardian_erases_a_ward_and_the_child_does_not(world: World) -> None:
    ward = world.holder(name="孩子")
    guardian = guardian_of(world, ward)
    world.house.accounts.CloseAccount(
        account_pb.CloseAccountRequest(name=ward.account, request_id=request_id()), **guardian.call
    )
    with refused("GUARDIAN_REQUIRED"):
        erase(ward)
    erase(ward, call=guardian.call)
    assert events(ward)[0].actor == "guardian"
    ward_id = account_id_of(ward.account)
    query = "select count(*) from guardianship where ward_id = %s"
    assert world.house.sql(query, ward_id) == [(0,)]


def test_the_person_opens_anew_with_nothing_carried_over(world: World) -> None:
    person = world.holder(name="old name")
    person.grant(grant_of(TRAVEL))
    old = person.account
    with refused("RESOURCE_EXISTS"):
        Customer(world.house, person.customer_ref).open()
    person.close()
    with refused("RESOURCE_EXISTS"):
        Customer(world.house, person.customer_ref).open()
    erase(person)
    again = Customer(world.house, person.customer_ref)
    answer = again.open()
    assert again.account != old
    assert answer.account.display_name == ""
    assert again.consents() == []


def test_the_holders_token_reads_the_erasure_while_it_lasts(world: World) -> None:
    person = world.holder()
    operation = erased(world.house, person)
    for call in (person.call, world.house.operator, world.house.call("auditor", "auditors/a")):
        assert get(world.house, operation.name, call).state == DONE


def test_a_copy_under_way_is_cut_off_and_its_pieces_go(world: World) -> None:
    person = world.holder()
    finished = all_done(world.house, ask(person).name)
    asked = ask(person)
    part = Part(world.house, OTHERS[0])
    part.send(asked.name, "activities.json", b"[]")
    person.close()
    erase(person)
    for name in (finished.name, asked.name):
        assert get(world.house, name).state == EXPIRED
        with refused("STATE_CONFLICT"):
            download(person, name)
    assert not get(world.house, asked.name).HasField("finish_time")
    with refused("RESOURCE_NOT_FOUND"):
        part.send(asked.name, "activities.json", b"[]", 1)
    with refused("RESOURCE_NOT_FOUND"):
        part.finish(asked.name)
    assert rows(world, person)["privacy_piece"] == 0
    part.send(finished.name, "activities.json", b"late")  # its part is done, so it changes nothing
    assert rows(world, person)["privacy_piece"] == 0
    world.clock.go_on(minutes=2)
    late = world.house.privacy.ListLaggingTasks(
        pb.ListLaggingTasksRequest(), **world.house.operator
    )
    assert asked.name not in {task.operation for task in late.tasks}, "nobody waits for it"


def test_what_a_backup_still_has_opens_no_more(world: World) -> None:
    person = world.holder()
    all_done(world.house, ask(person).name)
    account_id = account_id_of(person.account)
    backup = world.house.sql(
        "select piece, shard, sealed from archive_piece where account_id = %s", account_id
    )
    erased(world.house, person)
    settings = world.house.settings
    vault = Vault(FileKeyManagement(settings.keys_dir / "wrapping"))
    database = Database(settings.database_url)
    piece, shard, sealed = backup[0]
    world.house.sql(
        "insert into archive_piece (account_id, number, piece, shard, sealed) "
        "values (%s, 1, %s, %s, %s) returning 1",
        account_id, piece, shard, sealed,
    )  # fmt: skip
    with database.transaction() as connection, pytest.raises(KeyDestroyed):
        Copy(connection, vault, account_id, 1).read_archive(piece)
    database.close()


def test_one_of_many_erasures_at_once_erases_and_all_are_answered_with_it(world: World) -> None:
    person = world.holder()
    person.close()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: erase(person), range(16)))
    assert {answer.name for answer in answers} == {f"{person.account}/operations/1"}
    assert [event.kind for event in events(person)].count(KINDS.KIND_ERASED) == 1
    assert rows(world, person)["request"] == 0


def test_asking_for_a_copy_and_erasing_at_once_end_in_an_erased_account(world: World) -> None:
    for _ in range(4):
        person = world.holder()
        person.close()

        def either(place: int, person: Customer = person) -> str:
            try:
                return str((erase if place % 2 else ask)(person).name)
            except grpc.RpcError as error:
                return reason_of(error)

        with ThreadPoolExecutor(4) as pool:
            answers = set(pool.map(either, range(8)))
        assert {answer for answer in answers if "/" not in answer} <= {"ACCOUNT_NOT_OPEN"}
        assert rows(world, person) == dict.fromkeys(PERSONAL, 0)
        states = world.house.sql(
            "select kind, state from operation where account_id = %s order by number",
            account_id_of(person.account),
        )
        assert states[-1] == (2, 1)
        assert set(states[:-1]) <= {(1, 3)}


def test_an_erased_account_takes_no_new_request_and_keeps_none(world: World) -> None:
    person = world.holder()
    erased(world.house, person)
    with refused("ACCOUNT_NOT_OPEN"):
        person.grant(grant_of(TRAVEL))
    until(world.house, f"{person.account}/operations/1")
    assert rows(world, person)["request"] == 0
