"""What a library credits: scene, region, days, version. Two libraries are compared by it.

The past of what credits is a fact like any other: it changes only by a restatement, which says
why. A day that has begun is past, because acts of it are credited already. What lies ahead may
change freely.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from services.calculation.domain.faults import LibraryFault
from services.calculation.domain.library import changed_versions
from services.calculation.domain.methodology import Library, Programme
from services.calculation.domain.reading import read_toml
from shared.ids import day_to_date

OPEN = 2**31 - 1
"""The day on which something ends that has no end yet."""


@dataclass(frozen=True, order=True)
class Line:
    """From `from_day` until before `to_day` that version credits that scene in that region."""

    scene: str
    region_prefix: str
    from_day: int
    to_day: int
    version: str
    digest: str
    scene_approval: str


def selection_of(programme: Programme) -> list[Line]:
    """Everything that a programme credits, in order."""
    return sorted(
        Line(
            entry.scene,
            entry.region_prefix,
            max(entry.from_day, version.effective_day),
            min(
                OPEN if entry.to_day is None else entry.to_day,
                OPEN if version.end_day is None else version.end_day,
            ),
            version.name,
            version.digest,
            entry.scene_approval,
        )
        for entry in programme.entries
        for version in entry.methodology.versions
        if entry.scene in version.scenes and version.creditable and entry.meets(version)
    )


def as_rows(lines: Iterable[Line]) -> list[dict[str, object]]:
    """Lines as plain rows, to be kept."""
    return [asdict(line) for line in lines]


def past_changes(
    before: Sequence[Line], after: Sequence[Line], today: int
) -> tuple[list[str], int | None]:
    """What of the days up to `today` differs, in sentences, and the first day that does."""
    gone, come = _without(before, after, today), _without(after, before, today)
    said = [f"{_told(line)} no longer" for line in gone] + [_told(line) for line in come]
    days = [line.from_day for line in (*gone, *come)]
    return said, min(days, default=None)


def _without(lines: Iterable[Line], others: Sequence[Line], today: int) -> list[Line]:
    """The days up to `today` of each of `lines` on which none of `others` says the same."""
    left: list[Line] = []
    for line in sorted(lines):
        day, end = line.from_day, min(line.to_day, today + 1)
        same = [other for other in others if _place(other) == _place(line)]
        for other in sorted(same, key=lambda other: other.from_day):
            if day < min(other.from_day, end):
                left.append(replace(line, from_day=day, to_day=min(other.from_day, end)))
            day = max(day, other.to_day)
        if day < end:
            left.append(replace(line, from_day=day, to_day=end))
    return left


def _place(line: Line) -> tuple[str, ...]:
    return line.scene, line.region_prefix, line.version, line.digest, line.scene_approval


def _told(line: Line) -> str:
    first, last = day_to_date(line.from_day), day_to_date(line.to_day - 1)
    region = line.region_prefix.ljust(6, "0") if line.region_prefix else "every region"
    return f"{line.version} credits {line.scene} in {region} from {first} to {last}"


def in_force(library: Library, today: int) -> dict[str, str]:
    """Digest by name of every version that is or was in force; their text never changes."""
    return {
        version.name: version.digest
        for methodology in library.methodologies.values()
        for version in methodology.versions
        if not version.draft and version.effective_day <= today
    }


def facts_changed(
    library: Library, sealed: Iterable[tuple[str, str]], texts: Mapping[str, str]
) -> list[LibraryFault]:
    """A fault for each version (name, digest) that was in force and is not what it was.

    `texts` are files of the library by path; a fault is placed in the one that is at fault.
    """
    return [
        LibraryFault(*_place_of(name, texts), said)
        for name, digest in sorted(sealed)
        for said in changed_versions(library, [(name, digest)])
    ]


def _place_of(name: str, texts: Mapping[str, str]) -> tuple[str, int, int]:
    """File, line and column of the version methodologies/{id}/versions/{id}."""
    _, methodology, _, identity = name.split("/")
    path = f"{methodology}.toml"
    if path in texts:
        for row in read_toml(texts[path]).sections("version"):
            if row.table.get("id") == identity:
                return path, *row.place("id")
    return path, 1, 1
