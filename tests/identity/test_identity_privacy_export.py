"""A copy of everything: asked for, gathered from every service, packed, signed, downloaded."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from carbonaccount.identity.v1 import account_pb2
from carbonaccount.identity.v1 import account_service_pb2 as account_pb
from carbonaccount.identity.v1 import privacy_service_pb2 as pb
from google.protobuf.field_mask_pb2 import FieldMask

from services.identity import verify_receipt
from services.identity.domain.account import Person
from services.identity.storage.register import Register
from services.identity.storage.vault import Vault
from services.identity.upstream.key_management import FileKeyManagement
from shared.ids import account_id_of
from shared.storage.embedded import EmbeddedPostgres
from shared.storage.engine import Database
from tests.identity.identity_house import TRAVEL, Customer, grant_of, refused, request_id
from tests.identity.privacy_world import (
    DONE,
    EXPIRED,
    EXPORT,
    IDENTITY,
    KINDS,
    OTHERS,
    RUNNING,
    Part,
    World,
    all_done,
    ask,
    download,
    erased,
    events,
    get,
    moment,
    opened,
    privacy_world,
    records,
    until,
)


@pytest.fixture(scope="module")
def world(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with privacy_world(postgres, tmp_path_factory.mktemp("keys")) as running:
        yield running


def guardian_of(world: World, ward: Customer, until_days: int = 400) -> Customer:
    """A grown-up with an account, who decides for the ward, a child from now on."""
    guardian = world.holder()
    day = (world.clock.now + timedelta(days=until_days)).date().toordinal() - 719_163
    ward.facts = {"own_from_day": day}
    make_ward(world, ward, guardian, day)
    guardian.facts = {"acts_for": {ward.account: int(world.clock() / 1e6) + 3600}}
    return guardian


def make_ward(world: World, ward: Customer, guardian: Customer, day: int) -> None:
    """As OpenWardAccount leaves them; the ticket of a bank is another room's matter."""
    settings = world.house.settings
    database = Database(settings.database_url)
    vault = Vault(FileKeyManagement(settings.keys_dir / "wrapping"))
    with database.transaction() as connection:
        register = Register(connection, vault)
        ward_id = account_id_of(ward.account)
        register.write_person(ward_id, 2, Person("孩子", own_from_day=day), world.clock.now)
        register.add_guardianship(ward_id, account_id_of(guardian.account), world.clock.now)
    database.close()


def test_a_copy_waits_for_every_service_and_is_done_once_the_last_one_is(world: World) -> None:
    person = world.holder()
    asked = ask(person)
    assert (asked.kind, asked.state, asked.name) == (
        EXPORT, RUNNING, f"{person.account}/operations/1"
    )  # fmt: skip
    assert [part.service for part in asked.parts] == sorted([*OTHERS, IDENTITY])
    assert not any(part.HasField("finish_time") for part in asked.parts)
    for service in OTHERS[:2]:
        Part(world.house, service).finish(asked.name)
    assert get(world.house, asked.name).state == RUNNING
    Part(world.house, OTHERS[2]).finish(asked.name)
    done = until(world.house, asked.name)
    assert all(part.HasField("finish_time") for part in done.parts)
    assert moment(done.expire_time) - moment(done.finish_time) == timedelta(days=7)
    archive = download(person, asked.name)
    assert len(archive) == done.archive_bytes
    assert hashlib.sha256(archive).digest() == done.archive_digest


def test_the_archive_holds_the_person_opened_every_version_and_every_decision(
    world: World,
) -> None:
    person = world.holder(name="张小碳", region="440300")
    world.house.accounts.UpdateAccount(
        account_pb.UpdateAccountRequest(
            account=account_pb2.Account(name=person.account, display_name="张大碳"),
            update_mask=FieldMask(paths=["display_name"]),
            request_id=request_id(),
        ),
        **person.call,
    )
    consent = person.grant(grant_of(TRAVEL))
    person.revoke(consent.name)
    asked = ask(person)
    done = all_done(world.house, asked.name)
    files = opened(download(person, asked.name))

    (account,) = records(files, "identity/account")
    assert (account["account"], account["state"]) == (person.account, "open")
    versions = records(files, "identity/person")
    assert [(v["version"], v["display_name"], v["region_code"]) for v in versions] == [
        (1, "张小碳", "440300"), (2, "张大碳", "440300"),
    ]  # fmt: skip
    assert "张大碳".encode() in files["identity/person.csv"]
    (decision,) = records(files, "identity/consents")
    assert (decision["scope"], decision["end_kind"]) == (TRAVEL, "revoked")
    kinds = [one["kind"] for one in records(files, "identity/events")]
    assert kinds == ["opened", "updated", "consent_granted", "consent_revoked", "export_asked"]
    rooms = ("bindings", "households", "communities", "sessions", "access-log", "operations")
    assert {"README.txt", *(f"identity/{room}.csv" for room in rooms)} <= set(files)
    (own,) = [part for part in done.parts if part.service == IDENTITY]
    assert (own.counts["person"], own.counts["consents"], own.counts["files"]) == (2, 1, 2)


def test_every_file_is_in_the_signed_list_and_every_receipt_verifies_offline(
    world: World, tmp_path: Path
) -> None:
    person = world.holder()
    person.revoke(person.grant(grant_of(TRAVEL)).name)
    asked = ask(person)
    Part(world.house, OTHERS[0]).do(asked.name, activities=b"[]")
    all_done(world.house, asked.name)
    files = opened(download(person, asked.name))
    manifest = json.loads(files["manifest.json"])
    assert (manifest["account"], manifest["operation"]) == (person.account, asked.name)
    listed = {one["name"]: (one["bytes"], one["sha256"]) for one in manifest["files"]}
    assert set(files) - set(listed) == {"manifest.json", "manifest.jws", "keys.jwks"}
    for name, told in listed.items():
        assert told == (len(files[name]), hashlib.sha256(files[name]).hexdigest()), name
    signed = files["manifest.jws"].split(b".")[1]
    assert base64.urlsafe_b64decode(signed + b"=" * (-len(signed) % 4)) == files["manifest.json"]

    receipts = sorted(name for name in files if name.endswith(".jws") and "receipt" in name)
    assert receipts == ["identity/receipt-00001-granted.jws", "identity/receipt-00001-revoked.jws"]
    (tmp_path / "keys.jwks").write_bytes(files["keys.jwks"])
    for name in ("manifest.jws", *receipts):
        (tmp_path / "one.jws").write_bytes(files[name])
        verified = subprocess.run(
            [sys.executable, verify_receipt.__file__, "one.jws", "keys.jwks"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert verified.returncode == 0, verified.stderr
        assert person.account in verified.stdout


def test_the_same_data_packs_into_the_same_files_at_the_same_moments(world: World) -> None:
    person = world.holder()
    archives = []
    for _ in range(2):
        asked = ask(person)
        Part(world.house, OTHERS[0]).do(asked.name, activities=b'["one"]')
        all_done(world.house, asked.name)
        archives.append(download(person, asked.name))
        world.clock.go_on(days=8)
        until(world.house, asked.name, EXPIRED)
    entries = [
        {e.filename: (e.date_time, e.CRC) for e in zipfile.ZipFile(io.BytesIO(one)).infolist()}
        for one in archives
    ]
    same = {"README.txt", "activity/activities.json", "identity/person.csv", "keys.jwks"}
    assert all(entries[0][name] == entries[1][name] for name in same)
    assert {when for entry in entries for when, _ in entry.values()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_second_request_while_one_is_under_way_is_answered_with_it(world: World) -> None:
    person, second = world.holder(), request_id()
    first = ask(person)
    assert ask(person, second).name == first.name
    assert [event.kind for event in events(person)].count(KINDS.KIND_EXPORT_ASKED) == 1
    all_done(world.house, first.name)
    # A retry of the second request finds what it was answered with, done by now; a new one asks.
    assert (ask(person, second).name, ask(person, second).state) == (first.name, DONE)
    assert ask(person).name == f"{person.account}/operations/2"


def test_a_retry_changes_nothing_and_other_content_is_refused(world: World) -> None:
    person, request = world.holder(), request_id()
    first = ask(person, request)
    assert ask(person, request) == first
    other = world.holder()
    other.customer_ref = person.customer_ref  # the same caller about another account
    with refused("REQUEST_ID_REUSED"):
        ask(other, request)


def test_a_closed_or_suspended_account_is_copied_and_an_erased_one_is_not(world: World) -> None:
    person = world.holder()
    world.house.accounts.SuspendAccount(
        account_pb.SuspendAccountRequest(name=person.account, cause="x", request_id=request_id()),
        **world.house.operator,
    )
    all_done(world.house, ask(person).name)
    person.close()
    all_done(world.house, ask(person).name)
    erased(world.house, person)
    with refused("ACCOUNT_NOT_OPEN") as error:
        ask(person)
    assert "nothing is left to copy" in error.value.details()


def test_five_archives_are_kept_and_a_sixth_has_to_wait_for_the_oldest(world: World) -> None:
    person = world.holder()
    for _ in range(5):
        all_done(world.house, ask(person).name)
    with refused("LIMIT_REACHED"):
        ask(person)
    world.clock.go_on(days=7)
    until(world.house, f"{person.account}/operations/1", EXPIRED)
    assert ask(person).state == RUNNING


def test_an_archive_can_be_downloaded_for_seven_days_and_not_a_moment_longer(
    world: World,
) -> None:
    person = world.holder()
    done = all_done(world.house, ask(person).name)
    world.clock.go_on(days=6, hours=23, minutes=59)
    assert download(person, done.name)
    world.clock.go_on(minutes=1)
    with refused("STATE_CONFLICT") as error:
        download(person, done.name)
    assert "is expired" in error.value.details()
    until(world.house, done.name, EXPIRED)
    assert stored(world, person, "archive_piece") == []
    assert get(world.house, done.name).archive_bytes == done.archive_bytes


def test_there_is_nothing_to_download_before_it_is_done_and_of_an_erasure(world: World) -> None:
    person = world.holder()
    asked = ask(person)
    with refused("STATE_CONFLICT") as error:
        download(person, asked.name)
    assert "wait until it is done" in error.value.details()
    with refused("RESOURCE_NOT_FOUND"):
        download(person, f"{person.account}/operations/9")
    all_done(world.house, asked.name)
    erasure = erased(world.house, person)
    with refused("STATE_CONFLICT"):
        download(person, erasure.name)


@pytest.mark.parametrize(
    "below",
    ["", "/operations/", "/operations/-1", "/operations/1x", "/consents/1", "/operations/1/more"],
)
def test_what_is_no_name_of_an_operation_is_refused(world: World, below: str) -> None:
    person = world.holder()
    ask(person)
    for call in (world.house.operator, person.call):
        with refused("FIELD_INVALID"):
            get(world.house, person.account + below, call)
    with refused("FIELD_INVALID"):
        download(person, person.account + below)


def test_nobody_but_the_holder_asks_and_downloads(world: World) -> None:
    person, stranger = world.holder(), world.holder()
    done = all_done(world.house, ask(person).name)
    for call in (stranger.call, world.house.operator, world.house.call("auditor", "auditors/a"),
                 world.house.service):  # fmt: skip
        with refused("CALLER_NOT_ALLOWED"):
            ask(person, call=call)
        with refused("CALLER_NOT_ALLOWED"):
            download(person, done.name, call)
    with refused("CALLER_NOT_ALLOWED"):
        get(world.house, done.name, stranger.call)
    for call in (person.call, world.house.operator, world.house.call("auditor", "auditors/a")):
        assert get(world.house, done.name, call).state == DONE
    with refused("CALLER_NOT_ALLOWED"):
        get(world.house, done.name, world.house.service)


def test_a_guardian_copies_for_a_ward_and_the_ward_can_read_that(world: World) -> None:
    ward = world.holder(name="孩子")
    guardian = guardian_of(world, ward)
    asked = ask(ward, call=guardian.call)
    assert events(ward)[0].actor == "guardian"
    all_done(world.house, asked.name)
    files = opened(download(ward, asked.name, guardian.call))
    assert records(files, "identity/account")[0]["guardian"] == guardian.account
    (read,) = accesses(ward)
    assert (read.actor, read.method, list(read.fields)) == (
        "guardian",
        "DownloadArchive",
        ["archive"],
    )
    download(ward, asked.name)
    assert len(accesses(ward)) == 1, "the holder's own reads are not in it"


def test_a_guardian_whose_time_is_over_copies_nothing(world: World) -> None:
    ward = world.holder()
    guardian = guardian_of(world, ward, until_days=1)
    done = all_done(world.house, ask(ward, call=guardian.call).name)
    world.clock.go_on(days=2)
    with refused("CALLER_NOT_ALLOWED"):
        ask(ward, call=guardian.call)
    with refused("CALLER_NOT_ALLOWED"):
        download(ward, done.name, guardian.call)


def test_operations_are_listed_newest_first_page_by_page(world: World) -> None:
    person = world.holder()
    for _ in range(3):
        all_done(world.house, ask(person).name)

    def page(size: int, token: str = "", call: Any = None) -> Any:
        asked = pb.ListOperationsRequest(parent=person.account, page_size=size, page_token=token)
        return world.house.privacy.ListOperations(asked, **(call or person.call))

    first = page(2)
    assert [one.name[-1] for one in first.operations] == ["3", "2"]
    second = page(2, first.next_page_token)
    assert ([one.name[-1] for one in second.operations], second.next_page_token) == (["1"], "")
    assert len(page(3).operations) == 3
    assert page(3).next_page_token == ""
    with refused("PAGE_TOKEN_INVALID"):
        page(2, "x" + first.next_page_token)
    with refused("FIELD_INVALID"):
        page(-1)
    with refused("RESOURCE_NOT_FOUND"):
        world.house.privacy.ListOperations(
            pb.ListOperationsRequest(parent="accounts/0000000000001"), **world.house.operator
        )


def accesses(person: Customer, call: Any = None, size: int = 0) -> list[Any]:
    asked = pb.ListAccessLogRequest(parent=person.account, page_size=size)
    return list(person.house.privacy.ListAccessLog(asked, **(call or person.call)).accesses)


def test_the_holder_reads_who_looked_and_why_and_operators_do_not(world: World) -> None:
    person = world.holder()
    assert accesses(person) == []
    for why in ("complaint 1", "complaint 2"):
        world.house.accounts.GetAccount(
            account_pb.GetAccountRequest(name=person.account, purpose=why), **world.house.operator
        )
    read = accesses(person)
    assert [(one.actor, one.method, one.purpose) for one in read] == [
        ("operators/desk", "GetAccount", "complaint 2"),
        ("operators/desk", "GetAccount", "complaint 1"),
    ]
    assert accesses(person, world.house.call("auditor", "auditors/a")) == read
    for call in (world.house.operator, world.house.service, world.holder().call):
        with refused("CALLER_NOT_ALLOWED"):
            accesses(person, call)
    asked = pb.ListAccessLogRequest(parent=person.account, page_size=1)
    first = world.house.privacy.ListAccessLog(asked, **person.call)
    asked.page_token = first.next_page_token
    second = world.house.privacy.ListAccessLog(asked, **person.call)
    assert [*first.accesses, *second.accesses] == read
    assert second.next_page_token == ""


def stored(world: World, person: Customer, table: str) -> list[bytes]:
    """What lies in a table of pieces for the account."""
    account_id = account_id_of(person.account)
    query = f"select sealed from {table} where account_id = %s order by piece"
    return [row[0] for row in world.house.sql(query, account_id)]


def test_pieces_and_archives_lie_sealed_in_the_database(world: World) -> None:
    person = world.holder(name="planted-name-4711")
    asked = ask(person)
    part = Part(world.house, OTHERS[0])
    part.send(asked.name, "activities.json", b"planted-trip-0815")
    (piece,) = stored(world, person, "privacy_piece")
    assert b"planted" not in piece
    part.finish(asked.name, {"activities.json": [b"planted-trip-0815"]})
    all_done(world.house, asked.name)
    assert stored(world, person, "privacy_piece") == []
    sealed = b"".join(stored(world, person, "archive_piece"))
    assert sealed
    assert b"planted" not in sealed
    assert b"PK\x03\x04" not in sealed
