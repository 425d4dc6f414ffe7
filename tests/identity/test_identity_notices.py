"""A notice with another text: which consents end, when, and whatever workers run beside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg
import pytest
from carbonaccount.identity.v1 import consent_service_pb2 as pb
from carbonaccount.identity.v1.consent_pb2 import Consent, ConsentGrant
from identity_house import (
    READING,
    SCOPES,
    TRAVEL,
    Customer,
    House,
    grant_of,
    served,
    settings_for,
    soon,
)

from services.identity import wiring
from services.identity.domain.scopes import Scope
from services.identity.keeping import Outdated, keep
from services.identity.opening import renew
from services.identity.rpc.desk import Desk
from services.identity.settings import Settings
from services.identity.storage.register import Register
from services.identity.storage.vault import Vault
from services.identity.together import ending_of
from services.identity.upstream.key_management import FileKeyManagement
from shared.clock import now_us
from shared.feed.watch import Signal
from shared.ids import account_id_of
from shared.rpc.paging import PageTokens
from shared.service import load_secret
from shared.storage.engine import Database
from tests.suite import eventually

GRANTED, EXPIRED = Consent.STATE_GRANTED, Consent.STATE_EXPIRED
MORE = "scopes/more-collect"
Catalogue = dict[str, Scope]


def reworded(scope: Scope, words: str) -> Scope:
    return replace(scope, notice_zh=f"【演示文本】{words}", notice_version=words)


NEW: Catalogue = {**SCOPES, READING: reworded(SCOPES[READING], "new")}
WIDER: Catalogue = {
    **SCOPES,
    MORE: replace(reworded(SCOPES[READING], "more"), name=MORE, code=max(
        scope.code for scope in SCOPES.values()
    ) + 1),
}  # fmt: skip


class Releases:
    """Workers of releases with other texts, on one database."""

    def __init__(self, database_url: str, keys_dir: Path, patch: pytest.MonkeyPatch) -> None:
        self._database_url = database_url
        self._keys_dir = keys_dir
        self._patch = patch

    def settings(self) -> Settings:
        return settings_for(self._database_url, self._keys_dir)

    def served(self, scopes: Catalogue, *, kept: bool = True) -> AbstractContextManager[House]:
        """A worker with these texts, `kept` when it does what is done beside calls."""
        self._patch.setattr(wiring, "load_scopes", lambda: scopes)
        self._patch.setattr(wiring, "keep", keep if kept else lambda _desk, _keys: [])
        return served(self.settings())

    def at_desk(self, scopes: Catalogue, story: Callable[[Desk], Awaitable[None]]) -> None:
        """Tells a story with the desk of a worker with these texts that serves nobody."""
        settings = self.settings()

        async def tell() -> None:
            secret = load_secret(settings.keys_dir, "identity")
            vault = Vault(FileKeyManagement(settings.keys_dir / "wrapping"), settings.cipher)
            with (
                closing(Database(settings.database_url)) as database,
                closing(Database(settings.database_url, look_ups=True)) as reads,
            ):
                desk = Desk(
                    database=database, reads=reads, register=partial(Register, vault=vault),
                    ending=lambda register: ending_of(register, desk), scopes=scopes,
                    secret=secret, page_tokens=PageTokens(secret), signal=Signal(), clock=now_us,
                )  # fmt: skip
                await story(desk)

        asyncio.run(tell())

    def sql(self, statement: str) -> None:
        with psycopg.connect(self._database_url.replace("+psycopg", "")) as connection:
            connection.execute(statement)


@pytest.fixture
def releases(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Releases:
    """The shipped texts were the first."""
    releases = Releases(database_url, tmp_path, monkeypatch)
    with releases.served(SCOPES, kept=False):
        return releases


def reader(house: House, scopes: Catalogue = SCOPES, scope: str = READING) -> Customer:
    """A customer who agrees to what this worker shows."""
    person = house.customer()
    digest = scopes[scope].notice_digest
    person.open(grant_of(TRAVEL), ConsentGrant(scope=scope, notice_digest=digest))
    return person


def state(house: House, person: Customer) -> Consent.State.ValueType:
    """How the consent to reading stands at this worker; that to travel stands throughout."""
    states = {c.scope: c.state for c in house.customer_like(person).consents()}
    assert states[TRAVEL] == GRANTED
    return states[READING]


def covers(house: House, person: Customer) -> bool:
    """What a service is told that asks this worker."""
    check = pb.BatchCheckConsentsRequest.Check(
        account=person.account, scope=READING, occur_time=soon(0)
    )
    asked = pb.BatchCheckConsentsRequest(checks=[check])
    answer = house.consents.BatchCheckConsents(asked, **house.service)
    return bool(answer.answers[0].consent)


def test_a_text_that_comes_back_ends_what_was_agreed_to_while_it_was_away(
    releases: Releases,
) -> None:
    with releases.served(NEW, kept=False):
        pass
    with releases.served(SCOPES, kept=False) as rolled_back:
        person = reader(rolled_back)
        assert covers(rolled_back, person)
    with releases.served(NEW, kept=False) as again:
        assert not covers(again, person)
        assert state(again, person) == EXPIRED


def test_what_was_agreed_to_before_a_roll_back_stands_through_it(releases: Releases) -> None:
    with releases.served(NEW) as house:
        person = reader(house, NEW)
    for scopes in (SCOPES, NEW):
        with releases.served(scopes) as house:
            assert state(house, person) == GRANTED


def test_texts_that_a_release_before_settled_side_by_side_are_looked_at_again(
    releases: Releases,
) -> None:
    with releases.served(NEW, kept=False):
        pass
    with releases.served(SCOPES, kept=False) as house:
        person = reader(house)
    releases.sql("update notice set settled = true")
    with releases.served(NEW, kept=False) as house:
        assert state(house, person) == EXPIRED


def test_what_a_worker_of_the_release_before_writes_meanwhile_ends_beside_calls(
    releases: Releases,
) -> None:
    with releases.served(SCOPES) as old:
        before = reader(old)
        with releases.served(NEW) as new:
            assert state(new, before) == EXPIRED
            after, renewed = reader(old), reader(new, NEW)
            assert eventually(lambda: not covers(new, after))
            assert state(new, after) == EXPIRED
            assert not covers(old, after)
            assert state(old, renewed) == GRANTED, "whoever read the new text is not asked again"


def test_what_it_writes_while_no_worker_of_the_new_release_runs_ends_too(
    releases: Releases,
) -> None:
    with releases.served(SCOPES) as old:
        with releases.served(NEW):
            pass
        person = reader(old)
        with releases.served(NEW) as new:
            assert eventually(lambda: not covers(new, person))


def test_after_the_first_look_the_feed_says_whose_consents_are_looked_at(
    releases: Releases,
) -> None:
    async def story(desk: Desk) -> None:
        outdated, early = Outdated(desk), reader(old)
        assert await outdated.end_some() == 1, "the first look is at all"
        assert await outdated.end_some() == 0
        assert await outdated.end_some() == 0
        late = [reader(old) for _ in range(3)]
        old.customer().open(grant_of(TRAVEL))
        assert await outdated.end_some() == 3
        assert await outdated.end_some() == 0
        assert {state(old, person) for person in (early, *late)} == {EXPIRED}

    with releases.served(NEW):
        pass
    with releases.served(SCOPES) as old:
        releases.at_desk(NEW, story)


def test_a_worker_of_the_release_before_ends_nothing_that_only_the_new_one_offers(
    releases: Releases,
) -> None:
    async def story(desk: Desk) -> None:
        outdated, people = Outdated(desk), []
        for house, scopes, scope in ((new, NEW, READING), (wider, WIDER, MORE)):
            people.append(reader(house, scopes, scope))
            assert await outdated.end_some() == 0
            account_id = account_id_of(people[-1].account)
            assert await desk.change(partial(renew, desk, account_id)) == 0

    with releases.served(NEW) as new, releases.served(WIDER) as wider:
        releases.at_desk(SCOPES, story)
