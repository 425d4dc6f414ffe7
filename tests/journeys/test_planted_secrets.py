"""What people enter is found in clear nowhere but where a decision puts it, whatever goes wrong.

Values that occur nowhere else are entered in every text of the contract, by good calls and bad
ones, while logs say all they can and processes, tables and the database break. Then logs, feeds,
answers, errors, every row of every table and every file are searched for them, in any spelling.
There are no traces yet; once there are, they are written below the directory that is searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from shared.rpc.redaction import is_sensitive
from tests.journeys.planted_calls import Said
from tests.journeys.planted_evidence import Found, gather
from tests.journeys.planted_fields import IN_CLEAR, NOBODYS, READER, texts
from tests.journeys.planted_misuse import MISPLACED, MISUSER
from tests.journeys.planted_numbers import NUMBERS
from tests.journeys.planted_search import Searcher
from tests.journeys.planted_values import Value, chinese, order_number, region, spellings, word

pytestmark = pytest.mark.timeout(240)

PERSON = {"Account.display_name", "Account.region_code"}
STAFF_READS = ("GetAccount", "LookUpAccount")
HOUSEHOLD = {"CreateHouseholdRequest.display_name", "SplitHouseholdRequest.display_name"}
READ_WORDS = ("customer", "operator", "auditor")
NEVER_SENT = {
    "SendPrivacyFileRequest.content": "a sibling's file, made of what is planted",
    "CompareTripsRequest.region_code": "keeps nothing, and takes codes that it knows",
    "EstimateFootprintRequest.region_code": "keeps nothing, and takes codes that it knows",
}
PIECE_BYTES = 1 << 12


def told(found: Iterable[str]) -> str:
    """What was found, a line each, for whoever has to mend it."""
    return "\n" + "\n".join(sorted(found))


@pytest.fixture(scope="module")
def found(server_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return gather(server_root / "planted", tmp_path_factory.mktemp("var"))


def test_every_text_that_the_contract_takes_is_known_for_what_it_is() -> None:
    unknown = {text.label for text in texts() if not text.known}
    assert not unknown, "mark them sensitive, or say in planted_fields.py what they are"


def test_every_exception_is_for_a_text_that_the_contract_takes() -> None:
    labels = {text.label for text in texts()}
    assert IN_CLEAR.keys() - {READER} <= labels
    assert NOBODYS.keys() <= labels | {text.field.name for text in texts()}


@pytest.mark.parametrize("make", [word, chinese, order_number, region])
def test_a_value_is_found_in_every_spelling_and_across_pieces_of_a_file(
    make: Callable[[], str], tmp_path: Path
) -> None:
    text = make()
    searcher = Searcher([text, word(), chinese()])
    for spelled in spellings(text):
        assert searcher.found_in(b"\x00 " + spelled + b" \xff") == {text}, spelled
        for place in (PIECE_BYTES - 3, PIECE_BYTES):
            (tmp_path / "file").write_bytes(bytes(place) + spelled)
            assert searcher.found_in_file(tmp_path / "file", PIECE_BYTES) == {text}, spelled
        assert searcher.found_in(spelled[:-1]) == set()
    assert searcher.found_below(tmp_path) == {"file": {text}}


def test_a_region_is_found_alone_and_not_within_a_longer_number() -> None:
    searcher = Searcher(["991234"])
    assert searcher.found_in(b'"region": 991234,') == {"991234"}
    for longer in (b"1991234", b"9912345", b"12:00:07.991234+00:00"):
        assert searcher.found_in(longer) == set()


def test_every_sensitive_text_was_taken_and_what_is_kept_in_clear_is_found(found: Found) -> None:
    planted = found.evidence.planted
    sensitive = {text.label for text in texts() if is_sensitive(text.field)}
    assert {at for at in sensitive if not planted.taken_in(at)} == NEVER_SENT.keys()
    for at, kept in IN_CLEAR.items():
        for place in kept.places - {"log"}:
            assert found.places[place] & set(planted.taken_in(at)), f"{at} is not in {place}"
    assert found.places["log"] & set(planted.taken_in(READER))
    repeated = [found.searcher.found_in(error.content) for error in found.evidence.errors]
    assert any(found.fields(text) == {MISPLACED} for texts_ in repeated for text in texts_)
    assert any(b"REASON_INTERNAL" in error.content for error in found.evidence.errors)


def test_no_log_line_holds_what_a_person_entered(found: Found) -> None:
    assert not (leaks := found.leaks("log")), told(leaks)


def test_no_table_holds_what_a_person_entered(found: Found) -> None:
    assert not (leaks := found.leaks("identity.", "activity.", "calculation.", "settlement.")), (
        told(leaks)
    )


def test_no_feed_holds_what_a_person_entered(found: Found) -> None:
    heard = {
        said.method.rpartition("/")[2] for said in found.evidence.answers if "/Watch" in said.method
    }
    assert {"WatchAccounts", "WatchActivities", "WatchAssessments", "WatchTransfers"} <= heard
    assert not (leaks := found.leaks("feed")), told(leaks)


def test_no_file_on_the_disk_holds_what_a_person_entered(found: Found) -> None:
    assert not (leaks := found.leaks("file", "database files")), told(leaks)


def test_no_crash_leaves_the_memory_of_a_service_in_a_file(found: Found) -> None:
    assert found.cores == []


def test_no_refusal_repeats_what_a_person_entered(found: Found) -> None:
    repeated = {
        f"{error.method} repeats {', '.join(sorted(found.fields(text)))}"
        for error in found.evidence.errors
        for text in found.searcher.found_in(error.content)
        if not found.fields(text) <= {MISPLACED, "Open.lane"}
    }
    assert not repeated, told(repeated)


def test_no_bad_input_is_a_fault_of_ours(found: Found) -> None:
    faults = {
        error.method
        for error in found.evidence.errors
        if error.who == MISUSER and b"REASON_INTERNAL" in error.content
    }
    assert not faults, told(faults)


def test_nobody_but_the_holder_is_shown_it_without_saying_why(found: Found) -> None:
    shown = {
        f"{said.method} shows {said.who} {', '.join(sorted(value.fields))} ({value.text!r})"
        for said in found.evidence.answers
        for text in found.searcher.found_in(said.content)
        if not may_see(said, value := found.evidence.planted.values[text])
    }
    assert not shown, told(shown)


def may_see(said: Said, value: Value) -> bool:
    """Whether an answer may hold a value: the holder's own; staff's words; a logged read; the
    name of a household, for its members."""
    if said.who in value.owners:
        return True
    if value.fields & IN_CLEAR.keys():
        feed = f"feed {said.method.rpartition('/')[2]}"
        kept = any(feed in IN_CLEAR[at].places for at in value.fields & IN_CLEAR.keys())
        return said.kind in READ_WORDS or kept
    if value.fields & HOUSEHOLD:
        return said.who in ("family", "other")
    return bool(value.fields & PERSON) and said.method.endswith(STAFF_READS)


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_number_that_names_a_person_is_refused_and_not_repeated(found: Found, kind: str) -> None:
    answers = [answer for answer in found.numbers if answer.number == NUMBERS[kind]]
    assert {answer.field for answer in answers} == {answer.field for answer in found.numbers}
    taken = {answer.field for answer in answers if answer.reason != "FIELD_INVALID"}
    assert not taken, told(taken)
    assert not [answer for answer in answers if answer.number in answer.message]


def test_an_order_number_of_twelve_digits_is_taken(found: Found) -> None:
    answers = [answer for answer in found.numbers if answer.number not in NUMBERS.values()]
    assert {answer.field for answer in answers} == {answer.field for answer in found.numbers}
    # Taken as the name of a user, who is bound to nobody yet.
    assert {answer.field: answer.reason for answer in answers if answer.reason} == {
        "ActivityReport.subject": "SUBJECT_NOT_BOUND"
    }
