"""LIBRARY.md lists what there is, MISSING.md what there is not, and neither lags behind."""

from __future__ import annotations

import re

from services.calculation.domain.methodology import Methodology
from services.calculation.domain.rule import STATUSES
from tests.methodologies.reference import METHODOLOGIES, files_below, library

OVERVIEW = METHODOLOGIES / "LIBRARY.md"
MISSING = METHODOLOGIES / "MISSING.md"


def rows_of(text: str) -> list[list[str]]:
    """The cells of the rows of every table in a page, without heads and rules."""
    lines = re.findall(r"(?m)^\|(.*)\|$", text)
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    heads = [place for place, row in enumerate(rows) if set(row[0]) <= {"-"}]
    return [row for place, row in enumerate(rows) if place not in heads and place + 1 not in heads]


def facts_of(methodology: Methodology) -> list[str]:
    """What its row must say, but for the last cell, which is prose."""
    versions = methodology.versions
    status = max((version.status for version in versions), key=STATUSES.index)
    if any(version.draft for version in versions):
        status += ", draft"
    credits_any = "yes" if any(version.creditable for version in versions) else "no"
    cases = sum(len(version.cases) for version in versions)
    return [methodology.id, versions[0].asset, status, credits_any, str(cases)]


def test_the_overview_lists_exactly_the_files_with_status_asset_and_cases() -> None:
    written = sorted(row[:5] for row in rows_of(OVERVIEW.read_text("utf-8")))
    held = sorted(facts_of(methodology) for methodology in library().methodologies.values())
    lacking = "\n".join(f"| {' | '.join(row)} | ... |" for row in held if row not in written)
    assert written == held, f"write these rows into LIBRARY.md, each with its prose:\n{lacking}"


def test_every_row_says_in_words_what_the_file_prices() -> None:
    rows = rows_of(OVERVIEW.read_text("utf-8"))
    assert all(len(row) == 6 and len(row[5]) > 10 for row in rows)


def test_what_is_missing_has_no_file_and_says_what_was_read_and_what_was_not() -> None:
    rows = rows_of(MISSING.read_text("utf-8"))
    held = set(library().methodologies)
    assert len(rows) >= 20
    assert all(len(row) == 3 and all(row) for row in rows)
    # A row of a part that a file leaves out names the part after a comma.
    assert not [row[0] for row in rows if row[0].split()[0].lower() in held]


def test_numbers_that_conflict_are_in_no_file_and_on_the_list_of_what_is_missing() -> None:
    assert "SH-TRANSPORT-2024" in {row[0].split()[0] for row in rows_of(MISSING.read_text("utf-8"))}
    texts = {
        path: text for path, text in files_below(METHODOLOGIES).items() if path.endswith(".toml")
    }
    assert not [path for path, text in texts.items() if "sh-transport" in text.lower()]
    # Of the two sets that conflict, the baselines: no rule of Shanghai's transport has them.
    assert not [path for path, text in texts.items() if '"0.130"' in text or '"0.106"' in text]


def test_a_draft_says_what_is_missing_and_credits_nothing() -> None:
    versions = [v for m in library().methodologies.values() for v in m.versions]
    drafts = [version for version in versions if version.draft]
    assert {version.name.split("/")[1] for version in drafts} >= {
        "sz-he-2022", "t-csae-235-2021", "t-ccaa-38-2021", "gz-metro-study", "wuhan-wtjh",
        "secondhand-phone", "clothes-bir2008",
    }  # fmt: skip
    assert all(len(version.draft) > 20 for version in drafts)
    assert not any(version.creditable for version in drafts)


def test_what_is_only_in_public_code_and_what_is_an_emission_credits_nothing() -> None:
    versions = [v for m in library().methodologies.values() for v in m.versions]
    of_code = [version for version in versions if version.status == "secondary"]
    assert {v.name.split("/")[1] for v in of_code} >= {"jjj-db11t3043-2024"}
    emissions = [version for version in versions if version.asset == "emission"]
    assert not any(version.creditable for version in (*of_code, *emissions))
    # And its neighbour: what an operator or a re-post published may.
    (shenzhen, *_) = library().methodologies["sz-pt-2021"].versions
    assert shenzhen.creditable


def test_no_value_is_called_official_as_long_as_no_issuing_document_was_read() -> None:
    statuses = {
        row.status
        for methodology in library().methodologies.values()
        for version in methodology.versions
        for factor in version.factors
        for row in (factor.table.rows if factor.table else (factor,))
    }
    assert statuses <= {"reposted", "operator", "secondary", "decision"}
