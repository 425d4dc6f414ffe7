"""The catalogue of scopes: what it offers, how strictly it is read, what is remembered of it."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from carbonaccount.identity.v1 import consent_pb2
from carbonaccount.type.v1 import category_pb2

import services
from services.identity.domain.scopes import (
    CATEGORIES,
    PURPOSES,
    Scope,
    read_scopes,
    scope_of,
    words_of,
)
from services.identity.domain.strict_rows import ScopesInvalid
from services.identity.storage.notices import (
    NOTICE_SCHEMA,
    read_notices,
    remember_notices,
    standing,
)
from shared.settings import StartRefused
from shared.storage.engine import Database

SERVICES = Path(services.__path__[0])
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
DATA = tomllib.loads((SERVICES / "identity" / "catalogue" / "scopes.toml").read_text("utf-8"))
SHIPPED = read_scopes(DATA)
TRAVEL, TRADE, LINK = (
    "scopes/travel-collect",
    "scopes/shenzhen-trade",
    "scopes/bike-demo-link",
)

# The digests of the notices in force: whoever changes a word gives it another version.
IN_FORCE = {
    "scopes/travel-collect": "b3cd23916097bbebf2e8dc836ecb415a473d865f7e0eb4b970b93f4b5724b722",
    "scopes/finance-collect": "c0314dcc18771da09c337afd847b10b3b7b64841a228b7d981ebbbecc89ab0e3",
    "scopes/recycling-collect": "5123bffbe635849825c3e3896e94d0e6724aafe660d53eb0386004e47dd7fba4",
    "scopes/reading-collect": "c93c6bff16cc4a267e87aa008f20db905c2c335dd2e79dcd841f903c2cf333c5",
    "scopes/home-collect": "749e26b6c445fa61666f8cc4e922f2f11c0d4e2cf36379fa06a6daf0eec3090d",
}


def activity_file(name: str) -> dict[str, Any]:
    return tomllib.loads((SERVICES / "activity" / "catalogue" / name).read_text("utf-8"))


def digests(scopes: dict[str, Scope]) -> dict[int, set[bytes]]:
    """By code the digest of each notice."""
    return {scope.code: {scope.notice_digest} for scope in scopes.values()}


def row(data: dict[str, Any], name: str) -> dict[str, Any]:
    """The row of a scope in a catalogue to be changed."""
    return next(entry for entry in data["scope"] if entry["name"] == name)


def refused(change: Callable[[dict[str, Any]], object], *words: str) -> None:
    """Holds that the shipped catalogue with this change is refused, in these words."""
    data = deepcopy(DATA)
    change(data)
    with pytest.raises(ScopesInvalid) as error:
        read_scopes(data)
    for word in words:
        assert word in str(error.value)


# What is offered


def test_codes_and_names_are_fixed_for_ever() -> None:
    assert {scope.name: scope.code for scope in SHIPPED.values()} == {
        "scopes/travel-collect": 1,
        "scopes/finance-collect": 2,
        "scopes/recycling-collect": 3,
        "scopes/reading-collect": 4,
        "scopes/home-collect": 5,
        "scopes/cards-share": 6,
        "scopes/boards-share": 7,
        "scopes/shenzhen-trade": 8,
        "scopes/household-collect": 9,
        "scopes/bike-demo-link": 10,
        "scopes/metro-demo-link": 11,
        "scopes/mobility-demo-link": 12,
        "scopes/power-demo-link": 13,
        "scopes/recycling-demo-link": 14,
        "scopes/unionpay-low-carbon-link": 15,
    }


def test_the_notices_to_collect_are_those_that_customers_agreed_to() -> None:
    assert {name: SHIPPED[name].notice_digest.hex() for name in IN_FORCE} == IN_FORCE


def test_a_notice_digest_is_of_both_texts_with_a_line_feed_between() -> None:
    for scope in SHIPPED.values():
        words = f"{scope.notice_zh}\n{scope.notice_en}".encode()
        assert scope.notice_digest == hashlib.sha256(words).digest()


def test_every_text_says_that_it_is_a_demonstration() -> None:
    for scope in SHIPPED.values():
        mandate = scope.mandate
        for zh, en in [
            (scope.notice_zh, scope.notice_en),
            *([(mandate.text_zh, mandate.text_en)] if mandate else []),
        ]:
            assert zh.startswith("【演示文本】")
            assert en.startswith("[Demonstration text]")


def test_whereabouts_financial_accounts_and_presence_at_home_are_sensitive_and_nothing_else() -> (
    None
):
    assert {name.removeprefix("scopes/") for name, s in SHIPPED.items() if s.sensitive} == {
        "travel-collect",
        "finance-collect",
        "home-collect",
        "bike-demo-link",
        "metro-demo-link",
        "mobility-demo-link",
        "power-demo-link",
    }


def test_every_source_that_names_its_own_users_can_be_linked_and_no_system_of_the_bank() -> None:
    sources = activity_file("sources.toml")["source"]
    own = {source["name"] for source in sources if source["names_riders_by"] == "subject"}
    partners = {scope.partner for scope in SHIPPED.values() if scope.partner}
    assert partners == own | {"partners/unionpay-low-carbon"}


def test_the_consents_that_scenes_ask_for_have_the_codes_of_the_catalogue() -> None:
    codes = activity_file("scenes.toml")["scope_codes"]
    assert codes == {name: SHIPPED[name].code for name in codes}


def test_a_trade_names_its_venue_in_both_parts_and_takes_no_fee() -> None:
    mandate = SHIPPED[TRADE].mandate
    assert mandate is not None
    assert mandate.venue == "深圳排放权交易所"
    assert mandate.venue in SHIPPED[TRADE].recipient
    assert mandate.venue in SHIPPED[TRADE].notice_zh
    assert mandate.fee_ppm == 0


def test_a_mandate_digest_is_of_all_that_the_contract_shows_of_it() -> None:
    mandate = SHIPPED[TRADE].mandate
    assert mandate is not None
    shown = [field.name for field in consent_pb2.Scope.Mandate.DESCRIPTOR.fields]
    shown.remove("mandate_digest")
    terms = {name: getattr(mandate, name) for name in shown}
    text = json.dumps(terms, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert mandate.mandate_digest == hashlib.sha256(text.encode()).digest()
    for name in shown:
        other: Any = 1 if name == "fee_ppm" else "another"
        assert replace(mandate, **{name: other}).mandate_digest != mandate.mandate_digest
    assert replace(mandate, fee_source="law: x").mandate_digest == mandate.mandate_digest


def test_families_and_purposes_are_those_of_the_contract_in_its_order() -> None:
    assert [f"CATEGORY_{name}" for name in CATEGORIES] == category_pb2.Category.keys()
    assert [f"PURPOSE_{name}" for name in PURPOSES] == consent_pb2.Scope.Purpose.keys()[1:]


def test_words_that_went_through_json_are_the_same_scope() -> None:
    for scope in SHIPPED.values():
        assert scope_of(json.loads(json.dumps(words_of(scope)))) == scope


# How it is read


def test_a_catalogue_that_is_no_table_is_refused() -> None:
    with pytest.raises(ScopesInvalid, match="the catalogue"):
        read_scopes([])  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["code", "title_en", "notice_zh", "retention_source", "sensitive"])
def test_a_scope_that_lacks_a_key_is_refused(key: str) -> None:
    refused(lambda data: row(data, TRAVEL).pop(key), "scope 1", f"has no {key}")


def test_keys_that_only_some_scopes_have_may_be_missing() -> None:
    data = deepcopy(DATA)
    del row(data, TRAVEL)["cover_from_earliest"]
    assert read_scopes(data)[TRAVEL].cover_from_earliest is None


def test_a_key_that_no_rule_knows_is_refused() -> None:
    refused(lambda data: row(data, TRAVEL).update(titel="x"), "scope 1 has titel")
    refused(lambda data: data.update(scopes=[]), "the catalogue has scopes")
    refused(lambda data: data["controller"].update(fax="x"), "controller has fax")
    refused(lambda data: row(data, TRADE)["mandate"].update(fee="x"), "mandate of", "has fee")


def test_a_code_may_stand_once_and_not_twice() -> None:
    refused(lambda data: row(data, LINK).update(code=1), TRAVEL, LINK, "share the code 1")


def test_a_name_may_stand_once_and_not_twice() -> None:
    refused(lambda data: row(data, "scopes/home-collect").update(name=TRAVEL), "share the name")


def test_a_partner_has_one_link_and_not_two() -> None:
    refused(
        lambda data: row(data, LINK).update(partner="sources/metro-demo"),
        "share the partner sources/metro-demo",
    )


def test_a_trade_has_a_mandate_and_nothing_else_has_one() -> None:
    mandate = row(DATA, TRADE)["mandate"]
    refused(lambda data: row(data, TRADE).pop("mandate"), TRADE, "without one")
    refused(lambda data: row(data, TRAVEL).update(mandate=mandate), TRAVEL, "COLLECT with one")


def test_a_link_has_a_partner_and_nothing_else_has_one() -> None:
    refused(lambda data: row(data, LINK).pop("partner"), LINK, "LINK without one")
    refused(lambda data: row(data, TRADE).update(partner="partners/x"), TRADE, "TRADE with one")


def test_the_venue_of_a_mandate_is_the_recipient_of_the_data() -> None:
    refused(lambda data: row(data, TRADE)["mandate"].update(venue="上海环境能源交易所"), "venue")


@pytest.mark.parametrize("text", ["", " ", "two\nlines", "bell\a", "\u2028"])
@pytest.mark.parametrize("key", ["notice_zh", "notice_en", "recipient", "notice_version"])
def test_a_text_is_one_line_that_is_not_empty(key: str, text: str) -> None:
    refused(lambda data: row(data, TRAVEL).update({key: text}), "scope 1", key, "one line")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("code", True),
        ("code", "1"),
        ("code", 1.0),
        ("sensitive", 1),
        ("title_zh", 5),
        ("data_kinds_zh", "出行"),
        ("data_kinds_en", ["a", 1, "b"]),
        ("cover_from_earliest", "2026-04-01"),
        ("cover_from_earliest", datetime(2026, 4, 1)),
        ("mandate", "none"),
    ],
)
def test_a_value_of_another_kind_is_refused(key: str, value: object) -> None:
    refused(lambda data: row(data, TRAVEL).update({key: value}), "scope 1", key, "write")


@pytest.mark.parametrize(
    "name", ["travel", "scopes/", "scopes/Travel", "scopes/a--b", "scopes/a b"]
)
def test_a_name_is_lower_case_words_below_scopes(name: str) -> None:
    refused(lambda data: row(data, TRAVEL).update(name=name), "name is", "scopes/travel-collect")


def test_a_name_may_have_64_characters_and_not_one_more() -> None:
    data = deepcopy(DATA)
    row(data, TRAVEL)["name"] = "scopes/" + "a" * 57
    read_scopes(data)
    refused(lambda data: row(data, TRAVEL).update(name="scopes/" + "a" * 58), "64 characters")


@pytest.mark.parametrize("partner", ["bike-demo", "banks/bike", "sources/bike/demo", "sources/"])
def test_a_partner_is_a_source_or_a_partner(partner: str) -> None:
    refused(lambda data: row(data, LINK).update(partner=partner), "partner is", LINK)


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("code", (16, 32_767), (0, 32_768)),
        ("retention_days", (0, 36_525), (-1, 36_526)),
    ],
)
def test_a_number_stays_in_its_range(key: str, good: tuple[int, ...], bad: tuple[int, ...]) -> None:
    for value in good:
        data = deepcopy(DATA)
        row(data, TRAVEL)[key] = value
        assert getattr(read_scopes(data)[TRAVEL], key) == value
    for value in bad:
        refused(lambda data, v=value: row(data, TRAVEL).update({key: v}), key, str(value))


def test_a_fee_is_all_of_it_at_most() -> None:
    data = deepcopy(DATA)
    row(data, TRADE)["mandate"]["fee_ppm"] = 1_000_000
    read_scopes(data)
    refused(lambda data: row(data, TRADE)["mandate"].update(fee_ppm=1_000_001), "fee_ppm")


@pytest.mark.parametrize("word", ["TRAVEL", "GREEN_AIR", ""])
def test_a_family_or_purpose_that_the_contract_does_not_know_is_refused(word: str) -> None:
    refused(lambda data: row(data, TRAVEL).update(category=word), "category")
    refused(lambda data: row(data, TRAVEL).update(purpose=word), "purpose")


def test_a_number_says_where_it_is_from() -> None:
    refused(lambda data: row(data, TRAVEL).update(retention_source="三年"), "decision: ")
    refused(lambda data: row(data, TRADE)["mandate"].update(fee_source="none"), "fee_source")


def test_kinds_of_data_are_named_in_both_languages() -> None:
    refused(lambda data: row(data, TRAVEL)["data_kinds_en"].pop(), "4 and 3 entries")
    refused(
        lambda data: row(data, TRAVEL).update(data_kinds_zh=[], data_kinds_en=[]), "0 and 0 entries"
    )


# What is remembered of it


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    with opened.transaction() as connection:
        connection.execute(sa.text(NOTICE_SCHEMA))
    yield opened
    opened.close()


def changed(name: str, **more: Any) -> dict[str, Scope]:
    """The shipped catalogue with another wording of one scope."""
    return {**SHIPPED, name: replace(SHIPPED[name], **more)}


def start(database: Database, scopes: dict[str, Scope], now: datetime = NOW) -> None:
    with database.transaction() as connection:
        remember_notices(connection, scopes, now)


def start_refused(database: Database, scopes: dict[str, Scope], *words: str) -> None:
    """Holds that nothing is remembered of this catalogue, and in which words."""
    with database.transaction() as connection:
        before = connection.execute(sa.text("select * from notice order by 1, 2")).all()
    with pytest.raises(StartRefused) as error:
        start(database, scopes)
    for word in words:
        assert word in str(error.value)
    with database.transaction() as connection:
        assert connection.execute(sa.text("select * from notice order by 1, 2")).all() == before


SECOND = {
    "notice_zh": "【演示文本】二",
    "notice_en": "[Demonstration text] two",
    "notice_version": "20",
}


def test_a_notice_is_found_by_code_and_digest_as_it_was_worded(database: Database) -> None:
    start(database, SHIPPED)
    old, new = SHIPPED[TRADE], replace(SHIPPED[TRADE], **SECOND)
    start(database, {**SHIPPED, TRADE: new}, NOW + TICK)
    with database.transaction() as connection:
        wanted = [(8, old.notice_digest), (8, new.notice_digest), (8, bytes(32))]
        assert read_notices(connection, wanted) == {wanted[0]: old, wanted[1]: new}
        assert read_notices(connection, []) == {}


def test_a_second_start_changes_nothing(database: Database) -> None:
    start(database, SHIPPED)
    start(database, SHIPPED, NOW + TICK)
    with database.transaction() as connection:
        times = connection.execute(sa.text("select distinct first_time from notice")).all()
        assert [row.first_time for row in times] == [NOW]
        assert standing(connection, SHIPPED) == digests(SHIPPED)


def test_a_new_text_with_a_new_version_supersedes_the_old_one(database: Database) -> None:
    start(database, SHIPPED)
    new = changed(TRAVEL, **SECOND)
    start(database, new, NOW + TICK)
    with database.transaction() as connection:
        assert standing(connection, new) == digests(new)


def test_the_third_text_supersedes_both_before(database: Database) -> None:
    start(database, SHIPPED)
    second = changed(TRAVEL, **SECOND)
    third = changed(TRAVEL, **{**SECOND, "notice_en": "three", "notice_version": "3"})
    start(database, second, NOW + TICK)
    start(database, third, NOW + 2 * TICK)
    with database.transaction() as connection:
        assert standing(connection, third) == digests(third)


def test_for_a_worker_of_the_release_before_the_newer_text_stands_too(database: Database) -> None:
    start(database, SHIPPED)
    newer = changed(TRAVEL, **SECOND)
    start(database, newer, NOW + TICK)
    start(database, SHIPPED, NOW + 2 * TICK)
    both = {**digests(SHIPPED), 1: {SHIPPED[TRAVEL].notice_digest, newer[TRAVEL].notice_digest}}
    with database.transaction() as connection:
        assert standing(connection, SHIPPED) == both


def test_a_new_text_is_the_later_one_also_where_the_clock_is_behind(database: Database) -> None:
    start(database, SHIPPED)
    new = changed(TRAVEL, **SECOND)
    start(database, new, NOW - timedelta(hours=1))
    with database.transaction() as connection:
        assert standing(connection, new) == digests(new)


def test_another_text_under_the_same_version_is_refused(database: Database) -> None:
    start(database, SHIPPED)
    new = {**SECOND, "notice_version": SHIPPED[TRAVEL].notice_version}
    start_refused(database, changed(TRAVEL, **new), TRAVEL, "still version", "a version of its own")


def test_the_same_text_under_another_version_is_refused(database: Database) -> None:
    start(database, SHIPPED)
    start_refused(database, changed(TRAVEL, notice_version="9"), TRAVEL, "notice_version")


@pytest.mark.parametrize(
    "change",
    [
        {"retention_days": 1},
        {"recipient": "another"},
        {"data_kinds_en": ("a", "b", "c")},
        {"sensitive": False},
        {"cover_from_earliest": None},
        {"controller": replace(SHIPPED[TRAVEL].controller, contact="another")},
    ],
)
def test_nothing_that_a_receipt_quotes_changes_under_one_text(
    database: Database, change: dict[str, Any]
) -> None:
    start(database, SHIPPED)
    start_refused(database, changed(TRAVEL, **change), TRAVEL, *change, "another notice text")


def test_a_mandate_changes_only_with_its_notice(database: Database) -> None:
    start(database, SHIPPED)
    mandate = SHIPPED[TRADE].mandate
    assert mandate is not None
    dearer = replace(mandate, fee_ppm=1)
    start_refused(database, changed(TRADE, mandate=dearer), TRADE, "mandate")
    start(database, changed(TRADE, mandate=dearer, **SECOND), NOW + TICK)


def test_a_scope_that_was_offered_stays_under_its_name_and_code(database: Database) -> None:
    start(database, SHIPPED)
    fewer = {name: scope for name, scope in SHIPPED.items() if name != LINK}
    start_refused(database, fewer, LINK, "code 10", "put it back")
    renamed = {**fewer, "scopes/b-link": replace(SHIPPED[LINK], name="scopes/b-link", **SECOND)}
    start_refused(database, renamed, LINK, "code 10")


def test_of_two_workers_with_different_texts_of_one_version_one_is_refused(
    database: Database,
) -> None:
    def outcome(scopes: dict[str, Scope]) -> str:
        try:
            start(database, scopes)
        except StartRefused:
            return "refused"
        return "started"

    other = changed(TRAVEL, **{**SECOND, "notice_version": SHIPPED[TRAVEL].notice_version})
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(outcome, [SHIPPED, other, SHIPPED, other]))
    assert sorted(outcomes) == ["refused", "refused", "started", "started"]
