"""RestatementService: asking for a restatement, how far it is, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from carbonaccount.calculation.v1 import restatement_service_pb2 as pb
from google.type.date_pb2 import Date

from tests.calculation.life_files import BIKE_FILE, corrected
from tests.calculation.life_world import (
    REASON,
    Doing,
    Life,
    fresh,
    refused,
    told,
)


def begin(life: Life, kind: str = "operator", **fields: Any) -> Any:
    """A restatement of all that is recorded, unless told otherwise."""
    told_of = {"reason_zh": REASON.zh, "reason_en": REASON.en, "request_id": fresh(), **fields}
    request = pb.RestateActivitiesRequest(**told_of)
    return life.restatements(kind).RestateActivities(request).restatement


def read(life: Life, name: str, kind: str = "operator") -> Any:
    request = pb.GetRestatementRequest(name=name)
    return life.restatements(kind).GetRestatement(request).restatement


def test_all_that_is_on_record_is_gone_over_unless_a_day_is_named(life: Life) -> None:
    life.record(Doing(64, on="2026-02-03"), Doing(64, on="2026-04-03"))
    whole, part = begin(life), begin(life, first_date=told("2026-04-20"))
    assert (whole.first_date, whole.last_date) == (told("2026-02-01"), told("2026-05-31"))
    assert (part.first_date, part.last_date) == (told("2026-04-01"), told("2026-05-31"))
    assert (whole.requester, whole.done, whole.shards_done) == ("operators/any", False, 0)
    assert (whole.reason_zh, whole.reason_en) == (REASON.zh, REASON.en)


def test_with_nothing_on_record_this_month_is_gone_over(life: Life) -> None:
    made = begin(life)
    assert (made.first_date, made.last_date) == (told("2026-05-01"), told("2026-05-31"))
    life.restate()
    assert read(life, made.name).done


def test_how_far_it_is_and_what_it_came_to_is_told(life: Life) -> None:
    life.record(
        Doing(64), Doing(65, on="2026-04-10", measure=2000), Doing(64, on="2026-02-10"),
        Doing(128, on="2026-05-10", measure=0),
    )  # fmt: skip
    name = life.into_force(BIKE_FILE, corrected(), REASON).restatement
    before = read(life, name)
    assert (before.done, before.shards_done, before.acts) == (False, 0, 0)
    life.restate()
    after = read(life, name, "auditor")
    assert (after.done, after.shards_done) == (True, 64)
    assert (after.acts, after.changed, after.gained, after.lost) == (3, 2, 0, 11_640)
    assert after.update_time.ToNanoseconds() > after.create_time.ToNanoseconds()


def test_the_same_request_begins_one_and_other_content_is_refused(life: Life) -> None:
    request = fresh()
    made = begin(life, request_id=request)
    assert begin(life, request_id=request) == made
    life.today += 20
    assert begin(life, request_id=request) == made, "a month later it is the same request"
    for fields in (
        {"reason_en": "another"},
        {"reason_zh": "其他"},
        {"first_date": told("2026-01-01")},
    ):
        with refused("ALREADY_EXISTS REQUEST_ID_REUSED", "make a new one"):
            begin(life, request_id=request, **fields)
    assert life.rows()["restatement"] == 1
    dated = begin(life, first_date=told("2026-02-01"), request_id=(again := fresh()))
    assert begin(life, first_date=told("2026-02-28"), request_id=again) == dated


def test_a_request_that_published_a_text_begins_no_restatement_of_its_own(life: Life) -> None:
    name, request = life.draft(BIKE_FILE, corrected()).name, fresh()
    life.review(name)
    life.publish(name, REASON, request_id=request)
    with refused("REQUEST_ID_REUSED"):
        begin(life, request_id=request)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no reason in Chinese": ({"reason_zh": ""}, "reason_zh is not set"),
    "a blank one in English": ({"reason_en": "  "}, "reason_en is blank"),
    "a reason that cannot be kept": ({"reason_en": "a\0"}, "reason_en has a NUL"),
    "a reason without an end": ({"reason_en": "a" * 501}, "may be 500"),
    "a month that lies ahead": ({"first_date": told("2026-06-01")}, "give a day up to today"),
    "no day": ({"first_date": Date(year=2026, month=2, day=30)}, "no date"),
    "no request_id": ({"request_id": ""}, "request_id is not set"),
    "a request_id that is none": ({"request_id": "1-2-3"}, "UUID"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_restatement_that_cannot_be_is_refused(life: Life, case: str) -> None:
    fields, said = WRONG[case]
    with refused("INVALID_ARGUMENT FIELD_INVALID", said):
        begin(life, **fields)
    assert life.rows()["restatement"] == life.rows()["restatement_shard"] == 0


def test_the_last_day_of_this_month_is_not_ahead(life: Life) -> None:
    assert begin(life, first_date=told("2026-05-31")).first_date == told("2026-05-01")


def test_restatements_are_listed_newest_first_by_pages(life: Life) -> None:
    names = [begin(life).name for _ in range(5)]
    stub, pages, token = life.restatements("auditor"), [], ""
    while True:
        page = stub.ListRestatements(pb.ListRestatementsRequest(page_size=2, page_token=token))
        pages.append([one.name for one in page.restatements])
        token = page.next_page_token
        if not token:
            break
    assert pages == [names[4:2:-1], names[2:0:-1], names[:1]]
    whole = stub.ListRestatements(pb.ListRestatementsRequest(page_size=5))
    assert (len(whole.restatements), whole.next_page_token) == (5, "")
    with refused("PAGE_TOKEN_INVALID"):
        stub.ListRestatements(pb.ListRestatementsRequest(page_token="x"))
    with refused("FIELD_INVALID", "page_size is -1"):
        stub.ListRestatements(pb.ListRestatementsRequest(page_size=-1))


def test_one_that_is_not_there_is_not_found(life: Life) -> None:
    with refused("NOT_FOUND RESOURCE_NOT_FOUND", "restatements/9", "ListRestatements"):
        read(life, "restatements/9")
    with refused("FIELD_INVALID", "restatements/ and its number"):
        read(life, "drafts/1")


@pytest.mark.parametrize("kind", ["public", "customer", "source", "service", "auditor"])
def test_only_an_operator_restates_and_only_auditors_look_on(life: Life, kind: str) -> None:
    made = begin(life)
    reason = "UNAUTHENTICATED TOKEN_INVALID" if kind == "public" else "CALLER_NOT_ALLOWED"
    with refused(reason):
        begin(life, kind)
    if kind == "auditor":
        assert read(life, made.name, kind) == made
        return
    with refused(reason):
        read(life, made.name, kind)
    with refused(reason):
        life.restatements(kind).ListRestatements(pb.ListRestatementsRequest())
