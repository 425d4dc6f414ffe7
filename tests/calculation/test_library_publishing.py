"""Putting a reviewed text in force: by whom, when, with what reason, and what that begins."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import sqlalchemy as sa
from carbonaccount.calculation.v1 import assessment_service_pb2 as assessment_pb
from carbonaccount.calculation.v1 import assessment_service_pb2_grpc as assessment_grpc
from carbonaccount.calculation.v1 import methodology_service_pb2 as pb
from carbonaccount.calculation.v1 import restatement_service_pb2 as restatement_pb

from services.calculation.domain.faults import LibraryInvalid
from services.calculation.storage.shelf import Shelf
from services.calculation.usecases.publish_library import Reason
from services.calculation.wiring import open_shelf
from shared.rpc.status import reason_of
from tests.calculation.calculators_world import READ, calculator_files, shelf
from tests.calculation.life_files import (
    BIKE,
    BIKE_FILE,
    PROGRAMME,
    RIDES,
    SHIPPED,
    WALK_FILE,
    WALKS,
    bike,
    corrected,
    ended,
    entry,
    first,
    methodology,
    programme,
    version,
    walk,
)
from tests.calculation.life_world import (
    NO_REASON,
    REASON,
    Life,
    fresh,
    neighbour,
    new_shelf,
    refused,
    told,
)

AHEAD = corrected("2026-06-01")
PAST = corrected("2026-03-15")
JULY = entry(BIKE, "life-bike", "310100", begins="2026-07-01")
WALK_ENDED = walk().replace('rounding = "floor"', 'rounding = "floor"\nend_date = 2026-04-01')


def estimated(life: Life, on: str) -> int:
    """What a kilometre by bike earns in Shanghai on that day, in milligrams."""
    request = assessment_pb.EstimateReductionRequest(
        scene=BIKE, measures={"distance_metre": 1000}, civil_date=told(on), region_code="310100"
    )
    stub = life.call("public", service=assessment_grpc.AssessmentServiceStub)
    return int(stub.EstimateReduction(request).assessment.reduction_mg)


def reviewed(life: Life, path: str, text: str) -> str:
    name = str(life.draft(path, text).name)
    life.review(name)
    return name


def editions(life: Life) -> list[tuple[int | None, int | None]]:
    """Draft and restatement of each edition."""
    rows = life.sql("select draft, restatement from library_edition order by edition")
    return [(draft, restatement) for draft, restatement in rows]


def test_what_is_published_serves_here_at_once_and_elsewhere_after_a_look(life: Life) -> None:
    other = new_shelf()
    assert estimated(life, "2026-06-01") == 33_880
    published = life.into_force(BIKE_FILE, AHEAD)
    assert published.draft.state == pb.LibraryDraft.STATE_PUBLISHED
    assert (published.draft.publisher, published.restatement) == ("operators/cat", "")
    assert published.draft.publish_time.seconds > 0
    assert (estimated(life, "2026-05-31"), estimated(life, "2026-06-01")) == (33_880, 30_000)
    assert other.files[BIKE_FILE] == bike()
    with life.database.transaction() as connection:
        assert other.refresh(connection)
        assert not other.refresh(connection)
    assert other.files[BIKE_FILE] == AHEAD
    assert len(other.library.methodologies["life-bike"].versions) == 2


def test_the_drafter_may_not_publish_and_the_reviewer_may(life: Life) -> None:
    name = reviewed(life, BIKE_FILE, AHEAD)
    with refused("PERMISSION_DENIED CALLER_NOT_ALLOWED", "operators/ann", "a second person"):
        life.publish(name, who="ann")
    assert life.publish(name, who="bob").draft.publisher == "operators/bob"


def test_what_nobody_reviewed_is_not_published(life: Life) -> None:
    name = life.draft(BIKE_FILE, AHEAD).name
    with refused("FAILED_PRECONDITION STATE_CONFLICT", f"{name} is not reviewed", "operators/ann"):
        life.publish(name)
    with refused("NOT_FOUND RESOURCE_NOT_FOUND", "drafts/99", "ListLibraryDrafts"):
        life.publish("drafts/99")
    life.review(name)
    with refused("FIELD_INVALID", "UUID"):
        life.publish(name, request_id="1")
    assert editions(life) == [(None, None)]


def test_the_past_changes_only_with_a_reason_in_both_languages(life: Life) -> None:
    name = reviewed(life, BIKE_FILE, PAST)
    before = life.rows()
    said = f"life-bike/versions/1 credits {BIKE} in every region from 2026-03-15 to 2026-05-20"
    for reason, field in (
        (NO_REASON, "reason_zh"),
        (Reason("更正", " "), "reason_en"),
        (Reason("", "corrected"), "reason_zh"),
    ):
        with refused("INVALID_ARGUMENT FIELD_INVALID", said, f"give {field}"):
            life.publish(name, reason)
    with refused("FIELD_INVALID", "reason_zh"):
        life.publish(name, Reason("更\0正", "corrected"))
    assert life.rows() == before
    assert life.publish(name, REASON).restatement == "restatements/1"
    assert editions(life) == [(None, None), (1, 1)]


def test_a_changed_past_begins_one_restatement_from_its_first_month_on(life: Life) -> None:
    published = life.into_force(BIKE_FILE, PAST, REASON)
    listed = life.restatements("auditor").ListRestatements(restatement_pb.ListRestatementsRequest())
    (restatement,) = listed.restatements
    assert restatement.name == published.restatement
    assert (restatement.first_date, restatement.last_date) == (
        told("2026-03-01"), told("2026-05-31"),
    )  # fmt: skip
    assert (restatement.reason_zh, restatement.reason_en) == (REASON.zh, REASON.en)
    assert (restatement.requester, restatement.done) == ("operators/cat", False)


def test_what_lies_ahead_changes_without_a_reason_and_restates_nothing(life: Life) -> None:
    assert life.into_force(BIKE_FILE, corrected("2026-05-21"), REASON).restatement == ""
    assert life.rows()["restatement"] == 0


def test_publishing_again_answers_the_same_and_does_nothing(life: Life) -> None:
    name, request = reviewed(life, BIKE_FILE, PAST), fresh()
    published = life.publish(name, REASON, request_id=request)
    rows = life.rows()
    assert published.restatement
    assert life.publish(name, REASON, request_id=request) == published
    assert life.publish(name, NO_REASON, who="bob") == published
    assert life.rows() == rows


def test_a_request_that_published_one_draft_publishes_no_other(life: Life) -> None:
    request = fresh()
    life.publish(reviewed(life, BIKE_FILE, PAST), REASON, request_id=request)
    other = reviewed(life, PROGRAMME, programme(RIDES, WALKS.replace("01-01", "02-01")))
    with refused("ALREADY_EXISTS REQUEST_ID_REUSED", "make a new one"):
        life.publish(other, REASON, request_id=request)
    with refused("STATE_CONFLICT", "restatements/1 is under way", "when GetRestatement says done"):
        life.publish(other, REASON)
    with life.database.transaction() as connection:  # as the workers of all shards leave it
        connection.execute(sa.text("update restatement_shard set month = 100 * 12 * 30"))
    assert life.publish(other, REASON).restatement == "restatements/2"


def test_a_version_that_was_in_force_may_be_given_an_end_ahead(life: Life) -> None:
    life.into_force(BIKE_FILE, bike(ended("2026-06-01")))
    with pytest.raises(grpc.RpcError) as caught:
        estimated(life, "2026-06-01")
    assert reason_of(caught.value) == "METHODOLOGY_MISSING"
    assert estimated(life, "2026-05-31") == 33_880
    life.into_force(BIKE_FILE, bike(first()))
    assert estimated(life, "2026-06-01") == 33_880


def test_an_end_in_the_past_needs_a_reason_and_restates_from_there(life: Life) -> None:
    name = reviewed(life, BIKE_FILE, bike(ended("2026-04-20")))
    with refused("FIELD_INVALID", "from 2026-04-20 to 2026-05-20 no longer"):
        life.publish(name)
    life.publish(name, REASON)
    assert life.sql("select first_month from restatement") == [(2026 * 12 + 3,)]


def test_a_version_is_a_fact_from_its_first_day_on_without_any_restart(life: Life) -> None:
    text = methodology("life-aside", version("1", "2026-05-25", "10"))
    life.into_force("life-aside.toml", text)
    changed = methodology("life-aside", version("1", "2026-05-25", "11"))
    life.today += 4
    assert list(life.validate("life-aside.toml", changed).faults) == []
    life.today += 1
    with refused("FIELD_INVALID", "life-aside/versions/1 was in force", "never changes"):
        life.draft("life-aside.toml", changed)


def test_two_publishers_at_once_end_in_two_editions_and_none_is_lost(life: Life) -> None:
    walk_ends = WALK_ENDED.replace("2026-04-01", "2026-07-01")  # ahead: one of them restates
    drafts = [reviewed(life, BIKE_FILE, PAST), reviewed(life, WALK_FILE, walk_ends)]
    with neighbour(life) as other, ThreadPoolExecutor(2) as threads:
        at_once = [threads.submit(who.publish, draft, REASON)
                   for who, draft in zip((life, other), drafts, strict=True)]  # fmt: skip
        made = [one.result() for one in at_once]
        assert {one.restatement for one in made} == {"restatements/1", ""}
        assert sorted(draft or 0 for draft, _ in editions(life)) == [0, 1, 2]
        newest = new_shelf()
        with life.database.transaction() as connection:
            for held in (life.shelf, other.shelf, newest):
                held.refresh(connection)
                assert held.files[BIKE_FILE] == PAST
                assert held.files[WALK_FILE] == walk_ends
    ((selection,),) = life.sql(
        "select selection from library_edition order by edition desc limit 1"
    )
    assert len([line for line in selection if line["scene"] == BIKE]) == 2
    assert not any(line["to_day"] > 2**30 for line in selection if line["scene"] != BIKE)


def test_another_process_publishes_on_top_of_what_it_has_not_looked_at_yet(life: Life) -> None:
    with neighbour(life) as other:
        mine = reviewed(life, BIKE_FILE, bike(ended("2026-06-01")))
        theirs = reviewed(other, PROGRAMME, programme(RIDES, WALKS, JULY))
        life.publish(mine)
        assert other.shelf.files[BIKE_FILE] == bike()
        with refused("STATE_CONFLICT", "the library has moved on", PROGRAMME, "change the days"):
            other.publish(theirs)
        assert len(editions(life)) == 2


def test_a_draft_that_another_publication_made_invalid_is_refused(life: Life) -> None:
    stale = reviewed(life, PROGRAMME, programme(RIDES, WALKS, JULY))
    life.into_force(BIKE_FILE, bike(ended("2026-06-01")))
    with refused("FAILED_PRECONDITION STATE_CONFLICT", "moved on", f"{PROGRAMME}:"):
        life.publish(stale)
    assert len(editions(life)) == 2


def test_a_draft_of_a_file_that_was_published_since_is_refused(life: Life) -> None:
    stale = reviewed(life, BIKE_FILE, corrected("2026-07-01", "29"))
    newer = life.into_force(BIKE_FILE, AHEAD).draft.name
    with refused("STATE_CONFLICT", f"{newer} was published", "draft your change again"):
        life.publish(stale)
    life.into_force(BIKE_FILE, corrected("2026-07-01", "29"))
    assert estimated(life, "2026-07-01") == 29_000


def test_the_later_publication_of_a_file_stands_whatever_the_clock_said(life: Life) -> None:
    life.into_force(BIKE_FILE, AHEAD)
    life.into_force(BIKE_FILE, corrected("2026-07-01", "29"))
    # A transaction takes the time at which it began, also when it waited for another's pen.
    life.sql(
        "update library_draft set publish_time = publish_time - interval '1 hour' where draft = 2"
        " returning draft"
    )
    found = new_shelf()
    with life.database.transaction() as connection:
        found.refresh(connection)
    assert found.files[BIKE_FILE] == corrected("2026-07-01", "29")


def test_a_shelf_that_cannot_load_an_edition_keeps_the_old_and_says_so_each_time(
    life: Life,
) -> None:
    old = {path: text for path, text in SHIPPED.items() if path != "hello-2022.toml"}
    behind = Shelf(old, shelf().registry, "life", calculator_files(), READ)
    life.into_force(PROGRAMME, programme(entry(BIKE, "hello-2022"), WALKS), REASON)
    for _ in range(2):
        with (
            pytest.raises(LibraryInvalid, match="methodology 'hello-2022'"),
            life.database.transaction() as connection,
        ):
            behind.refresh(connection)
        assert (behind.files, behind.edition) == (old, 0)
        assert behind.programme.entries[0].methodology.id == "life-bike"


def test_shipped_files_that_change_to_and_fro_are_restated_each_time(life: Life) -> None:
    other = {**SHIPPED, PROGRAMME: programme(WALKS)}
    for number, files in enumerate((other, SHIPPED, other), 1):
        held = Shelf(files, shelf().registry, "life", calculator_files(), READ)
        open_shelf(held, REASON, life.today, life.database)
        assert life.rows()["restatement"] == number
    open_shelf(held, REASON, life.today, life.database)
    assert life.rows()["restatement"] == 3
