"""Making, joining and leaving communities over gRPC, and what they never show."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from threading import Barrier

import pytest
from bindings_world import back_room, events, snapshots, told
from carbonaccount.identity.v1 import community_service_pb2 as pb
from communities_world import (
    COMPANY,
    ESTATE,
    SCHOOL,
    create,
    join,
    joined,
    leave,
    read,
    resident,
)
from identity_house import READING, House, grant_of, refused, request_id

from services.identity.domain.community import COMMUNITIES_MAX, SHOWN_FROM
from services.identity.storage.communities import erase_communities, export_communities
from shared.ids import account_id_of


def test_a_community_is_made_with_a_code_that_joins_it(house: House) -> None:
    made = create(house, COMPANY, "某公司", "A company")
    assert made.community.name.startswith("communities/")
    assert (made.community.kind, made.community.title_zh) == (COMPANY, "某公司")
    assert len(made.code) == 10
    assert not made.community.HasField("member_count")
    person = resident(house)
    assert join(person, made.code) == made.community
    assert joined(person) == [made.community]
    assert events(person)[-1][:2] == ("COMMUNITY_JOINED", "customer")
    assert list(snapshots(house)[person.account].communities) == [made.community.name]


def test_a_retry_makes_no_second_community_and_shows_the_same_code(house: House) -> None:
    key = request_id()
    first = create(house, request=key)
    assert create(house, request=key) == first
    other = create(house)
    assert (other.code, other.community.name) != (first.code, first.community.name)
    with refused("REQUEST_ID_REUSED"):
        create(house, SCHOOL, request=key)
    assert house.sql("select count(*) from community") == [(2,)]


def test_a_hundred_retries_at_once_make_one_community(house: House) -> None:
    key, gate = request_id(), Barrier(20)

    def attempt(_: int) -> str:
        gate.wait()
        return create(house, request=key).code

    with ThreadPoolExecutor(20) as crowd:
        assert len(set(crowd.map(attempt, range(20)))) == 1
    assert house.sql("select count(*) from community_code") == [(1,)]


def test_a_community_needs_a_kind_and_two_names_of_nobody(house: House) -> None:
    for kind in (0, 4, -1):
        with refused("FIELD_INVALID"):
            create(house, kind)
    for title in ("", " ", "a\0b", "a\nb", "x" * 65, "call 13812345678"):
        with refused("FIELD_INVALID") as error:
            create(house, ESTATE, title)
        assert not title.strip() or title not in told(error.value)
        with refused("FIELD_INVALID"):
            create(house, ESTATE, "梅林", title)
    with refused("FIELD_INVALID"):
        create(house, request="no uuid")
    assert create(house, SCHOOL, "校" * 64, "x" * 64).community.kind == SCHOOL


def test_only_operators_make_communities_and_only_customers_join(house: House) -> None:
    person, code = resident(house), create(house).code
    asked = pb.CreateCommunityRequest(
        kind=ESTATE, title_zh="甲", title_en="A", request_id=request_id()
    )
    for call in (person.call, house.service):
        with refused("CALLER_NOT_ALLOWED"):
            house.communities.CreateCommunity(asked, **call)
    wanted = pb.JoinCommunityRequest(parent=person.account, code=code, request_id=request_id())
    for call in (resident(house).call, house.operator, house.service):
        with refused("CALLER_NOT_ALLOWED"):
            house.communities.JoinCommunity(wanted, **call)
    with refused("CALLER_NOT_ALLOWED"):
        house.communities.ListCommunities(
            pb.ListCommunitiesRequest(parent=person.account), **resident(house).call
        )


def test_a_code_that_was_never_made_joins_nothing(house: House) -> None:
    person, made = resident(house), create(house)
    for code in ("0000000000", made.code[:-1], made.code + "0", "' or 1=1 --"):
        with refused("CODE_INVALID") as error:
            join(person, code)
        assert code not in told(error.value)
    for code in ("", "0" * 17):
        with refused("FIELD_INVALID"):
            join(person, code)
    assert join(person, f" {made.code[:5].upper()}-{made.code[5:]}").name == made.community.name


def test_joining_twice_changes_nothing(house: House) -> None:
    person, code, key = resident(house), create(house).code, request_id()
    join(person, code, key)
    before = events(person)
    join(person, code)
    join(person, code, key)
    assert events(person) == before
    assert house.sql("select count(*) from community_member") == [(1,)]


def test_one_account_joining_many_times_at_once_joins_once(house: House) -> None:
    person, code, gate = resident(house), create(house).code, Barrier(16)

    def attempt(_: int) -> str:
        gate.wait()
        return join(person, code).name

    with ThreadPoolExecutor(16) as crowd:
        assert len(set(crowd.map(attempt, range(16)))) == 1
    assert house.sql("select count(*) from community_member") == [(1,)]


def test_an_account_belongs_to_twenty_communities_and_no_more(house: House) -> None:
    person = resident(house)
    codes = [create(house).code for _ in range(COMMUNITIES_MAX + 1)]
    names = [join(person, code).name for code in codes[:COMMUNITIES_MAX]]
    assert [community.name for community in joined(person)] == names
    with refused("LIMIT_REACHED"):
        join(person, codes[-1])
    assert join(person, codes[0]).name == names[0]
    leave(person, names[0])
    last = join(person, codes[-1]).name
    assert [community.name for community in joined(person)] == [*names[1:], last]


def test_leaving_ends_a_membership_at_once_and_for_ever(house: House) -> None:
    person, made, key = resident(house), create(house), request_id()
    join(person, made.code)
    left = leave(person, made.community.name, key)
    assert leave(person, made.community.name) == left
    assert joined(person) == []
    assert not snapshots(house)[person.account].communities
    assert events(person)[-1][0] == "COMMUNITY_LEFT"
    join(person, made.code)
    assert leave(person, made.community.name, key) == left, "a retry leaves no later membership"
    assert len(joined(person)) == 1


def test_a_retry_of_joining_does_not_join_again(house: House) -> None:
    person, made, key = resident(house), create(house), request_id()
    join(person, made.code, key)
    leave(person, made.community.name)
    assert join(person, made.code, key).name == made.community.name
    assert joined(person) == []


def test_nobody_leaves_what_was_never_joined(house: House) -> None:
    person, other, made = resident(house), resident(house), create(house)
    join(other, made.code)
    for name in (made.community.name, "communities/0000000000001"):
        with refused("RESOURCE_NOT_FOUND"):
            leave(person, name)
    for name in ("", "communities/1", "accounts/0000000000001", "communities/", "c" * 257):
        with refused("FIELD_INVALID"):
            leave(person, name)
    with refused("FIELD_INVALID"):
        leave(other, made.community.name, "no uuid")
    request = pb.LeaveCommunityRequest(
        parent=other.account, community=made.community.name, request_id=request_id()
    )
    with refused("CALLER_NOT_ALLOWED"):
        house.communities.LeaveCommunity(request, **person.call)
    assert len(joined(other)) == 1


def test_the_request_id_of_another_join_or_leave_is_refused(house: House) -> None:
    person, one, two, key = resident(house), create(house), create(house), request_id()
    join(person, one.code, key)
    with refused("REQUEST_ID_REUSED"):
        join(person, two.code, key)
    with refused("REQUEST_ID_REUSED"):
        leave(person, one.community.name, key)
    assert join(resident(house), two.code, key).name == two.community.name


def test_the_number_of_members_is_shown_from_ten_on(house: House) -> None:
    made = create(house)
    people = [resident(house) for _ in range(SHOWN_FROM)]
    for person in people[:-1]:
        assert not join(person, made.code).HasField("member_count")
    assert not read(house, made.community.name).HasField("member_count")
    assert join(people[-1], made.code).member_count == SHOWN_FROM
    assert read(house, made.community.name).member_count == SHOWN_FROM
    assert joined(people[0])[0].member_count == SHOWN_FROM
    leave(people[0], made.community.name)
    assert not read(house, made.community.name).HasField("member_count")


def test_a_community_is_read_by_customers_services_and_operators(house: House) -> None:
    made = create(house)
    asked = pb.GetCommunityRequest(community=made.community.name)
    for call in (resident(house).call, house.service, house.operator):
        assert house.communities.GetCommunity(asked, **call).community == made.community
    with refused("CALLER_NOT_ALLOWED"):
        house.communities.GetCommunity(asked, **house.call("source", "sources/bike-demo"))
    with refused("RESOURCE_NOT_FOUND"):
        read(house, "communities/0000000000001")
    for name in ("", "communities/1", "communities/uuuuuuuuuuuuu", "accounts/0000000000001"):
        with refused("FIELD_INVALID"):
            read(house, name)


def test_communities_of_no_account_are_not_found(house: House) -> None:
    nobody = house.customer()
    nobody.account = "accounts/0000000000001"
    with refused("RESOURCE_NOT_FOUND"):
        joined(nobody)
    with refused("RESOURCE_NOT_FOUND"):
        join(nobody, create(house).code)


def test_a_closed_account_joins_nothing_and_has_left_everything(house: House) -> None:
    person, made, other = resident(house), create(house), create(house)
    join(person, made.code)
    join(person, other.code)
    closed = person.close()
    assert joined(person) == []
    assert house.sql("select distinct leave_time from community_member") == [
        (closed.update_time.ToDatetime(UTC),)
    ]
    assert [kind for kind, _, _ in events(person)].count("COMMUNITY_LEFT") == 2
    with refused("ACCOUNT_NOT_OPEN"):
        join(person, made.code)
    assert leave(person, made.community.name) == closed.update_time


def test_revoking_a_consent_leaves_no_community(house: House) -> None:
    person, made = house.customer(), create(house)
    consent = person.open(grant_of(READING)).consents[0]
    join(person, made.code)
    person.revoke(consent.name)
    assert len(joined(person)) == 1


def test_a_child_leaves_although_it_may_not_join(
    house: House, database_url: str, tmp_path: Path
) -> None:
    made = create(house)
    with back_room(database_url, tmp_path) as room:
        child = room.open_child(house)
    with refused("GUARDIAN_REQUIRED"):
        join(child, made.code)
    account_id, community_id = (
        account_id_of(child.account),
        house.sql("select community_id from community")[0][0],
    )
    house.sql(
        "insert into community_member values (%s, %s, now(), null, 1, %s) returning 1",
        account_id, community_id, account_id & 63,
    )  # fmt: skip
    leave(child, made.community.name)
    assert joined(child) == []


def test_a_household_joins_nothing(house: House) -> None:
    person, made = resident(house), create(house)
    house.sql("update account set kind = 2 returning 1")
    with refused("STATE_CONFLICT"):
        join(person, made.code)


def test_no_code_lies_in_any_table_or_log_line(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    made, closed = create(house), resident(house)
    join(resident(house), made.code)
    closed.close()
    with refused("ACCOUNT_NOT_OPEN"):
        join(closed, made.code)
    logged = capsys.readouterr().out
    assert "JoinCommunity" in logged
    assert made.code not in logged
    tables = house.sql(
        "select table_name from information_schema.tables where table_schema = 'public'"
    )
    for (table,) in tables:
        for (row,) in house.sql(f'select row_to_json(t)::text from "{table}" t'):
            assert made.code not in row
            assert made.code.encode().hex() not in row


def test_erasing_and_exporting_memberships(house: House, database_url: str, tmp_path: Path) -> None:
    person, other, made, second = resident(house), resident(house), create(house), create(house)
    join(person, made.code)
    left = leave(person, made.community.name).ToDatetime()
    join(person, second.code)
    join(other, made.code)
    account_id = account_id_of(person.account)
    with back_room(database_url, tmp_path) as room, room.database.transaction() as connection:
        first, current = export_communities(connection, account_id)
        assert first["community"] == made.community.name
        assert first["title_en"] == "Meilin Yicun"
        assert first["leave_time"] == left.isoformat() + "+00:00"
        assert (current["community"], current["leave_time"]) == (second.community.name, "")
        assert erase_communities(connection, account_id) == {"community_member": 2}
        assert erase_communities(connection, account_id) == {"community_member": 0}
        assert export_communities(connection, account_id) == []
    assert joined(person) == []
    assert len(joined(other)) == 1
