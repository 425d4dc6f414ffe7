"""A text's way into force, up to its review; and how the library shows the life of a version."""

from __future__ import annotations

from typing import Any

import pytest
from carbonaccount.calculation.v1 import methodology_service_pb2 as pb

from tests.calculation.life_files import (
    BIKE,
    BIKE_FILE,
    PROGRAMME,
    RIDES,
    WALKS,
    bike,
    corrected,
    ended,
    entry,
    first,
    methodology,
    programme,
    version,
)
from tests.calculation.life_world import (
    REASON,
    Life,
    file,
    fresh,
    refused,
    told,
)

BROKEN = bike().replace('unit = "g/km"', 'unit = "kg/kWh"')


def line_of(text: str, words: str, start: str = "") -> int:
    """The number of the first line with these words, after one that has `start`."""
    lines = text.splitlines()
    begin = next(n for n, line in enumerate(lines) if start in line)
    return next(n for n, line in enumerate(lines, 1) if words in line and n > begin)


# Checking


def test_a_file_that_may_go_into_force_has_no_faults_and_nothing_is_kept(life: Life) -> None:
    before = life.rows()
    for text in (bike(), bike(ended("2026-05-21"), version("2", "2026-05-21", "30"))):
        judged = life.validate(BIKE_FILE, text)
        assert (list(judged.faults), list(judged.past_changes)) == ([], [])
        assert not judged.HasField("first_changed_date")
    assert life.rows() == before


def test_a_fault_is_told_with_its_line_and_column(life: Life) -> None:
    fault, knock_on = life.validate(BIKE_FILE, BROKEN).faults
    assert (knock_on.path, "did not load" in knock_on.message) == (PROGRAMME, True)
    assert (fault.path, fault.line) == (BIKE_FILE, line_of(BROKEN, "formula = "))
    assert fault.column > 1
    assert "mass" in fault.message
    fault = life.validate(BIKE_FILE, bike().replace("\nasset", "\nwonders")).faults[0]
    assert (fault.line, fault.column) == (1, 1)
    assert "asset is missing; add it" in fault.message


def test_a_text_that_is_no_toml_is_told_where_it_stops_being_one(life: Life) -> None:
    text = bike() + "\nthis is not a line\n"
    fault = life.validate(BIKE_FILE, text).faults[0]
    assert (fault.line, fault.column > 1) == (line_of(text, "this is not a line"), True)


def test_a_programme_of_another_methodology_says_which_there_are(life: Life) -> None:
    text = programme(RIDES, WALKS, entry("scenes/e-book", "life-books"))
    (fault,) = life.validate(PROGRAMME, text).faults
    assert (fault.path, fault.line) == (PROGRAMME, line_of(text, "life-books"))
    assert "there is" in fault.message


def test_a_version_that_was_in_force_is_a_fact_and_its_line_is_named(life: Life) -> None:
    text = bike(version("1", "2025-01-01", "33.89"))
    (fault,) = life.validate(BIKE_FILE, text).faults
    assert (fault.path, fault.line) == (BIKE_FILE, line_of(text, 'id = "1"'))
    assert "methodologies/life-bike/versions/1 was in force" in fault.message
    assert "write the change as a new version" in fault.message


def test_the_past_that_would_change_is_told_day_by_day(life: Life) -> None:
    judged = life.validate(BIKE_FILE, corrected("2026-03-01"))
    old, new = (f"methodologies/life-bike/versions/{n} credits {BIKE}" for n in (1, 2))
    assert list(judged.past_changes) == [
        f"{old} in every region from 2026-03-01 to 2026-05-20 no longer",
        f"{new} in every region from 2026-03-01 to 2026-05-20",
    ]
    assert judged.first_changed_date == told("2026-03-01")
    assert list(judged.faults) == []


def test_a_day_that_has_begun_is_past_and_tomorrow_is_not(life: Life) -> None:
    assert life.validate(BIKE_FILE, corrected("2026-05-20")).first_changed_date == told(
        "2026-05-20"
    )
    assert list(life.validate(BIKE_FILE, corrected("2026-05-21")).past_changes) == []


def test_a_path_outside_the_library_is_refused(life: Life) -> None:
    for path in ("../life-bike.toml", "life-bike.txt", "programmes/a/b.toml", "a\0.toml", ".toml"):
        with refused("INVALID_ARGUMENT FIELD_INVALID", "sz-pt-2021.toml or programmes/demo.toml"):
            life.validate(path, bike())
    with refused("FIELD_INVALID", "file.path is 133 long"):
        life.validate("a" * 128 + ".toml", bike())
    with refused("FIELD_INVALID", "file.content is not set"):
        life.validate(BIKE_FILE, "")


# Drafting


def test_a_draft_is_kept_as_it_was_sent(life: Life) -> None:
    draft = life.draft(BIKE_FILE, corrected())
    assert draft.state == pb.LibraryDraft.STATE_DRAFT
    assert (draft.drafter, draft.reviewer, draft.publisher) == ("operators/ann", "", "")
    assert draft.file == file(BIKE_FILE, corrected())
    assert draft.draft_time.seconds > 0
    assert not draft.HasField("review_time")
    (version_shown,) = shown(life, "life-bike")
    assert version_shown.factors[0].value == "33.88"


def test_a_draft_that_does_not_load_is_refused_with_file_and_line(life: Life) -> None:
    before = life.rows()
    with refused("FIELD_INVALID", f"{BIKE_FILE}:{line_of(BROKEN, 'formula = ')}:", "mass"):
        life.draft(BIKE_FILE, BROKEN)
    with refused("FIELD_INVALID", "never changes", "write the change as a new version"):
        life.draft(BIKE_FILE, bike(version("1", "2025-01-01", "33.89")))
    assert life.rows() == before


def test_the_same_request_drafts_once_and_other_content_is_refused(life: Life) -> None:
    request = fresh()
    draft = life.draft(BIKE_FILE, corrected(), request)
    assert life.draft(BIKE_FILE, corrected(), request) == draft
    for path, text, who in (
        (BIKE_FILE, corrected(value="31"), "ann"),
        (PROGRAMME, programme(RIDES, WALKS), "ann"),
        (BIKE_FILE, corrected(), "bob"),
    ):
        with refused("ALREADY_EXISTS REQUEST_ID_REUSED", "make a new one"):
            life.draft(path, text, request, who=who)
    assert life.rows()["library_draft"] == 1
    with refused("FIELD_INVALID", "UUID"):
        life.draft(BIKE_FILE, corrected(), "twice")


def test_a_draft_is_answered_again_also_after_the_library_moved_on(life: Life) -> None:
    request = fresh()
    text = corrected("2026-06-01")
    draft = life.draft(BIKE_FILE, text, request)
    life.into_force(BIKE_FILE, corrected("2026-04-01", "29"), REASON)
    assert life.validate(BIKE_FILE, text).faults, "it could not be drafted any more"
    assert life.draft(BIKE_FILE, text, request) == draft


# Reviewing


def test_somebody_else_reviews_and_a_second_review_changes_nothing(life: Life) -> None:
    name = life.draft(BIKE_FILE, corrected()).name
    reviewed = life.review(name, "bob", note="compared with the paper")
    assert reviewed.state == pb.LibraryDraft.STATE_REVIEWED
    assert (reviewed.reviewer, reviewed.review_note) == (
        "operators/bob", "compared with the paper",
    )  # fmt: skip
    assert life.review(name, "cat", note="me too") == reviewed


def test_the_drafter_may_not_review(life: Life) -> None:
    name = life.draft(BIKE_FILE, corrected()).name
    with refused("PERMISSION_DENIED CALLER_NOT_ALLOWED", "ask a second person"):
        life.review(name, "ann")
    assert life.sql("select state from library_draft") == [(1,)]


def test_a_draft_that_is_not_there_is_not_reviewed(life: Life) -> None:
    with refused("NOT_FOUND RESOURCE_NOT_FOUND", "drafts/7", "ListLibraryDrafts"):
        life.review("drafts/7")
    for name in ("drafts/", "drafts/x", "restatements/1", f"drafts/{10**19}"):
        with refused("FIELD_INVALID", "drafts/ and its number"):
            life.review(name)
    with refused("FIELD_INVALID", "review_note"):
        life.review(life.draft(BIKE_FILE, corrected()).name, note="a\0b")


# Reading


def drafts(life: Life, size: int = 0, token: str = "") -> Any:
    request = pb.ListLibraryDraftsRequest(page_size=size, page_token=token)
    return life.call("auditor").ListLibraryDrafts(request)


def test_drafts_are_listed_newest_first_by_pages(life: Life) -> None:
    names = [life.draft(BIKE_FILE, corrected(value=str(n))).name for n in range(20, 25)]
    pages, token = [], ""
    while True:
        page = drafts(life, 2, token)
        pages.append([draft.name for draft in page.drafts])
        token = page.next_page_token
        if not token:
            break
    assert pages == [names[4:2:-1], names[2:0:-1], names[:1]]
    assert [draft.name for draft in drafts(life, 5).drafts] == names[::-1]
    assert drafts(life, 5).next_page_token == ""
    with refused("PAGE_TOKEN_INVALID"):
        drafts(life, 2, "no-token")
    with refused("FIELD_INVALID", "page_size is -1"):
        drafts(life, -1)


def test_pages_of_long_texts_end_before_they_are_too_long_to_send(life: Life) -> None:
    comment = "#" + "长" * 60_000 + "\n"
    names = [life.draft(BIKE_FILE, bike() + comment * 3).name for _ in range(17)]
    seen, token = [], ""
    while True:
        page = drafts(life, 500, token)
        assert page.ByteSize() < 5_000_000
        seen += [draft.name for draft in page.drafts]
        token = page.next_page_token
        if not token:
            break
    assert seen == names[::-1]


def shown(life: Life, name: str) -> Any:
    request = pb.GetMethodologyRequest(name=f"methodologies/{name}")
    return life.call("public").GetMethodology(request).methodology.versions


def test_a_version_is_shown_with_where_it_is_in_its_life(life: Life) -> None:
    text = methodology(
        "life-later",
        version("0", "2020-01-01", "30", head="end_date = 2026-05-20"),
        version("1", "2026-05-20", "31", head="end_date = 2026-05-21"),
        version("2", "2026-05-21", "32", head="end_date = 2026-06-01"),
        version("3", "2026-06-01", "33", head='draft = "the number is not public"'),
    )
    life.into_force("life-later.toml", text)
    lives = [pb.MethodologyVersion.Life.Name(one.life) for one in shown(life, "life-later")]
    assert lives == ["LIFE_RETIRED", "LIFE_IN_FORCE", "LIFE_AHEAD", "LIFE_DRAFT"]
    assert shown(life, "life-later")[3].draft == "the number is not public"
    life.today += 1
    lives = [pb.MethodologyVersion.Life.Name(one.life) for one in shown(life, "life-later")]
    assert lives == ["LIFE_RETIRED", "LIFE_RETIRED", "LIFE_IN_FORCE", "LIFE_DRAFT"]
    assert shown(life, "life-later")[2].end_date == told("2026-06-01")


def test_an_unknown_methodology_is_not_found(life: Life) -> None:
    with refused("NOT_FOUND RESOURCE_NOT_FOUND", "the library has"):
        shown(life, "life-late")


@pytest.mark.parametrize("kind", ["public", "customer", "source", "service", "auditor"])
def test_who_is_no_operator_takes_nothing_into_force(life: Life, kind: str) -> None:
    stub = life.call(kind)
    text = file(BIKE_FILE, bike(first()))
    reason = "UNAUTHENTICATED TOKEN_INVALID" if kind == "public" else "CALLER_NOT_ALLOWED"
    calls: list[tuple[Any, Any]] = [
        (stub.ValidateLibraryFile, pb.ValidateLibraryFileRequest(file=text)),
        (stub.DraftLibraryFile, pb.DraftLibraryFileRequest(file=text, request_id=fresh())),
        (stub.ReviewLibraryDraft, pb.ReviewLibraryDraftRequest(name="drafts/1")),
        (
            stub.PublishLibraryDraft,
            pb.PublishLibraryDraftRequest(name="drafts/1", request_id=fresh()),
        ),
    ]
    if kind != "auditor":
        calls.append((stub.ListLibraryDrafts, pb.ListLibraryDraftsRequest()))
    for method, request in calls:
        with refused(reason):
            method(request)
    days = {"first_date": told("2026-01-01"), "last_date": told("2026-01-01")}
    with refused(reason):
        list(stub.BacktestLibraryFile(pb.BacktestLibraryFileRequest(**days)))
