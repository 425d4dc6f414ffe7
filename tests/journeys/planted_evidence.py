"""The whole story of the planted values, and everything that was found of them afterwards."""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from services.launch.clients import Clients
from services.launch.layout import SERVICES, Layout
from services.launch.people import People
from services.launch.supervisor import Supervisor
from shared.personal import looks_personal
from shared.storage.embedded import EmbeddedPostgres
from tests.journeys.planted_acts import act, copy, end, follow, look_up, suspend, withdraw
from tests.journeys.planted_calls import Cast, Evidence, Said
from tests.journeys.planted_faults import crash, lose_the_database, meet_incidents
from tests.journeys.planted_fields import IN_CLEAR
from tests.journeys.planted_misuse import MISPLACED, MISUSER, Misuser
from tests.journeys.planted_numbers import Answer, answers_to_numbers
from tests.journeys.planted_people import FINANCE, TRAVEL, Person, everybody
from tests.journeys.planted_search import Searcher, tables
from tests.journeys.planted_suite import SETTINGS, checkpoint, core_files, talkative_suite

_SHOWN = 400


@dataclass
class Found:
    """The texts that were found, by place, and an example of a log line for each."""

    evidence: Evidence
    searcher: Searcher
    places: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    lines: dict[str, str] = field(default_factory=dict)
    cores: list[str] = field(default_factory=list)
    numbers: list[Answer] = field(default_factory=list)

    def fields(self, text: str) -> set[str]:
        """Where a text was entered."""
        return self.evidence.planted.values[text].fields

    def leaks(self, *kinds: str) -> list[str]:
        """What stands where it may not, in the places whose names begin so: one example of each."""
        told: dict[str, str] = {}
        for place, texts in sorted(self.places.items()):
            for text in sorted(texts):
                if place.startswith(kinds) and not self._allowed(place, text):
                    what = f"{place} holds {', '.join(sorted(self.fields(text)))}"
                    told.setdefault(what, f"{text!r} {self.lines.get(text, '')}")
        return [f"{what}: {example}" for what, example in told.items()]

    def _allowed(self, place: str, text: str) -> bool:
        # At debug a log shows names as they were sent, whatever somebody typed there.
        if place == "log" and self.fields(text) == {MISPLACED} and looks_personal(text) is None:
            return True
        clear = self.fields(text) & IN_CLEAR.keys()
        return any(place in IN_CLEAR[label].places for label in clear)


def gather(home: Path, var: Path) -> Found:
    """Plays everything on a suite of its own, ends it, and searches what is left."""
    evidence = Evidence()
    dumps: list[tuple[str, bytes]] = []
    with EmbeddedPostgres(home, SETTINGS) as postgres:
        with talkative_suite(postgres, var) as supervisor:
            layout = supervisor.layout
            numbers = asyncio.run(_play(supervisor, postgres, evidence, dumps))
        dumps += _dump(layout)
        checkpoint(postgres)
        found = Found(evidence, Searcher(evidence.planted.values), numbers=numbers)
        for place, rows in dumps:
            found.places[place] |= found.searcher.found_in(rows)
        for core in core_files(var, home):  # what is in them need not be looked at
            found.cores.append(core.name)
            core.unlink()
        _search_files(found, var, home)
    shutil.rmtree(home)
    for said in evidence.answers:
        if said.kind == "service" and "/Watch" in said.method:
            feed = f"feed {said.method.rpartition('/')[2]}"
            found.places[feed] |= found.searcher.found_in(said.content)
    return found


async def _play(
    supervisor: Supervisor,
    postgres: EmbeddedPostgres,
    evidence: Evidence,
    dumps: list[tuple[str, bytes]],
) -> list[Answer]:
    """Everything that happens; what was said to the numbers."""
    cast, clients = Cast(supervisor.layout, evidence), Clients(supervisor.layout)
    people = People(clients)
    try:
        parent, child, other = await everybody(cast, people)
        counted = Person(cast, people, "counted")
        await counted.open(TRAVEL, FINANCE)
        await people.until_known()
        await act(cast, parent)
        await withdraw(cast, other)
        await look_up(cast, parent)
        await suspend(cast, other)
        evidence.answers.append(Said("archive", "customer", parent.who, await copy(parent)))
        numbers = await answers_to_numbers(cast, counted)
        stranger = Person(cast, people, MISUSER)
        await stranger.open()
        await Misuser(cast, stranger).misuse()
        await meet_incidents(cast, other)
        await lose_the_database(cast, other, postgres)
        await crash(cast, other, supervisor)
        await follow(cast)
        dumps += _dump(supervisor.layout)
        await end(parent, child.account)
        await end(parent)
        await follow(cast)
        return numbers
    finally:
        await cast.close()
        await clients.close()


def _dump(layout: Layout) -> list[tuple[str, bytes]]:
    """Every row of the four databases, by service and table."""
    urls = {service: layout.database_url(service) for service in SERVICES}
    return [
        (f"{service}.{table}", rows)
        for service, url in urls.items()
        for table, rows in tables(url or "")
    ]


def _search_files(found: Found, var: Path, home: Path) -> None:
    """Logs line by line, so that a leak can be shown; other files; the database's own."""
    for log in sorted((var / "log").iterdir()):
        for line in log.read_bytes().splitlines():
            for text in found.searcher.found_in(line):
                found.places["log"].add(text)
                found.lines.setdefault(text, f"{log.name}: {line.decode()[:_SHOWN]}")
    for name, texts in found.searcher.found_below(var).items():
        if not name.startswith("log/"):
            found.places[f"file {name}"] |= texts
    for name, texts in found.searcher.found_below(home).items():
        place = "database files" if name.startswith("data/") else f"file {name}"
        found.places[place] |= texts
